//! Users: commands on their streams, queries on their read model.

mod access;
mod commands;
mod fields;
mod list;
mod profile;
mod queries;
mod schemas;

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::error::ApiError;

pub(crate) use profile::ProfileBody;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::default()
        .routes(routes!(commands::create))
        .routes(routes!(queries::by_name, commands::change, commands::delete))
        .routes(routes!(access::change_status))
        .routes(routes!(access::assign_role, access::remove_role))
        .routes(routes!(queries::by_matricule))
        .routes(routes!(list::list))
        .routes(routes!(list::list_too))
        .routes(routes!(queries::batch, queries::batch_of_body))
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
