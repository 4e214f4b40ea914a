//! Users: commands on their streams, queries on their read model.

mod commands;
mod fields;
mod list;
mod profile;
mod queries;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::routing::{get, post};

use crate::Api;
use crate::error::ApiError;

pub(crate) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/", post(commands::create))
        .route("/{id}", get(queries::by_name).put(commands::change).delete(commands::delete))
        .route("/matricule/{matricule}", get(queries::by_matricule))
        .route("/all", get(list::list))
        .route("/alls", get(list::list))
        .route("/batch", get(queries::batch).post(queries::batch_of_body))
}

/// What a path calls a user: an id or a matricule.
pub(crate) struct Name(String);

impl Name {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // A path that is not UTF-8 is no better than one with a wrong character.
        let name = Path::<String>::from_request_parts(parts, state)
            .await
            .map_or_else(|_| String::new(), |path| path.0);
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
