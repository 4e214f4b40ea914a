//! The forms of the messages, as other services read them.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::ids::{Matricule, UserId};
use domain::user::{Profile, Status, User};
use domain::values::{AvatarUrl, Email, Patch, Preferences, Sexe, Text, Username};
use event_store::{Step, Version};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

/// An entry of the Redis stream: who a user is now, or that it is gone.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum ProfileEvent<'a> {
    /// The user exists.
    #[serde(rename = "user.profile.created")]
    Created(Snapshot<'a>),
    /// The user has another profile.
    #[serde(rename = "user.profile.updated")]
    Updated(Snapshot<'a>),
    /// The user is gone.
    #[serde(rename = "user.profile.deleted")]
    Deleted {
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
        traceparent: Option<&'a str>,
    },
}

/// A profile as the stream tells it; what is missing is empty, but for the avatar.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot<'a> {
    user_id: &'a str,
    full_name: String,
    avatar: Option<&'a str>,
    matricule: &'a str,
    ministere: &'a str,
    sexe: &'a str,
    nom: &'a str,
    prenom: &'a str,
    timestamp: i64,
    event_id: Uuid,
    version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
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
        Self::Deleted {
            user_id: before.id.as_str(),
            matricule: before.matricule.as_ref().map_or("", Matricule::as_str),
            timestamp: step.recorded.recorded_at.timestamp_millis(),
            event_id: step.recorded.event_id,
            version: step.recorded.version,
            traceparent: step.recorded.traceparent.as_deref(),
        }
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

/// What a message of the topic `user.events` says under `data`.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum UserEvent<'a> {
    /// The user exists.
    Created {
        /// The user's id.
        user_id: &'a str,
        /// The e-mail address.
        #[serde(skip_serializing_if = "Option::is_none")]
        email: Option<&'a str>,
        /// The name to log in with.
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<&'a str>,
        /// When.
        registration_timestamp: Time,
        /// Whether the user may log in.
        status: &'static str,
    },
    /// What names the user has changed.
    Updated {
        /// The user's id.
        user_id: &'a str,
        /// The names of the fields that changed.
        updated_fields: Vec<&'static str>,
        /// When.
        update_timestamp: Time,
        /// Their new values.
        #[serde(flatten)]
        values: FieldChanges<'a>,
    },
    /// What describes the user has changed.
    ProfileUpdated {
        /// The user's id.
        user_id: &'a str,
        /// The same: a user has one profile.
        profile_id: &'a str,
        /// The names of the fields that changed.
        updated_fields: Vec<&'static str>,
        /// When.
        update_timestamp: Time,
        /// Their new values.
        #[serde(flatten)]
        values: FieldChanges<'a>,
    },
    /// The user may log in now, or may no more, or is gone.
    StatusChanged {
        /// The user's id.
        user_id: &'a str,
        /// The new status, or `deleted`.
        new_status: &'static str,
        /// The status before.
        previous_status: &'static str,
        /// When.
        change_timestamp: Time,
    },
}

impl<'a> UserEvent<'a> {
    pub(crate) fn created(
        profile: &'a Profile,
        email: Option<&'a Email>,
        username: Option<&'a Username>,
        at: DateTime<Utc>,
    ) -> Self {
        Self::Created {
            user_id: profile.id.as_str(),
            email: email.map(Email::as_str),
            username: username.map(Username::as_str),
            registration_timestamp: Time(at),
            status: profile.status.as_str(),
        }
    }

    pub(crate) fn updated(id: &'a UserId, values: FieldChanges<'a>, at: DateTime<Utc>) -> Option<Self> {
        let updated_fields = values.names()?;
        Some(Self::Updated { user_id: id.as_str(), updated_fields, update_timestamp: Time(at), values })
    }

    pub(crate) fn profile_updated(
        id: &'a UserId,
        values: FieldChanges<'a>,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        let updated_fields = values.names()?;
        let (user_id, update_timestamp) = (id.as_str(), Time(at));
        Some(Self::ProfileUpdated { user_id, profile_id: user_id, updated_fields, update_timestamp, values })
    }

    pub(crate) fn status_changed(
        id: &'a UserId,
        new_status: &'static str,
        previous: Status,
        at: DateTime<Utc>,
    ) -> Self {
        Self::StatusChanged {
            user_id: id.as_str(),
            new_status,
            previous_status: previous.as_str(),
            change_timestamp: Time(at),
        }
    }

    /// Its type, as in `type` and `ce_type`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "user.created",
            Self::Updated { .. } => "user.updated",
            Self::ProfileUpdated { .. } => "user.profile.updated",
            Self::StatusChanged { .. } => "user.status.changed",
        }
    }
}

/// A value of the topic `user.events`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<'a> {
    /// Its type.
    pub r#type: &'static str,
    /// When it happened.
    pub timestamp: Time,
    /// What happened.
    pub data: &'a UserEvent<'a>,
    /// The message's identity, as in `ce_id`.
    pub event_id: &'a str,
    /// The version of the user's stream.
    pub version: Version,
}

/// A time in ISO 8601, UTC, with milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub DateTime<Utc>);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The fields that changed, with their new values.
#[derive(Debug, Default)]
pub struct FieldChanges<'a>(Vec<(&'static str, FieldValue<'a>)>);

/// The new value of a field.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum FieldValue<'a> {
    /// It was cleared.
    None,
    /// A text.
    Text(&'a str),
    /// An object.
    Object(&'a Map<String, Value>),
}

impl<'a> FieldChanges<'a> {
    /// Takes in what was done to a field that may be cleared.
    pub(crate) fn put<T>(&mut self, name: &'static str, patch: &'a Patch<T>)
    where
        FieldValue<'a>: From<&'a T>,
    {
        match patch {
            Patch::Keep => {}
            Patch::Clear => self.0.push((name, FieldValue::None)),
            Patch::Set(value) => self.0.push((name, value.into())),
        }
    }

    /// Takes in what was done to a field that is always there.
    pub(crate) fn set<T>(&mut self, name: &'static str, value: Option<&'a T>)
    where
        FieldValue<'a>: From<&'a T>,
    {
        if let Some(value) = value {
            self.0.push((name, value.into()));
        }
    }

    /// The names; [`None`] where nothing changed.
    fn names(&self) -> Option<Vec<&'static str>> {
        if self.0.is_empty() { None } else { Some(self.0.iter().map(|(name, _)| *name).collect()) }
    }
}

impl Serialize for FieldChanges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

macro_rules! texts {
    ($($type:ty),*) => {
        $(impl<'a> From<&'a $type> for FieldValue<'a> {
            fn from(value: &'a $type) -> Self {
                Self::Text(value.as_str())
            }
        })*
    };
}
texts!(AvatarUrl, Email, Matricule, Sexe, Text, Username);

impl<'a> From<&'a Preferences> for FieldValue<'a> {
    fn from(value: &'a Preferences) -> Self {
        Self::Object(value.as_map())
    }
}
