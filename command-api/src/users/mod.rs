//! Users: commands on their streams, queries on their read model.

mod access;
mod addresses;
mod commands;
mod fields;
mod history;
mod list;
mod profile;
mod queries;
mod register;
mod schemas;

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use domain::user::{LOOKUP, Rejection, User};
use event_store::{ClaimValue, Loaded, StreamId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::error::ApiError;

pub(crate) use commands::{execute, tell};
pub(crate) use fields::new_user;
pub(crate) use profile::{ProfileBody, in_milliseconds};

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(commands::create))
        .routes(routes!(queries::by_name, commands::change, commands::delete))
        .routes(routes!(access::change_status))
        .routes(routes!(access::assign_role, access::remove_role))
        .routes(routes!(addresses::list, addresses::add))
        .routes(routes!(addresses::change, addresses::delete))
        .routes(routes!(history::show))
        .routes(routes!(register::register))
        .routes(routes!(queries::by_matricule))
        .routes(routes!(list::list))
        .routes(routes!(list::list_too))
        .routes(routes!(queries::batch, queries::batch_of_body))
}

/// The living user of a name, and its stream.
pub(crate) async fn living(api: &Api, name: &Name) -> Result<(StreamId, Arc<Loaded<User>>), ApiError> {
    let (stream, user) = ever(api, name).await?;
    match &*user.state {
        User::Living(_) => Ok((stream, user)),
        User::Unregistered | User::Deleted { .. } => Err(ApiError::User(Rejection::NotFound)),
    }
}

/// The same, of one who may be deleted: the id still names it.
async fn ever(api: &Api, name: &Name) -> Result<(StreamId, Arc<Loaded<User>>), ApiError> {
    let claim = ClaimValue { namespace: LOOKUP, value: name.as_str().to_owned() };
    let stream = api.users.holder(&claim).await?.ok_or(ApiError::User(Rejection::NotFound))?;
    let user = api.users.current(&stream).await?;
    Ok((stream, user))
}

/// What a path calls a user: an id or a matricule. No word that begins one of the service's own paths is one,
/// in any case.
#[derive(ToSchema)]
#[schema(as = UserName, pattern = "^[A-Za-z0-9][A-Za-z0-9._~|@:+-]{0,127}$", example = "TEST123")]
pub(crate) struct Name(String);

impl Name {
    /// A user's own id.
    pub(crate) fn of(id: &str) -> Self {
        Self(id.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // A path that is not UTF-8 is no better than one with a wrong character.
        let path = RawPathParams::from_request_parts(parts, state).await;
        let names = path.iter().flatten().filter(|(parameter, _)| ["id", "matricule"].contains(parameter));
        let name = names.map(|(_, name)| name.to_owned()).next().unwrap_or_default();
        // No user can have such a name: it is the name of a route there is not, or not yet.
        if domain::ids::is_reserved(&name) {
            Err(ApiError::NoSuchRoute)
        } else if domain::ids::is_well_formed(&name) {
            Ok(Self(name))
        } else {
            Err(ApiError::invalid("id", "identifiant ou matricule malformé ou réservé"))
        }
    }
}
