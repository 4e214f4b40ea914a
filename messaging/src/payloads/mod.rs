//! The forms of the messages, as other services read them.

mod access_events;
mod customers;
mod stream;
mod subscriptions;
mod topics;
mod user_events;

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use domain::customer::PaymentMethod;
use domain::ids::Matricule;
use domain::values::{AvatarUrl, Email, Object, Patch, Sexe, Text, Username};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub use access_events::{
    AccessEnvelope, AccessEvent, LoggedIn, LoginRefused, PasswordChanged, ResetRequested,
};
pub use customers::{
    CustomerAdmitted, CustomerCreated, CustomerDeleted, CustomerEvent, CustomerSuspended, CustomerUpdated,
};
pub use stream::{Farewell, ProfileEvent, Snapshot};
pub use subscriptions::{SubscriptionEvent, SubscriptionNow, TokenEvent, TokensMoved};
pub use topics::{
    Addressed, EventUserType, TopicEvent, Unversioned, UserCreated, UserDeleted, UserPasswordReset,
    UserRoleChanged, UserStatusChanged, UserUpdated, Versioned,
};
pub use user_events::{
    AddressChanged, AddressDeleted, Created, EmailVerified, Envelope, MfaSwitched, ProfileUpdated,
    RoleChanged, StatusChanged, Updated, UserEvent, UserStatus, VerificationRequested,
};

/// A time in ISO 8601, UTC, with milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub DateTime<Utc>);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The schema of values of which only those that changed are there, `null` where one was cleared.
macro_rules! new_values {
    ($name:ident { $($field:literal: $kind:literal,)* }) => {
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "object", "properties": { $($field: { "type": [$kind, "null"] }),* } })
            }
        }
    };
}
new_values!(NewCoreValues { "email": "string", "username": "string", "matricule": "string", });
new_values!(NewProfileValues {
    "nom": "string",
    "prenom": "string",
    "avatar": "string",
    "ministere": "string",
    "sexe": "string",
    "telephone": "string",
    "preferences": "object",
});

/// The fields that changed, with their new values.
#[derive(Clone, Debug, Default)]
pub struct FieldChanges<'a>(Vec<(&'static str, FieldValue<'a>)>);

/// The new value of a field.
#[derive(Clone, Copy, Debug, Serialize)]
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

    /// Takes in a word of ours.
    fn word(&mut self, name: &'static str, word: &'static str) {
        self.0.push((name, FieldValue::Text(word)));
    }

    /// Those of these names.
    fn of(&self, names: &[&str]) -> Self {
        Self(self.0.iter().copied().filter(|(name, _)| names.contains(name)).collect())
    }

    /// The names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// The same; [`None`] where nothing changed.
    fn any_names(&self) -> Option<Vec<&'static str>> {
        (!self.0.is_empty()).then(|| self.names().collect())
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

impl<'a, const KIB: usize> From<&'a Object<KIB>> for FieldValue<'a> {
    fn from(value: &'a Object<KIB>) -> Self {
        Self::Object(value.as_map())
    }
}

impl<'a> From<&'a PaymentMethod> for FieldValue<'a> {
    fn from(value: &'a PaymentMethod) -> Self {
        match value {
            PaymentMethod::Named(name) => name.into(),
            PaymentMethod::Described(object) => object.into(),
        }
    }
}
