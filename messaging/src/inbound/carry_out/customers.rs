//! What other services say and ask of customers, their subscriptions and tokens.

use std::collections::BTreeSet;

use domain::Aggregate;
use domain::customer::{
    Account, AccountingKind, Changes, Command, Customer, Entry as Recorded, Rejection, Status,
};
use domain::ids::CustomerId;
use domain::subscription::{self, Subscription};
use domain::token_account::{self, Movement, TokenAccount};
use domain::values::{Details, Patch, Text};
use event_store::{ClaimValue, StreamId, Undecided, UnitOfWork};
use serde_json::Value;
use uuid::Uuid;

use super::{Done, Stop, customer, refused, stop};
use crate::inbound::accounting::{AccountingRequest, Entry};
use crate::inbound::admin::{Action, AdminAction};
use crate::inbound::customers::{CustomerCreated, changes};
use crate::inbound::portfolio::{PortfolioUpdate, Update};
use crate::inbound::requests::UpdateRequest;
use crate::inbound::{Refused, rights};

/// The customer, if it lives.
pub(super) async fn living(id: &CustomerId, unit: &mut UnitOfWork) -> Result<Option<Account>, Stop> {
    Ok(unit.state::<Customer>(&customer(id)).await?.living().cloned())
}

async fn found(id: &CustomerId, unit: &mut UnitOfWork) -> Result<Account, Stop> {
    living(id, unit).await?.ok_or_else(|| refused(Refused::NOT_FOUND, &Rejection::NotFound))
}

pub(super) async fn created(created: &CustomerCreated, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let id = &created.customer.id;
    match *unit.state::<Customer>(&customer(id)).await? {
        Customer::Unknown => decided(id, Command::Create(created.customer.clone().into()), unit).await,
        Customer::Living(_) | Customer::Deleted => {
            Ok(Done::Skipped { reason: "known customer", warn: false })
        }
    }
}

/// Sets the fields that the sender may set; the others are left out.
pub(super) async fn update(
    update: &UpdateRequest,
    sender: Option<&str>,
    unit: &mut UnitOfWork,
) -> Result<Done, Stop> {
    let allowed = rights::may_update(sender)
        .ok_or_else(|| Refused::forbidden("the sender may change no fields of customers"))?;
    let (changes, left_out) = changes(update.fields.clone(), allowed.fields)?;
    let account = found(&update.customer_id, unit).await?;
    if allowed.only.is_some_and(|only| account.customer_type != only) {
        return Err(Refused::forbidden("the sender may change no customers of this type").into());
    }
    if !left_out.is_empty() {
        tracing::warn!(
            customer.id = update.customer_id.as_str(),
            sender,
            "Left out of an update what its sender may not change: {}",
            left_out.join(", ")
        );
    }
    decided(&update.customer_id, Command::Change(changes.into()), unit).await
}

/// What an administrator decides; what has been decided alike before is skipped.
pub(super) async fn action(action: &AdminAction, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let AdminAction { customer_id: id, admin_id, action } = action;
    if let (Customer::Deleted, Action::Delete) = (&*unit.state::<Customer>(&customer(id)).await?, action) {
        return Ok(Done::HOLDS);
    }
    let account = found(id, unit).await?;
    let admin_id = admin_id.as_str().to_owned();
    let command = match (account.status, action.clone()) {
        (Status::Validated, Action::Validate { .. } | Action::Reactivate { .. })
        | (Status::Suspended, Action::Suspend { .. }) => return Ok(Done::HOLDS),
        (_, Action::Validate { notes }) => Command::Validate { admin_id, notes },
        (_, Action::Suspend { reason }) => Command::Suspend { admin_id, reason },
        (_, Action::Reactivate { notes }) => Command::Reactivate { admin_id, notes },
        (_, Action::Delete) => return delete(id, account.subscriptions, unit).await,
    };
    decided(id, command, unit).await
}

/// Deletes a customer, and with it ends its subscriptions and closes its account of tokens.
async fn delete(id: &CustomerId, subscriptions: BTreeSet<Uuid>, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let stream = |id: &Uuid| StreamId::new(Subscription::CATEGORY, &id.to_string());
    unit.read::<Subscription>(subscriptions.iter().map(stream)).await?;
    let reason = Text::parse("Client supprimé").ok();
    for subscription in subscriptions.iter().map(stream) {
        let state = unit.state::<Subscription>(&subscription).await?;
        if state.is_active() {
            let end = subscription::Command::End { reason: reason.clone() };
            let ended = unit.decide::<Subscription>(&subscription, end).await;
            ended.map_err(|it| stop(it, |rejection| refused(Refused::INVALID_STATE, &rejection)))?;
        }
    }
    let done = decided(id, Command::Delete { subscriptions }, unit).await?;
    let close = token_account::Command::Close(id.clone());
    let closed = unit.decide::<TokenAccount>(&account_of(id), close).await;
    closed.map_err(|it| stop(it, |rejection| refused(Refused::INVALID_STATE, &rejection)))?;
    Ok(done)
}

pub(super) async fn accounting(
    accounting: &AccountingRequest,
    sender: Option<&str>,
    unit: &mut UnitOfWork,
) -> Result<Done, Stop> {
    let AccountingRequest { customer_id: id, entry, request_id } = accounting;
    let (kind, data) = match entry {
        Entry::Billing(billing) => {
            let billing_info = Patch::Set(billing.clone());
            let changes = Changes { billing_info, ..Changes::default() };
            return decided(id, Command::Change(changes.into()), unit).await;
        }
        Entry::Invoice(data) => (AccountingKind::InvoiceRequest, data.clone()),
        Entry::Payment(data) => (AccountingKind::PaymentRecord, data.clone()),
    };
    let service = sender.and_then(|sender| Text::parse(sender).ok());
    let entry = Recorded { kind, data, service, request_id: request_id.clone() };
    decided(id, Command::Record(entry.into()), unit).await
}

/// What the portfolio of the customer's own type knows of it.
pub(super) async fn portfolio(update: &PortfolioUpdate, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let PortfolioUpdate { customer_id: id, customer_type, update } = update;
    let account = found(id, unit).await?;
    if account.customer_type != *customer_type {
        return Err(Refused {
            code: "WRONG_CUSTOMER_TYPE",
            detail: "the customer is of another type".into(),
        }
        .into());
    }
    let command = match update {
        Update::Profile(changes) => Command::Change(changes.clone()),
        Update::Merge(details) => Command::MergeProfile(beside(account.profile.as_ref(), details)?),
    };
    decided(id, command, unit).await
}

/// What is told of a part of the profile, together with what was told of that part before.
fn beside(profile: Option<&Details>, told: &Details) -> Result<Details, Refused> {
    let mut parts = told.as_map().clone();
    for (name, part) in &mut parts {
        let before = profile.and_then(|profile| profile.as_map().get(name)).and_then(Value::as_object);
        if let (Some(part), Some(before)) = (part.as_object_mut(), before) {
            let mut all = before.clone();
            all.append(part);
            all.retain(|_, value| !value.is_null());
            *part = all;
        }
    }
    let too_large = |_| Refused { code: Refused::TOO_LARGE, detail: "the profile would be too large".into() };
    Details::parse(Value::Object(parts)).map_err(too_large)
}

/// Takes tokens of a customer, once for each request.
pub(super) async fn usage(movement: Movement, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    use token_account::Rejection;
    let id = movement.customer_id.clone();
    found(&id, unit).await?;
    let request = movement.request_id.as_ref().map(|request| token_account::request(&id, request));
    let request = request.map(|value| ClaimValue { namespace: token_account::REQUEST, value });
    let command = token_account::Command::Use(movement.into());
    match unit.decide::<TokenAccount>(&account_of(&id), command).await {
        Ok(events) => Ok(Done::by(events)),
        Err(Undecided::Rejected(Rejection::Known)) => Ok(Done::HOLDS),
        // There may be too few by now because it was carried out before.
        Err(Undecided::Rejected(Rejection::NotEnough))
            if let Some(request) = &request
                && unit.is_taken(request).await? =>
        {
            Ok(Done::HOLDS)
        }
        Err(undecided) => Err(stop(undecided, |rejection| {
            let code = match rejection {
                Rejection::NotEnough => "NOT_ENOUGH_TOKENS",
                Rejection::Closed => Refused::NOT_FOUND,
                Rejection::TooMany | Rejection::Known => Refused::INVALID_STATE,
            };
            refused(code, &rejection)
        })),
    }
}

fn account_of(id: &CustomerId) -> StreamId {
    StreamId::new(TokenAccount::CATEGORY, id.as_str())
}

async fn decided(id: &CustomerId, command: Command, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    match unit.decide::<Customer>(&customer(id), command).await {
        Ok(events) => Ok(Done::by(events)),
        Err(Undecided::Rejected(Rejection::Known)) => Ok(Done::HOLDS),
        Err(undecided) => Err(stop(undecided, |rejection| {
            let code = match rejection {
                Rejection::NotFound => Refused::NOT_FOUND,
                Rejection::IdTaken => "ID_TAKEN",
                Rejection::ProfileTooLarge => Refused::TOO_LARGE,
                Rejection::InvalidState
                | Rejection::TooManySubscriptions
                | Rejection::SubscribedMeanwhile
                | Rejection::Known => Refused::INVALID_STATE,
            };
            refused(code, &rejection)
        })),
    }
}
