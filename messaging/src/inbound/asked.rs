//! From a message to a request.

use domain::customer::CustomerType;
use domain::values::Text;
use serde_json::{Map, Value};

use super::accounting::AccountingRequest;
use super::admin::AdminAction;
use super::customers::CustomerCreated;
use super::mobile::{self, MobileAction};
use super::portfolio::PortfolioUpdate;
use super::requests::{DataRequest, UpdateRequest};
use super::token_usage::TokenUsage;
use super::users::{UserCreated, UserDeleted, UserRoleChanged, UserStatusChanged};
use super::{Delivered, Refused, Reply, ServiceKeys, Source, envelope, sender};

/// What a message asks for, or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "what `Source` has of the same names")]
pub enum Asked {
    UserCreated(UserCreated),
    UserStatusChanged(UserStatusChanged),
    UserRoleChanged(UserRoleChanged),
    UserDeleted(UserDeleted),
    CustomerCreated(Box<CustomerCreated>),
    DataRequest(DataRequest),
    UpdateRequest(UpdateRequest),
    AdminAction(AdminAction),
    AccountingRequest(AccountingRequest),
    TokenUsage(TokenUsage),
    MobileAction(MobileAction),
    PortfolioSme(PortfolioUpdate),
    PortfolioInstitution(PortfolioUpdate),
}

/// A message that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub asked: Asked,
    /// The service that asks, as far as that is known.
    pub sender: Option<String>,
    /// Why nobody counts as the sender of a request for data: it is answered, and not with data.
    pub unproven: Option<Refused>,
    /// Where the answer goes, if one is waited for.
    pub reply: Option<Reply>,
    /// The user or customer it is about, for a log line.
    pub subject: Option<String>,
    /// The topic as the contract names it.
    pub event_type: &'static str,
    /// What its sender knows it by.
    pub correlation: Option<String>,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

/// What a message is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// We sent it ourselves.
    Own,
    /// Somebody asks.
    Asked(Box<Request>),
}

/// Reads a message.
pub fn read(delivered: &Delivered, keys: &ServiceKeys) -> Result<Read, Refused> {
    if delivered.header("ce_source") == Some("annuaire") {
        return Ok(Read::Own);
    }
    let source = delivered.source;
    let Some(value) = &delivered.value else {
        return Err(Refused::new(Refused::NOT_JSON, "there is no value"));
    };
    let fields = envelope::open(value, source.required())?;
    let (sender, unproven) = match sender(delivered, &fields, keys) {
        Ok(sender) => (sender, None),
        // Whoever asks without a right waits for an answer all the same.
        Err(refused) if source == Source::DataRequest => (None, Some(refused)),
        Err(refused) => return Err(refused),
    };
    let asked = Asked::parse(source, fields)?;
    let subject = asked.subject().to_owned();
    let request_id = asked.request_id();
    let pattern = asked.response_pattern();
    let reply = Reply::of(delivered, pattern, request_id, &subject)?;
    if source == Source::DataRequest && reply.is_none() {
        return Err(Refused::missing("responsePattern"));
    }
    let correlation = correlation(delivered, request_id);
    let traceparent = delivered.word("traceparent").filter(|it| is_traceparent(it)).map(str::to_owned);
    let (subject, event_type) = (Some(subject), source.name());
    let request = Request { asked, sender, unproven, reply, subject, event_type, correlation, traceparent };
    Ok(Read::Asked(Box::new(request)))
}

impl Asked {
    fn parse(source: Source, fields: Map<String, Value>) -> Result<Self, Refused> {
        Ok(match source {
            Source::UserCreated => Self::UserCreated(UserCreated::parse(fields)?),
            Source::UserStatusChanged => Self::UserStatusChanged(UserStatusChanged::parse(fields)?),
            Source::UserRoleChanged => Self::UserRoleChanged(UserRoleChanged::parse(fields)?),
            Source::UserDeleted => Self::UserDeleted(UserDeleted::parse(fields)?),
            Source::CustomerCreated => Self::CustomerCreated(CustomerCreated::parse(fields)?.into()),
            Source::DataRequest => Self::DataRequest(DataRequest::parse(fields)?),
            Source::UpdateRequest => Self::UpdateRequest(UpdateRequest::parse(fields)?),
            Source::AdminAction => Self::AdminAction(AdminAction::parse(fields)?),
            Source::AccountingRequest => Self::AccountingRequest(AccountingRequest::parse(fields)?),
            Source::TokenUsage => Self::TokenUsage(TokenUsage::parse(fields)?),
            Source::MobileAction => Self::MobileAction(MobileAction::parse(fields)?),
            Source::PortfolioSme => Self::PortfolioSme(PortfolioUpdate::parse(fields, CustomerType::Sme)?),
            Source::PortfolioInstitution => {
                Self::PortfolioInstitution(PortfolioUpdate::parse(fields, CustomerType::Institution)?)
            }
        })
    }

    /// The id of the user or customer it is about.
    fn subject(&self) -> &str {
        match self {
            Self::UserCreated(it) => it.user_id.as_str(),
            Self::UserStatusChanged(it) => it.user_id.as_str(),
            Self::UserRoleChanged(it) => it.user_id.as_str(),
            Self::UserDeleted(it) => it.user_id.as_str(),
            Self::CustomerCreated(it) => it.customer.id.as_str(),
            Self::DataRequest(it) => it.entity_id.as_str(),
            Self::UpdateRequest(it) => it.customer_id.as_str(),
            Self::AdminAction(it) => it.customer_id.as_str(),
            Self::AccountingRequest(it) => it.customer_id.as_str(),
            Self::TokenUsage(it) => it.customer_id.as_str(),
            Self::MobileAction(it) => it.user_id.as_str(),
            Self::PortfolioSme(it) | Self::PortfolioInstitution(it) => it.customer_id.as_str(),
        }
    }

    /// What tells the request from others of its sender.
    fn request_id(&self) -> Option<&Text> {
        match self {
            Self::DataRequest(it) => it.request_id.as_ref(),
            Self::UpdateRequest(it) => Some(&it.request_id),
            Self::AccountingRequest(it) => Some(&it.request_id),
            Self::TokenUsage(it) => it.request_id.as_ref(),
            Self::MobileAction(MobileAction { action: mobile::Action::Tokens(movement), .. }) => {
                movement.request_id.as_ref()
            }
            Self::MobileAction(_)
            | Self::UserCreated(_)
            | Self::UserStatusChanged(_)
            | Self::UserRoleChanged(_)
            | Self::UserDeleted(_)
            | Self::CustomerCreated(_)
            | Self::AdminAction(_)
            | Self::PortfolioSme(_)
            | Self::PortfolioInstitution(_) => None,
        }
    }

    fn response_pattern(&self) -> Option<&Text> {
        if let Self::DataRequest(it) = self { it.response_pattern.as_ref() } else { None }
    }
}

/// What the sender knows the message by, if it can be logged.
fn correlation(delivered: &Delivered, request_id: Option<&Text>) -> Option<String> {
    let words =
        [delivered.word("x-request-id"), delivered.word("correlationId"), request_id.map(Text::as_str)];
    let can_be_logged = |it: &&str| it.len() <= 128 && it.bytes().all(|b| b.is_ascii_graphic());
    words.into_iter().flatten().find(can_be_logged).map(str::to_owned)
}

/// Whether this is a `traceparent` of W3C Trace Context, version 00.
fn is_traceparent(value: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |text: &str, len| text.len() == len && is_hex(text) && text.bytes().any(|b| b != b'0');
    let parts: Vec<_> = value.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    version == "00" && is_id(trace, 32) && is_id(parent, 16) && flags.len() == 2 && is_hex(flags)
}

#[cfg(test)]
mod tests;
