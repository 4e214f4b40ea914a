//! What the jobs of a batch touch.

use uuid::Uuid;

use super::{HashMap, HashSet};
use crate::act::Lane;
use crate::event::StreamId;
use crate::store::{ClaimValue, Proposal};

/// What two batches at a time must not share.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) streams: HashMap<StreamId, Lane>,
    claims: HashSet<ClaimValue>,
    keys: HashSet<Uuid>,
}

impl Touched {
    pub(super) fn shares(&self, proposal: &Proposal) -> bool {
        proposal.key.is_some_and(|key| self.keys.contains(&key.key))
            || proposal.take.iter().chain(&proposal.release).any(|claim| self.claims.contains(claim))
    }

    pub(super) fn add(&mut self, proposal: &Proposal, lane: Lane) {
        self.claims.extend(proposal.take.iter().chain(&proposal.release).cloned());
        self.keys.extend(proposal.key.map(|key| key.key));
        self.streams.insert(proposal.stream.clone(), lane);
    }
}
