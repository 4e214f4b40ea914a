//! Free ports of the loopback address.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below those that systems give to outgoing connections, one of which could take the port of a
/// server that is down for a moment.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that nobody listens on. Someone may, before its server does.
pub fn free_port() -> io::Result<u16> {
    // By chance, since tests ask for some at the same time.
    let begin = u16::try_from(RandomState::new().hash_one(()) % u64::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|n| FIRST + (begin + n) % COUNT)
        .find(|port| is_free(*port))
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))
}

pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
