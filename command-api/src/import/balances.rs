//! What customers' token accounts held.

use domain::customer;
use domain::ids::CustomerId;
use domain::token_account::{self, Amount, Command, Event, Movement, REQUEST, Rejection, TokenAccount};
use domain::values::Text;
use event_store::{ClaimValue, Company, Request, StoreError, StreamId, decode};
use serde_json::{Map, Value};

use super::{
    Failure, Importer, Outcome, Unreadable, differing, name_id, refused, rejection, request, unreadable,
};
use crate::customers;
use crate::fields::{Fields, REQUIRED};
use crate::tokens;

/// The request of a customer that counts once, for ever.
const REQUEST_ID: &str = "import-balance";
const REASON: &str = "Reprise du solde";
/// How far into an account the balance that was imported is looked for.
const LOOKED_AT: i32 = 100;

/// What a customer of another service had.
pub(super) struct Incoming {
    id: CustomerId,
    /// [`None`]: nothing.
    balance: Option<Amount>,
}

/// Reads a line.
pub(super) fn read(mut fields: Map<String, Value>) -> Result<Incoming, Unreadable> {
    name_id(&mut fields, &["customerId", "id", "_id"]);
    let mut fields = Fields::of(fields);
    let id = fields.required("customerId", CustomerId::parse);
    let told = id.as_ref().map(CustomerId::to_string);
    let balance = balance(&mut fields);
    match (id, balance) {
        (Some(id), Some(balance)) if fields.wrong.is_empty() => {
            Ok(Incoming { id, balance: Amount::parse(balance).ok() })
        }
        _ => Err(unreadable(told, fields.wrong)),
    }
}

fn balance(fields: &mut Fields) -> Option<u64> {
    const NAME: &str = "balance";
    match fields.take(NAME) {
        None | Some(Value::Null) => fields.refuse(NAME, REQUIRED),
        Some(value) => match value.as_u64() {
            Some(count) if count <= Amount::MAX => Some(count),
            _ => fields.refuse(NAME, format!("entier de 0 à {}", Amount::MAX)),
        },
    }
}

impl Incoming {
    pub(super) fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Importer {
    pub(super) async fn balance(&self, incoming: &Incoming, is_trial: bool) -> Result<Outcome, Failure> {
        let customer = self.customers.current(&customers::stream(&incoming.id)).await?;
        let Some(amount) = incoming.balance else {
            let is_there = customer.state.living().is_some();
            return Ok(if is_there { Outcome::Present } else { told(customer::Rejection::NotFound) });
        };
        if customer.state.living().is_none() {
            return Ok(told(customer::Rejection::NotFound));
        }
        let stream = tokens::stream(&incoming.id);
        let [reason, request_id] = [REASON, REQUEST_ID].map(Text::parse);
        let request_id = request_id.map_err(|it| Failure::Lasting(it.to_string()))?;
        let account = self.token_accounts.current(&stream).await?;
        let is_touched = *account.state != TokenAccount::Untouched;
        if is_touched && self.is_known(&incoming.id, &request_id).await? {
            return self.compared(amount, &stream).await;
        }
        if is_trial {
            return Ok(Outcome::Imported);
        }
        let movement = Movement {
            customer_id: incoming.id.clone(),
            amount,
            reason: reason.ok(),
            service: None,
            request_id: Some(request_id),
            subscription_id: None,
        };
        let request = Request {
            new_stream: !is_touched,
            ..request(stream.clone(), Command::Allocate(movement.into()))
        };
        let there = self.customers.part_of(
            customers::stream(&incoming.id),
            customer,
            customer::Command::Confirm,
            |_| Rejection::Closed,
        );
        let company = Company { before: vec![there], after: Vec::new() };
        match self.token_accounts.execute_with(request, company).await {
            Ok(_) => Ok(Outcome::Imported),
            Err(error) => match rejection(error)? {
                Rejection::Known => self.compared(amount, &stream).await,
                Rejection::Closed => Ok(told(customer::Rejection::NotFound)),
                other @ (Rejection::TooMany | Rejection::NotEnough) => {
                    Ok(refused("balance", other.to_string()))
                }
            },
        }
    }

    async fn is_known(&self, id: &CustomerId, request_id: &Text) -> Result<bool, Failure> {
        let claim = ClaimValue { namespace: REQUEST, value: token_account::request(id, request_id) };
        Ok(self.token_accounts.holder(&claim).await?.is_some())
    }

    /// Whether what was imported earlier was as much.
    async fn compared(&self, amount: Amount, stream: &StreamId) -> Result<Outcome, Failure> {
        for event in self.store.read_stream(stream, 0, LOOKED_AT).await? {
            let event: Event =
                decode(&event.type_name, event.schema_version, &event.data).map_err(StoreError::from)?;
            let imported = event
                .movement()
                .filter(|it| it.request_id.as_ref().is_some_and(|request| request.as_str() == REQUEST_ID));
            if let Some(movement) = imported {
                return Ok(differing([("balance", movement.amount == amount)]));
            }
        }
        Ok(Outcome::Present)
    }
}

fn told(rejection: customer::Rejection) -> Outcome {
    refused("customerId", rejection.to_string())
}
