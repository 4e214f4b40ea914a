//! `GET /{id}/history`: what happened to a user, and how the user got in.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use domain::Aggregate;
use domain::access::{self, Access, Code, LoggedIn, LoginFailed, Origin};
use domain::user::{self, Rejection, User};
use event_store::{StoredEvent, StreamId, Version};
use percent_encoding::utf8_percent_encode;
use serde_json::{Value, json};

use super::{Name, ever};
use crate::Api;
use crate::answer::COMPONENT;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::histories::{self, Entry, History, HistoryParameters};
use crate::openapi::refusals;
use crate::query::Parameters;

/// What happened to a user, the newest first; administrators see that of deleted ones, too.
#[utoipa::path(
    get,
    path = "/{id}/history",
    operation_id = "getHistory",
    tag = "users",
    params(("id" = Name, Path, description = "The user's id or matricule."), HistoryParameters),
    responses(
        (
            status = 200,
            description = "A page of it.",
            body = History,
            headers(("Link" = String, description = "The next page, if there is one.")),
        ),
        refusals::History,
    ),
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    name: Name,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let (limit, after) = (histories::limit(&parameters)?, histories::after(&parameters, Place::parse)?);
    let name = caller.own(name);
    let (stream, user) = ever(&api, &name).await?;
    if matches!(&*user.state, User::Deleted { .. }) && !caller.is_admin() {
        return Err(ApiError::User(Rejection::NotFound));
    }
    let access = StreamId::new(Access::CATEGORY, stream.id());
    // Of one moment: what happens between two pages is on neither.
    let of_now = || async {
        let ways_in = api.auth.access.current(&access).await?;
        Ok::<_, ApiError>(Place { user: user.version + 1, access: ways_in.version + 1 })
    };
    let Place { user, access: ways_in } = match after {
        Some(place) => place,
        None => of_now().await?,
    };
    // One more of each tells whether there is another page.
    let (mut events, others) = tokio::try_join!(
        api.store.read_stream_back(&stream, user, limit + 1),
        api.store.read_stream_back(&access, ways_in, limit + 1),
    )?;
    events.extend(others);
    events.sort_by_key(|event| std::cmp::Reverse(event.position));
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.iter().fold(Place { user, access: ways_in }, Place::behind);
    let name = utf8_percent_encode(name.as_str(), COMPONENT);
    let next = more.then(|| format!("/{name}/history?limit={limit}&after={next}"));
    histories::page(events.iter().map(entry).collect::<Result<_, _>>()?, next)
}

/// How far a history was read, of each of the two streams: what comes next stands before these versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    user: Version,
    access: Version,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (user, access) = text.split_once('.')?;
        Some(Self { user: histories::version(user)?, access: histories::version(access)? })
    }

    fn behind(self, event: &StoredEvent) -> Self {
        if event.stream.category() == User::CATEGORY {
            Self { user: event.version, ..self }
        } else {
            Self { access: event.version, ..self }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.user, self.access)
    }
}

fn entry(event: &StoredEvent) -> Result<Entry, ApiError> {
    let data = if event.stream.category() == User::CATEGORY {
        of_user(&event.decode::<user::Event>().map_err(ApiError::internal)?.event)
    } else {
        of_access(&event.decode::<access::Event>().map_err(ApiError::internal)?.event)
    };
    Entry::of(event, data.map_err(ApiError::internal)?)
}

/// What is shown of a user's own event. What links of mails are made of is not.
fn of_user(event: &user::Event) -> serde_json::Result<Value> {
    use user::Event;
    match event {
        Event::Created(user) => serde_json::to_value(user),
        Event::Registered(registered) => serde_json::to_value(&registered.user),
        Event::Changed(changes) => serde_json::to_value(changes),
        Event::StatusChanged(changed) => serde_json::to_value(changed),
        Event::RoleAssigned(assigned) => serde_json::to_value(assigned),
        Event::RoleRemoved(removed) => serde_json::to_value(removed),
        Event::AddressAdded(kept) | Event::AddressUpdated(kept) => serde_json::to_value(kept),
        Event::AddressDeleted(deleted) => serde_json::to_value(deleted),
        Event::VerificationRequested(requested) => Ok(json!({ "email": requested.email })),
        Event::EmailVerified(verified) => Ok(json!({ "email": verified.email })),
        Event::MfaEnabled(switched) | Event::MfaDisabled(switched) => serde_json::to_value(switched),
        Event::DeviceRegistered(registered) => serde_json::to_value(registered),
        Event::AdministratorConfirmed(confirmed) => serde_json::to_value(confirmed),
        Event::Deleted(deleted) => serde_json::to_value(deleted),
    }
}

/// What is shown of how a user got in: neither hashes, nor what secrets are made of.
fn of_access(event: &access::Event) -> serde_json::Result<Value> {
    use access::Event;
    Ok(match event {
        Event::PasswordSet(_)
        | Event::PasswordRehashed(_)
        | Event::PasswordReset(_)
        | Event::MfaEnrolled(_)
        | Event::MfaConfirmed(_)
        | Event::MfaRemoved(_) => json!({}),
        Event::PasswordChanged(changed) => json!({ "keptSession": changed.kept_session }),
        Event::ResetRequested(reset) => with(&reset.from, json!({ "email": reset.to.email }))?,
        Event::LoggedIn(LoggedIn { session, factor, from }) => {
            let factor = factor.as_ref().map(|it| match it.code {
                Code::Step(_) => "totp",
                Code::Recovery(_) => "recovery",
            });
            with(from, json!({ "session": session, "factor": factor }))?
        }
        Event::LoginFailed(LoginFailed { name, reason, from, count }) => {
            with(from, json!({ "name": name, "reason": reason, "count": count }))?
        }
        Event::SessionEnded(ended) => serde_json::to_value(ended)?,
    })
}

/// What is said, and from where it came.
fn with(from: &Origin, mut said: Value) -> serde_json::Result<Value> {
    if let (Value::Object(said), Value::Object(from)) = (&mut said, serde_json::to_value(from)?) {
        said.extend(from);
        said.retain(|_, value| !value.is_null());
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_versions() {
        let place = Place { user: 3, access: 12 };
        assert_eq!(Place::parse(&place.to_string()), Some(place));
        for text in ["", "3", "3.", ".3", "0.1", "a.1", "1.2.3", "-1.2"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
