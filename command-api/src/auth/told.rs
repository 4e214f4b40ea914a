//! Telling each client once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// How many are remembered.
const MOST: usize = 1_000;

/// Which clients were told what they lack.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashSet<IpAddr>>);

impl Told {
    pub(super) fn first_time(&self, address: IpAddr) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST {
            told.clear();
        }
        told.insert(address)
    }
}
