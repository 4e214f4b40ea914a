//! How often one client may ask.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::client::Client;
use crate::error::ApiError;
use crate::paths;

/// Clients are forgotten in one go once there are so many, and twice as many as the last time left.
const FORGET_FROM: usize = 1024;

/// So many requests a second from one client, and as many at once. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct RateLimit(Arc<Shared>);

type Clients =
    RateLimiter<IpAddr, HashMapStateStore<IpAddr>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

struct Shared {
    clients: Clients,
    forget_at: AtomicUsize,
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").finish_non_exhaustive()
    }
}

impl RateLimit {
    /// Allows so many requests a second.
    #[must_use]
    pub fn per_second(requests: NonZeroU32) -> Self {
        let clients =
            RateLimiter::new(Quota::per_second(requests), HashMapStateStore::default(), MonotonicClock);
        Self(Arc::new(Shared { clients, forget_at: AtomicUsize::new(FORGET_FROM) }))
    }

    fn check(&self, client: Client) -> Result<(), ApiError> {
        self.forget();
        self.0.clients.check_key(&key(client.address)).map_err(|until| {
            let wait = until.wait_time_from(MonotonicClock.now());
            ApiError::RateLimited { retry_after: wait.as_secs() + 1 }
        })
    }

    /// Drops those who have not asked for a second: they may ask as often as new ones.
    fn forget(&self) {
        let Shared { clients, forget_at } = &*self.0;
        if clients.len() >= forget_at.load(Ordering::Relaxed) {
            clients.retain_recent();
            clients.shrink_to_fit();
            forget_at.store(FORGET_FROM.max(2 * clients.len()), Ordering::Relaxed);
        }
    }
}

/// Whoever has an address of IPv6 has the whole network of 64 bits.
fn key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Sends away who asks too often; whoever watches the process is always answered.
pub(crate) async fn keep(State(limit): State<Option<RateLimit>>, request: Request, next: Next) -> Response {
    match limit {
        Some(limit) if !paths::is_watching(request.uri().path()) => {
            match limit.check(Client::of(request.extensions())) {
                Ok(()) => next.run(request).await,
                Err(error) => error.into_response(),
            }
        }
        Some(_) | None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(requests: u32) -> RateLimit {
        RateLimit::per_second(NonZeroU32::new(requests).unwrap())
    }

    fn at(address: &str) -> Client {
        Client::new(address.parse().unwrap(), false)
    }

    #[test]
    fn each_client_has_a_share_of_its_own() {
        // So few a second that none comes back during the test.
        let limit = limit(2);
        for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            assert!(limit.check(at(client)).is_ok() && limit.check(at(client)).is_ok());
            let refused = limit.check(at(client)).unwrap_err();
            assert!(matches!(refused, ApiError::RateLimited { retry_after: 1 }), "{refused:?}");
        }
        assert!(limit.check(at("2001:db8::ffff:1")).is_err());
        assert!(limit.check(at("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn clients_are_forgotten() {
        let limit = limit(1_000_000);
        for address in 0..100_000_u32 {
            limit.check(Client::new(std::net::Ipv4Addr::from_bits(address).into(), false)).unwrap();
        }
        assert!(limit.0.clients.len() < 50_000, "{}", limit.0.clients.len());
    }
}
