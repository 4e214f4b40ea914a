//! What requests do: each is decided on what the ones before it leave.
//!
//! A request whose effect holds already is skipped, so that it does no harm to send it again. What can't be
//! carried out says why; whoever reads the dead letters can mend it and have it tried again.

mod customers;
mod users;

use std::collections::BTreeSet;

use domain::Aggregate;
use domain::customer::Customer;
use domain::ids::CustomerId;
use domain::user::User;
use event_store::{StoreError, StreamId, Undecided, UnitOfWork};

use super::{Asked, Refused, Request, Source, rights};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It has changed something.
    Applied,
    /// It was a question, and is answered.
    Answered,
    /// There was nothing to do.
    Skipped {
        /// Why.
        reason: &'static str,
        /// Whether somebody should know.
        warn: bool,
    },
}

impl Done {
    pub(super) const HOLDS: Self = Self::Skipped { reason: "holds already", warn: false };
    pub(super) const UNKNOWN_USER: Self = Self::Skipped { reason: "unknown user", warn: true };
    pub(super) const UNKNOWN_CUSTOMER: Self = Self::Skipped { reason: "unknown customer", warn: true };

    pub(super) const fn is_applied(self) -> bool {
        matches!(self, Self::Applied)
    }

    /// By how many events it led to.
    const fn by(events: usize) -> Self {
        if events > 0 { Self::Applied } else { Self::HOLDS }
    }
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) enum Stop {
    /// It can't be.
    Refused(Refused),
    /// Not together with those before it.
    Collides,
    /// Not now.
    Store(StoreError),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What stops a request that was not decided on; a refusal by the rules is for `refuse` to put in words.
fn stop<R>(undecided: Undecided<R>, refuse: impl FnOnce(R) -> Stop) -> Stop {
    match undecided {
        Undecided::Rejected(rejection) => refuse(rejection),
        Undecided::Collides => Stop::Collides,
        Undecided::Store(error) => Stop::Store(error),
    }
}

fn refused(code: &'static str, rejection: &impl std::fmt::Display) -> Stop {
    Stop::Refused(Refused { code, detail: rejection.to_string() })
}

fn user(id: &str) -> StreamId {
    StreamId::new(User::CATEGORY, id)
}

fn customer(id: &CustomerId) -> StreamId {
    StreamId::new(Customer::CATEGORY, id.as_str())
}

/// Carries a request out.
pub(super) async fn carry_out(
    source: Source,
    request: &Request,
    unit: &mut UnitOfWork,
) -> Result<Done, Stop> {
    let sender = request.sender.as_deref();
    if !rights::may_act(sender, source) {
        return Err(Refused::forbidden("the sender has no right to ask this").into());
    }
    match &request.asked {
        Asked::UserCreated(created) => users::created(created, unit).await,
        Asked::UserStatusChanged(changed) => users::status_changed(changed, unit).await,
        Asked::UserRoleChanged(changed) => users::role_changed(changed, unit).await,
        Asked::UserDeleted(deleted) => users::deleted(deleted, unit).await,
        Asked::CustomerCreated(created) => customers::created(created, unit).await,
        // Answered before, or without a place to answer to.
        Asked::DataRequest(_) => Err(Refused::missing("responsePattern").into()),
        Asked::UpdateRequest(update) => customers::update(update, sender, unit).await,
        Asked::AdminAction(action) => customers::action(action, unit).await,
        Asked::AccountingRequest(accounting) => customers::accounting(accounting, sender, unit).await,
        Asked::TokenUsage(usage) => customers::usage(usage.clone().movement(), unit).await,
        Asked::MobileAction(action) => users::mobile(action, unit).await,
        Asked::PortfolioSme(update) | Asked::PortfolioInstitution(update) => {
            customers::portfolio(update, unit).await
        }
    }
}

/// Reads what requests are about, a query for each kind of thing. Who is said to be new is taken to be, if this is
/// the first try: the log knows better.
pub(super) async fn look_up<'a>(
    unit: &mut UnitOfWork,
    requests: impl Iterator<Item = &'a Request>,
    is_first: bool,
) -> Result<(), StoreError> {
    let (mut users, mut customers) = (BTreeSet::new(), BTreeSet::new());
    for request in requests {
        match &request.asked {
            Asked::UserCreated(created) => {
                let stream = user(created.user_id.as_str());
                if is_first {
                    unit.take_for_new::<User>(&stream);
                } else {
                    users.insert(stream);
                }
                let id = created.customer_account_id.as_deref().and_then(|id| CustomerId::parse(id).ok());
                customers.extend(id.as_ref().map(customer));
            }
            Asked::CustomerCreated(created) if is_first => {
                unit.take_for_new::<Customer>(&customer(&created.customer.id));
            }
            Asked::UserStatusChanged(it) => users.extend([user(it.user_id.as_str())]),
            Asked::UserRoleChanged(it) => users.extend([user(it.user_id.as_str())]),
            Asked::UserDeleted(it) => users.extend([user(it.user_id.as_str())]),
            Asked::MobileAction(it) => users.extend([user(it.user_id.as_str())]),
            Asked::CustomerCreated(it) => customers.extend([customer(&it.customer.id)]),
            Asked::UpdateRequest(it) => customers.extend([customer(&it.customer_id)]),
            Asked::AdminAction(it) => customers.extend([customer(&it.customer_id)]),
            Asked::AccountingRequest(it) => customers.extend([customer(&it.customer_id)]),
            Asked::TokenUsage(it) => customers.extend([customer(&it.customer_id)]),
            Asked::PortfolioSme(it) | Asked::PortfolioInstitution(it) => {
                customers.extend([customer(&it.customer_id)]);
            }
            Asked::DataRequest(_) => {}
        }
    }
    unit.read::<User>(users).await?;
    unit.read::<Customer>(customers).await
}
