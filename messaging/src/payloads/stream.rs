//! Entries of the Redis stream.

use domain::ids::Matricule;
use domain::user::{Profile, User};
use domain::values::{AvatarUrl, Sexe, Text};
use event_store::{Step, Version};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

/// An entry of the Redis stream: who a user is now, or that it is gone.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event")]
pub enum ProfileEvent<'a> {
    /// The user exists.
    #[serde(rename = "user.profile.created")]
    Created(Snapshot<'a>),
    /// The user has another profile.
    #[serde(rename = "user.profile.updated")]
    Updated(Snapshot<'a>),
    /// The user is gone.
    #[serde(rename = "user.profile.deleted")]
    Deleted(Farewell<'a>),
}

/// A profile as the stream tells it; what is missing is empty, but for the avatar.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The name people read.
    full_name: String,
    /// The picture's URL.
    avatar: Option<&'a str>,
    /// The matricule.
    matricule: &'a str,
    /// The ministry.
    ministere: &'a str,
    /// `M`, `F`, or nothing.
    sexe: &'a str,
    /// The family name.
    nom: &'a str,
    /// The given name.
    prenom: &'a str,
    /// When, in milliseconds since 1970.
    timestamp: i64,
    /// The event's id.
    event_id: Uuid,
    /// The version of the user's stream.
    version: Version,
    /// The trace that the event belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    traceparent: Option<&'a str>,
}

/// What the stream tells of who is gone.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Farewell<'a> {
    /// The user's id.
    user_id: &'a str,
    /// The matricule the user had.
    matricule: &'a str,
    /// When, in milliseconds since 1970.
    timestamp: i64,
    /// The event's id.
    event_id: Uuid,
    /// The version of the user's stream.
    version: Version,
    /// The trace that the event belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&str")]
    traceparent: Option<&'a str>,
}

impl<'a> ProfileEvent<'a> {
    pub(crate) fn created(profile: &'a Profile, step: &'a Step<User>) -> Self {
        Self::Created(Snapshot::of(profile, step))
    }

    pub(crate) fn updated(profile: &'a Profile, step: &'a Step<User>) -> Self {
        Self::Updated(Snapshot::of(profile, step))
    }

    pub(crate) fn deleted(before: &'a Profile, step: &'a Step<User>) -> Self {
        Self::Deleted(Farewell {
            user_id: before.id.as_str(),
            matricule: before.matricule.as_ref().map_or("", Matricule::as_str),
            timestamp: step.recorded.recorded_at.timestamp_millis(),
            event_id: step.recorded.event_id,
            version: step.recorded.version,
            traceparent: step.recorded.traceparent.as_deref(),
        })
    }
}

impl<'a> Snapshot<'a> {
    fn of(profile: &'a Profile, step: &'a Step<User>) -> Self {
        Self {
            user_id: profile.id.as_str(),
            full_name: profile.full_name(),
            avatar: profile.avatar.as_ref().map(AvatarUrl::as_str),
            matricule: profile.matricule.as_ref().map_or("", Matricule::as_str),
            ministere: profile.ministere.as_ref().map_or("", Text::as_str),
            sexe: profile.sexe.map_or("", Sexe::as_str),
            nom: profile.nom.as_str(),
            prenom: profile.prenom.as_ref().map_or("", Text::as_str),
            timestamp: step.recorded.recorded_at.timestamp_millis(),
            event_id: step.recorded.event_id,
            version: step.recorded.version,
            traceparent: step.recorded.traceparent.as_deref(),
        }
    }
}
