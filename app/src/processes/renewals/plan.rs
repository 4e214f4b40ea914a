//! What is to happen of subscriptions, and what of it goes into the log together.

use std::collections::HashMap;

use domain::subscription::{self, Contract, Event};
use domain::token_account::Movement;
use event_store::{StreamId, Version};
use projections::subscriptions::DueRow;

/// How many commands one append carries out at most, but for those of one subscription.
const TOGETHER: usize = 256;

/// What is to happen of a subscription, as decided at a version.
pub(super) struct Plan {
    /// The row by which it was found.
    pub(super) row: DueRow,
    pub(super) stream: StreamId,
    pub(super) version: Version,
    pub(super) customer: String,
    /// The tokens that it brings.
    pub(super) allocations: Vec<Movement>,
}

impl Plan {
    pub(super) fn new(
        row: DueRow,
        stream: StreamId,
        version: Version,
        contract: &Contract,
        events: &[Event],
    ) -> Self {
        let allocations = subscription::allocations(contract.id, &contract.customer_id, events);
        let customer = contract.customer_id.as_str().to_owned();
        Self { row, stream, version, customer, allocations }
    }

    fn commands(&self) -> usize {
        1 + self.allocations.len()
    }
}

/// Appends that follow each other.
pub(super) struct Line {
    /// Whose account they move, if they do.
    pub(super) account: Option<String>,
    pub(super) appends: Vec<Vec<Plan>>,
}

/// Lines may go side by side.
#[derive(Default)]
pub(super) struct Lines {
    alone: Vec<Plan>,
    /// Those that move tokens, by customer: all move one account.
    by_customer: HashMap<String, Vec<Vec<Plan>>>,
}

impl Lines {
    pub(super) fn add(&mut self, plan: Plan) {
        if plan.allocations.is_empty() {
            self.alone.push(plan);
            return;
        }
        let line = self.by_customer.entry(plan.customer.clone()).or_default();
        match line.last_mut() {
            Some(plans) if plans.iter().chain([&plan]).map(Plan::commands).sum::<usize>() <= TOGETHER => {
                plans.push(plan);
            }
            Some(_) | None => line.push(vec![plan]),
        }
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Line> {
        let of_account = |(customer, appends)| Line { account: Some(customer), appends };
        let alone = |plan| Line { account: None, appends: vec![vec![plan]] };
        self.by_customer.into_iter().map(of_account).chain(self.alone.into_iter().map(alone))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::ids::CustomerId;
    use domain::token_account::Amount;
    use sqlx::types::Uuid;

    use super::*;

    fn plan(customer: &str, allocations: usize) -> Plan {
        let movement = Movement {
            customer_id: CustomerId::parse(customer).unwrap(),
            amount: Amount::parse(1).unwrap(),
            reason: None,
            service: None,
            request_id: None,
            subscription_id: None,
        };
        Plan {
            row: DueRow { subscription_id: Uuid::nil(), due_at: DateTime::UNIX_EPOCH, version: 1 },
            stream: StreamId::new("subscription", "x"),
            version: 1,
            customer: customer.to_owned(),
            allocations: vec![movement; allocations],
        }
    }

    #[test]
    fn what_moves_one_account_goes_together_and_the_rest_alone() {
        let mut lines = Lines::default();
        for _ in 0..200 {
            lines.add(plan("a", 1));
        }
        lines.add(plan("b", 1_000));
        for _ in 0..3 {
            lines.add(plan("a", 0));
        }
        let mut sizes: Vec<Vec<usize>> =
            lines.into_iter().map(|line| line.appends.iter().map(Vec::len).collect()).collect();
        sizes.sort();
        assert_eq!(sizes, [vec![1], vec![1], vec![1], vec![1], vec![128, 72]]);
    }
}
