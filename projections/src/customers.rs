//! Customers as HTTP answers them, with their [`subscriptions`] and [`tokens`]: what lives, and nothing of a
//! customer that is gone.
//!
//! All are kept by one reader, so that they are of one moment: whoever finds a customer finds what it had then.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use domain::Aggregate;
use domain::customer::Customer;
use domain::subscription::Subscription;
use domain::token_account::TokenAccount;
use event_store::{Loaded, Recorded, StoredEvent};
use sqlx::PgConnection;

use crate::table::{ApplyError, Projection, decoded};

mod queries;
mod rows;
pub mod subscriptions;
pub mod tokens;

pub use queries::{Filter, count, find, page};
pub use rows::CustomerRow;

/// The projection.
pub struct Customers;

#[async_trait]
impl Projection for Customers {
    const NAME: &'static str = "customers_v1";
    const TABLES: &'static [&'static str] =
        &["customers_v1", "subscriptions_v1", "token_accounts_v1", "token_entries_v1"];

    async fn apply(connection: &mut PgConnection, events: &[StoredEvent]) -> Result<(), ApplyError> {
        let customers = decoded::<Customer>(events)?;
        let gone = rows::apply(connection, &customers).await?;
        subscriptions::apply(connection, &decoded::<Subscription>(events)?).await?;
        // Behind their own events, whatever their order within an append.
        subscriptions::forget(connection, &gone).await?;
        tokens::apply(connection, &decoded::<TokenAccount>(events)?).await
    }
}

/// The ids of the streams that these events are of, each once.
fn ids<E>(events: &[Recorded<E>]) -> Vec<String> {
    let ids: BTreeSet<&str> = events.iter().map(|event| event.stream.id()).collect();
    ids.into_iter().map(ToOwned::to_owned).collect()
}

/// What further events make of the states that rows tell, by the ids of their streams.
fn go_on<A: Aggregate>(states: &mut BTreeMap<String, Loaded<A>>, events: &[Recorded<A::Event>]) {
    for event in events {
        if !states.contains_key(event.stream.id()) {
            states.insert(event.stream.id().to_owned(), Loaded::default());
        }
        let Some(loaded) = states.get_mut(event.stream.id()) else { continue };
        if event.version <= loaded.version {
            continue;
        }
        loaded.state = Arc::new(Arc::unwrap_or_clone(mem::take(&mut loaded.state)).evolve(&event.event));
        loaded.version = event.version;
        loaded.position = event.position;
        loaded.created_at = loaded.created_at.or(Some(event.recorded_at));
        loaded.updated_at = Some(event.recorded_at);
    }
}

/// A row that does not tell what it was made of.
fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// A number as `PostgreSQL` has it; those of the domain are smaller than its largest.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
