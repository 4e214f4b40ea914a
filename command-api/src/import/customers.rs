//! Customers.

use std::sync::Arc;

use domain::customer::{Account, Command, Customer, NewCustomer, Rejection, Status};
use domain::ids::CustomerId;
use domain::values::Text;
use event_store::{Company, Loaded, Part};
use serde_json::{Map, Value};

use super::{
    ACTOR, Failure, Importer, Outcome, Unreadable, differing, name_id, refused, rejection, request,
    unreadable,
};
use crate::customers;
use crate::fields::{Fields, set};

/// What the history says of why a customer was suspended by its import.
const SUSPENDED: &str = "Reprise des données";

/// A customer of another service.
pub(super) struct Incoming {
    new: NewCustomer,
    status: Status,
}

/// Reads a line: what `POST /customers` takes, the id and the status.
pub(super) fn read(mut fields: Map<String, Value>) -> Result<Incoming, Unreadable> {
    name_id(&mut fields, &["customerId", "id", "_id"]);
    let mut fields = Fields::of(fields);
    let id = fields.required("customerId", CustomerId::parse);
    let told = id.as_ref().map(CustomerId::to_string);
    let status = set(fields.optional("status", Status::parse)).unwrap_or_default();
    // The rest is looked at even where there is no id: all that is wrong is told at once.
    let id = id.or_else(|| CustomerId::parse("none").ok());
    let new = id.and_then(|id| customers::new_customer(&mut fields, id));
    match new {
        Some(new) if fields.wrong.is_empty() => Ok(Incoming { new, status }),
        _ => Err(unreadable(told, fields.wrong)),
    }
}

impl Incoming {
    pub(super) fn id(&self) -> &str {
        self.new.id.as_str()
    }

    /// What follows the creation.
    fn steps(&self) -> Vec<Command> {
        let admin_id = || ACTOR.to_owned();
        let validate = Command::Validate { admin_id: admin_id(), notes: None };
        let suspend =
            || Text::parse(SUSPENDED).map(|reason| Command::Suspend { admin_id: admin_id(), reason });
        match self.status {
            Status::Pending => vec![],
            Status::Validated => vec![validate],
            Status::Suspended => [validate].into_iter().chain(suspend().ok()).collect(),
        }
    }

    fn compared_to(&self, account: &Account) -> Outcome {
        // Named one by one: a new field that is forgotten here does not compile.
        let NewCustomer {
            id: _,
            customer_type,
            name,
            email,
            phone,
            address,
            city,
            country,
            tax_id,
            billing_info,
            payment_method,
            preferences,
            profile,
        } = &self.new;
        differing([
            ("customerType", *customer_type == account.customer_type),
            ("name", *name == account.name),
            ("email", *email == account.email),
            ("phone", *phone == account.phone),
            ("address", *address == account.address),
            ("city", *city == account.city),
            ("country", *country == account.country),
            ("taxId", *tax_id == account.tax_id),
            ("billingInfo", *billing_info == account.billing_info),
            ("paymentMethod", *payment_method == account.payment_method),
            ("preferences", *preferences == account.preferences),
            ("profile", *profile == account.profile),
            ("status", self.status == account.status),
        ])
    }
}

impl Importer {
    pub(super) async fn customer(&self, incoming: &Incoming, is_trial: bool) -> Result<Outcome, Failure> {
        let stream = customers::stream(&incoming.new.id);
        let mut rejected = None;
        loop {
            let now = self.customers.current(&stream).await?;
            match (&*now.state, rejected) {
                (Customer::Living(account), _) => return Ok(incoming.compared_to(account)),
                (Customer::Deleted, _) => return Ok(Outcome::Different(vec!["deleted"])),
                (Customer::Unknown, Some(rejection)) => return Ok(told(rejection)),
                (Customer::Unknown, None) if is_trial => return Ok(Outcome::Imported),
                (Customer::Unknown, None) => {}
            }
            let nothing = Arc::<Loaded<Customer>>::default();
            let part = |step| self.customers.part_of(stream.clone(), nothing.clone(), step, |it| it);
            let after: Vec<Part<Rejection>> = incoming.steps().into_iter().map(part).collect();
            let request = request(stream.clone(), Command::Create(incoming.new.clone().into()));
            match self.customers.execute_with(request, Company { before: Vec::new(), after }).await {
                Ok(_) => return Ok(Outcome::Imported),
                // Somebody may have been faster, who may be ourselves.
                Err(error) => rejected = Some(rejection(error)?),
            }
        }
    }
}

fn told(rejection: Rejection) -> Outcome {
    refused("customerId", rejection.to_string())
}
