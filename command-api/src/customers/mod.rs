//! Customers: commands on their streams, queries on their read model.

mod body;
mod commands;
mod fields;
mod queries;
mod schemas;

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use domain::Aggregate;
use domain::customer::{Account, Command, Customer, CustomerType, Rejection};
use domain::ids::CustomerId;
use domain::user::NewUser;
use domain::values::UserType;
use event_store::{Company, IfMatch, Loaded, StreamId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::error::ApiError;

pub(crate) use body::CustomerBody;
pub(crate) use fields::new_customer;
pub(crate) use queries::{ever, found};

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(queries::list, commands::create))
        .routes(routes!(queries::by_id, commands::change, commands::delete))
        .routes(routes!(commands::validate))
        .routes(routes!(commands::suspend))
        .routes(routes!(commands::reactivate))
        .routes(routes!(queries::history))
}

/// The stream of a customer.
pub(crate) fn stream(id: &CustomerId) -> StreamId {
    StreamId::new(Customer::CATEGORY, id.as_str())
}

/// A customer that lives, as the log has it now.
pub(crate) async fn living(api: &Api, id: &CustomerId) -> Result<Arc<Loaded<Customer>>, ApiError> {
    let customer = api.customers.current(&stream(id)).await?;
    customer.state.living().ok_or(ApiError::Customer(Rejection::NotFound))?;
    Ok(customer)
}

/// What is carried out only if there is such a customer.
pub(crate) fn there<R: 'static>(api: &Api, id: &CustomerId, refusal: fn(Rejection) -> R) -> Company<R> {
    let part = api.customers.part(stream(id), Command::Confirm, IfMatch::Any, refusal);
    Company { before: vec![part], after: Vec::new() }
}

/// A new user with what is known of the customer that it names.
pub(crate) async fn joined(api: &Api, user: NewUser) -> Result<NewUser, ApiError> {
    let Some(id) = &user.customer_id else { return Ok(user) };
    let customer = api.customers.current(&stream(id)).await?;
    // Whether it is there decides who creates the user.
    Ok(match customer.state.living() {
        Some(account) => joining(user, account),
        None => user,
    })
}

/// A new user of this customer.
pub(crate) fn joining(user: NewUser, account: &Account) -> NewUser {
    let user_type = user.user_type.unwrap_or(match account.customer_type {
        CustomerType::Sme => UserType::Sme,
        CustomerType::Institution => UserType::FinancialInstitution,
    });
    NewUser { customer_name: Some(account.name.clone()), user_type: Some(user_type), ..user }
}

/// What a path calls a customer.
#[derive(ToSchema)]
#[schema(as = CustomerId, value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._~|@:+-]{0,127}$")]
pub(crate) struct Key(pub(crate) CustomerId);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let id = path.iter().flatten().find(|(parameter, _)| *parameter == "id").map(|(_, id)| id);
        let id = id.and_then(|id| CustomerId::parse(id).ok().filter(|it| it.as_str() == id));
        id.map(Self).ok_or_else(|| ApiError::invalid("id", "identifiant malformé"))
    }
}
