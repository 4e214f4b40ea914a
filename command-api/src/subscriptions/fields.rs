//! From a JSON object to a command on a subscription.

use chrono::{DateTime, SubsecRound, Utc};
use domain::ids::CustomerId;
use domain::subscription::{Changes, NewSubscription};
use domain::token_account::Amount;
use domain::values::{Patch, Text};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::ApiError;
use crate::fields::{Fields, REQUIRED, set};

/// The fields that a change may name.
pub(super) const CHANGEABLE: [&str; 5] = ["planId", "startsAt", "endsAt", "autoRenew", "tokensPerPeriod"];

/// Reads the body of a creation; it begins `now` where nothing is said.
pub(super) fn creation(
    fields: Map<String, Value>,
    subscription_id: Uuid,
    customer_id: CustomerId,
    now: DateTime<Utc>,
) -> Result<NewSubscription, ApiError> {
    let mut fields = Fields::of(fields);
    let plan_id = fields.required("planId", Text::parse);
    let starts_at = fields.time("startsAt").unwrap_or(now.trunc_subsecs(3));
    let ends_at = required_time(&mut fields, "endsAt");
    let auto_renew = fields.boolean("autoRenew").unwrap_or_default();
    let tokens_per_period = set(tokens(&mut fields));
    let new = plan_id.zip(ends_at).map(|(plan_id, ends_at)| NewSubscription {
        subscription_id,
        customer_id,
        plan_id,
        starts_at,
        ends_at,
        auto_renew,
        tokens_per_period,
    });
    fields.finish(new)
}

/// Reads the body of a change.
pub(super) fn changes(fields: Map<String, Value>) -> Result<Changes, ApiError> {
    let mut fields = Fields::of(fields);
    fields.expect_one_of(&CHANGEABLE);
    let plan_id = fields.named("planId", Text::parse);
    let [starts_at, ends_at] = ["startsAt", "endsAt"]
        .map(|name| fields.names(name).then(|| required_time(&mut fields, name)).flatten());
    let auto_renew = fields.boolean("autoRenew");
    let tokens_per_period = tokens(&mut fields);
    fields.finish(Some(Changes { plan_id, starts_at, ends_at, auto_renew, tokens_per_period }))
}

/// Reads until when it is renewed.
pub(super) fn renewal(fields: Map<String, Value>) -> Result<Option<DateTime<Utc>>, ApiError> {
    let mut fields = Fields::of(fields);
    let ends_at = fields.time("endsAt");
    fields.finish(Some(ends_at))
}

/// Reads why it is ended.
pub(super) fn reason(fields: Map<String, Value>) -> Result<Option<Text>, ApiError> {
    let mut fields = Fields::of(fields);
    let reason = set(fields.optional("reason", Text::parse));
    fields.finish(Some(reason))
}

fn required_time(fields: &mut Fields, name: &'static str) -> Option<DateTime<Utc>> {
    let wrong = fields.wrong.len();
    let time = fields.time(name);
    if time.is_none() && fields.wrong.len() == wrong {
        return fields.refuse(name, REQUIRED);
    }
    time
}

/// Nought, null and an empty text are none.
fn tokens(fields: &mut Fields) -> Patch<Amount> {
    const NAME: &str = "tokensPerPeriod";
    match fields.take(NAME) {
        None => Patch::Keep,
        Some(Value::Null) => Patch::Clear,
        Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
        Some(value) if value == 0 => Patch::Clear,
        Some(value) => match value.as_u64().and_then(|it| Amount::parse(it).ok()) {
            Some(amount) => Patch::Set(amount),
            None => fields.refuse(NAME, Amount::RULE.to_string()).unwrap_or_default(),
        },
    }
}
