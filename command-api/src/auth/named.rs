//! The user whom the path of a command names.

use std::sync::Arc;

use domain::user::{Profile, Rejection, User};
use event_store::{IfMatch, Loaded};

use super::caller::Caller;
use crate::Api;
use crate::error::ApiError;
use crate::users::{self, Name};

/// A living user.
pub(super) struct Named {
    pub(super) id: String,
    /// Whether it is who asks.
    pub(super) oneself: bool,
    now: Arc<Loaded<User>>,
}

/// The living user of a name. Who may only ask of oneself does, whoever has that name by now.
pub(super) async fn named(
    api: &Api,
    caller: &Caller,
    name: Name,
    if_match: &IfMatch,
) -> Result<Named, ApiError> {
    let (stream, now) = users::living(api, &caller.own(name)).await?;
    let id = stream.id().to_owned();
    let named = Named { oneself: caller.id() == Some(&*id), id, now };
    if if_match.holds(named.now.version) { Ok(named) } else { Err(ApiError::VersionConflict) }
}

impl Named {
    /// What is known of the user.
    pub(super) fn profile(&self) -> Result<&Profile, ApiError> {
        match &*self.now.state {
            User::Living(profile) => Ok(profile),
            User::Unregistered | User::Deleted { .. } => Err(ApiError::User(Rejection::NotFound)),
        }
    }
}
