//! What events of customers, subscriptions and tokens say to others: a message each on a topic of its own.

use domain::customer::{self, Customer, Deleted};
use domain::subscription::{self, Expired, Subscription};
use domain::token_account;
use event_store::{Recorded, Step};

use crate::payloads::{CustomerEvent, SubscriptionEvent, TokenEvent, TopicEvent};

/// What an event of a customer says to others. Which portfolio service is told depends on what the customer
/// is after the event; after the last one, on what it was.
#[must_use]
pub fn of_customer(step: &Step<Customer>) -> Option<TopicEvent<'_>> {
    use customer::Event;
    let (account, event) = match (&step.recorded.event, &*step.before, &*step.after) {
        (Event::Created(_), _, Customer::Living(account)) => (account, CustomerEvent::created(account)),
        (Event::Changed(changes), _, Customer::Living(account)) => {
            (account, CustomerEvent::updated(account, changes))
        }
        (Event::Validated(validated), Customer::Living(account), _) => {
            (account, CustomerEvent::validated(&account.id, validated))
        }
        (Event::Suspended(suspended), Customer::Living(account), _) => {
            (account, CustomerEvent::suspended(&account.id, suspended))
        }
        (Event::Reactivated(reactivated), Customer::Living(account), _) => {
            (account, CustomerEvent::reactivated(&account.id, reactivated))
        }
        (Event::Deleted(Deleted {}), Customer::Living(account), _) => {
            (account, CustomerEvent::deleted(&account.id))
        }
        // Of a subscription more its own stream tells, of the accounts the service that keeps them; what means
        // nothing to its stream means nothing to others.
        (Event::Subscribed(_) | Event::AccountingRecorded(_), _, _)
        | (Event::Created(_) | Event::Changed(_), _, Customer::Unknown | Customer::Deleted)
        | (
            Event::Validated(_) | Event::Suspended(_) | Event::Reactivated(_) | Event::Deleted(_),
            Customer::Unknown | Customer::Deleted,
            _,
        ) => return None,
    };
    Some(TopicEvent::Customer { customer_type: account.customer_type, event })
}

/// What an event of a subscription says to others: what the subscription is now.
#[must_use]
pub fn of_subscription(step: &Step<Subscription>) -> Option<TopicEvent<'_>> {
    use subscription::Event;
    let now = || step.after.contract().map(Into::into);
    let event = match &step.recorded.event {
        Event::Created(_) => SubscriptionEvent::Created(now()?),
        Event::Changed(_) => SubscriptionEvent::Updated(now()?),
        Event::Renewed(_) => SubscriptionEvent::Renewed(now()?),
        Event::Cancelled(_) => SubscriptionEvent::Cancelled(now()?),
        Event::Expired(Expired {}) => SubscriptionEvent::Expired(now()?),
        // Its tokens tell of it.
        Event::PeriodStarted(_) => return None,
    };
    Some(TopicEvent::Subscription(event))
}

/// What an event of a token account says to others.
#[must_use]
pub fn of_token_account(recorded: &Recorded<token_account::Event>) -> Option<TopicEvent<'_>> {
    use token_account::Event;
    let event = match &recorded.event {
        Event::Purchased(moved) => TokenEvent::Purchased((&**moved).into()),
        Event::Used(moved) => TokenEvent::Used((&**moved).into()),
        Event::Allocated(moved) => TokenEvent::Allocated((&**moved).into()),
        // Its customer's deletion tells of it.
        Event::Closed(_) => return None,
    };
    Some(TopicEvent::Tokens(event))
}
