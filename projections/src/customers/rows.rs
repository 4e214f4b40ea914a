//! The rows of customers.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::customer::{Account, Customer, Event, NewCustomer, PaymentMethod, Status};
use domain::values::Object;
use event_store::{Loaded, Position, Recorded};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{go_on, ids, unreadable};
use crate::table::ApplyError;

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields of `domain::customer::Account`")]
pub struct CustomerRow {
    pub id: String,
    pub customer_type: String,
    pub name: String,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
    pub city: Option<String>,
    pub country: Option<String>,
    pub tax_id: Option<String>,
    pub billing_info: Option<Value>,
    pub payment_method: Option<Value>,
    pub preferences: Option<Value>,
    pub profile: Option<Value>,
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// The version of the customer's stream.
    pub version: i32,
}

impl CustomerRow {
    /// The row of a customer as the log has it; nothing of one that does not live.
    #[must_use]
    pub fn of(customer: &Loaded<Customer>) -> Option<Self> {
        let Account {
            id,
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
            status,
            // Each has a row of its own.
            subscriptions: _,
        } = customer.state.living()?;
        Some(Self {
            id: id.as_str().to_owned(),
            customer_type: customer_type.as_str().to_owned(),
            name: name.as_str().to_owned(),
            email: email.as_ref().map(|v| v.as_str().to_owned()),
            phone: phone.as_ref().map(|v| v.as_str().to_owned()),
            address: address.as_ref().map(|v| v.as_str().to_owned()),
            city: city.as_ref().map(|v| v.as_str().to_owned()),
            country: country.as_ref().map(|v| v.as_str().to_owned()),
            tax_id: tax_id.as_ref().map(|v| v.as_str().to_owned()),
            billing_info: billing_info.as_ref().map(object),
            payment_method: payment_method.as_ref().map(|v| match v {
                PaymentMethod::Named(name) => name.as_str().into(),
                PaymentMethod::Described(description) => object(description),
            }),
            preferences: preferences.as_ref().map(object),
            profile: profile.as_ref().map(object),
            status: status.as_str().to_owned(),
            created_at: customer.created_at?,
            updated_at: customer.updated_at?,
            version: customer.version,
        })
    }

    /// What the row tells of the customer: all but its subscriptions, which nothing else of it hangs on.
    fn loaded(&self) -> Result<Loaded<Customer>, sqlx::Error> {
        // As an event has them: what was valid once need not be checked again.
        let new: NewCustomer = serde_json::from_value(json!({
            "id": self.id,
            "customerType": self.customer_type,
            "name": self.name,
            "email": self.email,
            "phone": self.phone,
            "address": self.address,
            "city": self.city,
            "country": self.country,
            "taxId": self.tax_id,
            "billingInfo": self.billing_info,
            "paymentMethod": self.payment_method,
            "preferences": self.preferences,
            "profile": self.profile,
        }))
        .map_err(unreadable)?;
        let mut state = Customer::default().evolve(&Event::Created(new.into()));
        if let Customer::Living(account) = &mut state {
            account.status = Status::parse(&self.status).map_err(unreadable)?;
        }
        Ok(Loaded {
            state: Arc::new(state),
            version: self.version,
            position: Position::START,
            created_at: Some(self.created_at),
            updated_at: Some(self.updated_at),
        })
    }
}

fn object<const KIB: usize>(object: &Object<KIB>) -> Value {
    object.as_map().clone().into()
}

/// Writes what the events mean; answers the ids of those that do not live.
pub(super) async fn apply(
    connection: &mut PgConnection,
    events: &[Recorded<Event>],
) -> Result<Vec<String>, ApplyError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_as!(CustomerRow, "SELECT * FROM customers_v1 WHERE id = ANY($1)", &ids(events))
        .fetch_all(&mut *connection)
        .await?;
    let mut customers = BTreeMap::new();
    for row in &rows {
        customers.insert(row.id.clone(), row.loaded()?);
    }
    go_on(&mut customers, events);
    let (mut living, mut gone) = (Vec::new(), Vec::new());
    for (id, customer) in customers {
        match CustomerRow::of(&customer) {
            Some(row) => living.push(row),
            None => gone.push(id),
        }
    }
    if !gone.is_empty() {
        sqlx::query!("DELETE FROM customers_v1 WHERE id = ANY($1)", &gone).execute(&mut *connection).await?;
    }
    put(connection, &living).await?;
    Ok(gone)
}

/// Puts these rows in the place of those with the same ids.
async fn put(connection: &mut PgConnection, rows: &[CustomerRow]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO customers_v1 SELECT * FROM json_populate_recordset(NULL::customers_v1, $1::text::json)
         ON CONFLICT (id) DO UPDATE SET
            customer_type = excluded.customer_type,
            name = excluded.name,
            email = excluded.email,
            phone = excluded.phone,
            address = excluded.address,
            city = excluded.city,
            country = excluded.country,
            tax_id = excluded.tax_id,
            billing_info = excluded.billing_info,
            payment_method = excluded.payment_method,
            preferences = excluded.preferences,
            profile = excluded.profile,
            status = excluded.status,
            created_at = excluded.created_at,
            updated_at = excluded.updated_at,
            version = excluded.version",
        serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use event_store::MIGRATOR;
    use sqlx::PgPool;

    use super::*;

    /// Two rows of a customer that differ in every field.
    fn rows() -> [CustomerRow; 2] {
        [(1, "sme", "pending"), (2, "institution", "validated")].map(|(n, customer_type, status)| {
            let text = |field: &str| Some(format!("{field} {n}"));
            let object = |field: &str| Some(json!({ field: n, "large": 1e22 }));
            let time = DateTime::from_timestamp(n, 0).unwrap();
            CustomerRow {
                id: "c-1".into(),
                customer_type: customer_type.into(),
                name: format!("name {n}"),
                email: text("email"),
                phone: text("phone"),
                address: text("address"),
                city: text("city"),
                country: text("country"),
                tax_id: text("tax_id"),
                billing_info: object("billing_info"),
                payment_method: if n == 1 { Some("mobile_money".into()) } else { object("payment_method") },
                preferences: object("preferences"),
                profile: object("profile"),
                status: status.into(),
                created_at: time,
                updated_at: time,
                version: i32::try_from(n).unwrap(),
            }
        })
    }

    /// The compiler does not see inside the query: a column that is left out there would keep its first value.
    #[sqlx::test(migrator = "MIGRATOR")]
    async fn a_row_is_replaced_in_every_column_and_tells_the_customer(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        for row in rows() {
            put(&mut connection, std::slice::from_ref(&row)).await.unwrap();
            let found = super::super::find(&pool, "c-1").await.unwrap().unwrap();
            assert_eq!(found, row);
            assert_eq!(CustomerRow::of(&found.loaded().unwrap()).unwrap(), row);
        }
    }
}
