//! What the accounting service tells of a customer: nothing hangs on it, and each request tells it once.

use serde::{Deserialize, Serialize};

use super::{AccountingRecorded, Rejection};
use crate::aggregate::Claim;
use crate::ids::CustomerId;
use crate::values::{Details, Invalid, Text};

/// The namespace of what tells requests apart: `<customer>/<kind>/<request id>`.
pub const REQUEST: &str = "accounting_request";

/// What tells a request from all others.
#[must_use]
pub fn request(customer: &CustomerId, kind: AccountingKind, id: &Text) -> String {
    format!("{customer}/{}/{}", kind.as_str(), id.as_str())
}

/// What is to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: AccountingKind,
    /// All there is to say of it.
    pub data: Details,
    /// Which service tells it.
    pub service: Option<Text>,
    /// What tells it from others of this customer and kind: each counts once, for ever.
    pub request_id: Text,
}

impl Entry {
    pub(super) fn of(self, customer_id: CustomerId) -> AccountingRecorded {
        let Self { kind, data, service, request_id } = self;
        AccountingRecorded { customer_id, kind, data, service, request_id }
    }
}

impl AccountingRecorded {
    pub(super) fn mark(&self) -> Claim<'_, Rejection> {
        Claim::new(REQUEST, request(&self.customer_id, self.kind, &self.request_id), Rejection::Known)
    }
}

/// What the accounting service tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountingKind {
    /// An invoice was asked for.
    InvoiceRequest,
    /// The customer has paid.
    PaymentRecord,
}

impl AccountingKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::InvoiceRequest, Self::PaymentRecord];

    /// Accepts `invoice_request` and `payment_record`.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == raw.trim())
            .ok_or(Invalid::new("invoice_request ou payment_record"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvoiceRequest => "invoice_request",
            Self::PaymentRecord => "payment_record",
        }
    }
}
