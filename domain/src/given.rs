//! Tests of an aggregate, as sentences: given events, when a command, then what.

use chrono::{DateTime, Utc};

use crate::aggregate::{Aggregate, Claim};

/// An aggregate to which these events happened.
pub(crate) fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    Given { state: events.into_iter().fold(A::default(), |state, event| state.evolve(&event)) }
}

/// A state to ask something of.
pub(crate) struct Given<A> {
    state: A,
}

impl<A: Aggregate> Given<A> {
    /// Asks it.
    pub(crate) fn when(self, command: A::Command) -> When<A> {
        When { outcome: self.state.decide(command, DateTime::<Utc>::UNIX_EPOCH) }
    }

    /// The state itself.
    pub(crate) fn state(self) -> A {
        self.state
    }

    /// Expects exactly these claims, in this order.
    #[track_caller]
    pub(crate) fn then_claims<'a>(self, expected: impl IntoIterator<Item = Claim<'a, A::Rejection>>) {
        assert_eq!(self.state.claims(), Vec::from_iter(expected));
    }
}

/// What the command led to.
pub(crate) struct When<A: Aggregate> {
    outcome: Result<Vec<A::Event>, A::Rejection>,
}

impl<A: Aggregate<Event: PartialEq>> When<A> {
    /// Expects exactly these events.
    #[track_caller]
    pub(crate) fn then_events(self, expected: impl IntoIterator<Item = A::Event>) {
        assert_eq!(self.outcome, Ok(Vec::from_iter(expected)));
    }

    /// Expects exactly this refusal.
    #[track_caller]
    pub(crate) fn then_rejected(self, expected: A::Rejection) {
        assert_eq!(self.outcome, Err(expected));
    }
}
