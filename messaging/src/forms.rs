//! The forms of messages: each type in its versions, and the schema of its values.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::payloads::{
    AccessEnvelope, AddressChanged, AddressDeleted, Addressed, Created, CustomerAdmitted, CustomerCreated,
    CustomerDeleted, CustomerSuspended, CustomerUpdated, EmailVerified, Envelope, Farewell, LoggedIn,
    LoginRefused, MfaSwitched, PasswordChanged, ProfileUpdated, ResetRequested, RoleChanged, Snapshot,
    StatusChanged, SubscriptionNow, TokensMoved, Unversioned, Updated, UserCreated, UserDeleted,
    UserPasswordReset, UserRoleChanged, UserStatusChanged, UserUpdated, VerificationRequested,
};

/// What the values of a type look like in one of the places where they are sent.
#[derive(Debug)]
pub struct Form {
    /// The type, as in `ce_type`.
    pub name: &'static str,
    /// The version of the form, as in `schema-version`: a reader of one that is lower may not understand
    /// it.
    pub version: u16,
    /// Where it is sent.
    pub place: Place,
    schema: fn() -> Value,
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.version, self.place) == (other.name, other.version, other.place)
    }
}

impl Eq for Form {}

/// Where messages of a form are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The Redis stream.
    Stream,
    /// The topic `user.events`.
    UserEvents,
    /// The topic of the event, and those of its copies.
    Topics,
}

macro_rules! forms {
    ($($constant:ident: $name:literal $version:literal in $place:ident is $type:ty;)*) => {
        $(pub(crate) const $constant: &Form = &Form {
            name: $name,
            version: $version,
            place: Place::$place,
            schema: || schema::<$type>($name, Place::$place),
        };)*
        /// Every form that is sent.
        pub const ALL: &[&Form] = &[$($constant),*];
    };
}

// The version of a type is that of all its forms.
forms! {
    STREAM_CREATED: "user.profile.created" 1 in Stream is Snapshot<'static>;
    STREAM_UPDATED: "user.profile.updated" 1 in Stream is Snapshot<'static>;
    STREAM_DELETED: "user.profile.deleted" 1 in Stream is Farewell<'static>;
    EVENTS_USER_CREATED: "user.created" 1 in UserEvents is Envelope<'static, Created<'static>>;
    EVENTS_USER_REGISTERED: "user.registered" 1 in UserEvents is Envelope<'static, Created<'static>>;
    EVENTS_USER_UPDATED: "user.updated" 1 in UserEvents is Envelope<'static, Updated<'static>>;
    EVENTS_USER_PROFILE_UPDATED: "user.profile.updated" 1 in UserEvents is Envelope<'static, ProfileUpdated<'static>>;
    EVENTS_USER_STATUS_CHANGED: "user.status.changed" 1 in UserEvents is Envelope<'static, StatusChanged<'static>>;
    EVENTS_USER_ROLE_ASSIGNED: "user.role.assigned" 1 in UserEvents is Envelope<'static, RoleChanged<'static>>;
    EVENTS_USER_ROLE_REMOVED: "user.role.removed" 1 in UserEvents is Envelope<'static, RoleChanged<'static>>;
    EVENTS_USER_ADDRESS_ADDED: "user.address.added" 1 in UserEvents is Envelope<'static, AddressChanged<'static>>;
    EVENTS_USER_ADDRESS_UPDATED: "user.address.updated" 1 in UserEvents is Envelope<'static, AddressChanged<'static>>;
    EVENTS_USER_ADDRESS_DELETED: "user.address.deleted" 1 in UserEvents is Envelope<'static, AddressDeleted<'static>>;
    EVENTS_USER_VERIFICATION_REQUESTED: "user.email.verification.requested" 1 in UserEvents is Envelope<'static, VerificationRequested<'static>>;
    EVENTS_USER_EMAIL_VERIFIED: "user.email.verified" 1 in UserEvents is Envelope<'static, EmailVerified<'static>>;
    EVENTS_MFA_ENABLED: "mfa.enabled" 1 in UserEvents is Envelope<'static, MfaSwitched<'static>>;
    EVENTS_MFA_DISABLED: "mfa.disabled" 1 in UserEvents is Envelope<'static, MfaSwitched<'static>>;
    EVENTS_USER_RESET_REQUESTED: "user.password.reset.requested" 1 in UserEvents is AccessEnvelope<'static, ResetRequested<'static>>;
    EVENTS_USER_PASSWORD_CHANGED: "user.password.changed" 1 in UserEvents is AccessEnvelope<'static, PasswordChanged<'static>>;
    EVENTS_USER_LOGGED_IN: "user.loggedin" 1 in UserEvents is AccessEnvelope<'static, LoggedIn<'static>>;
    EVENTS_USER_LOGIN_FAILED: "user.login.failed" 1 in UserEvents is AccessEnvelope<'static, LoginRefused<'static>>;
    USER_CREATED: "user.created" 1 in Topics is Addressed<'static, UserCreated<'static>>;
    USER_UPDATED: "user.updated" 1 in Topics is Addressed<'static, UserUpdated<'static>>;
    USER_STATUS_CHANGED: "user.status.changed" 1 in Topics is Addressed<'static, UserStatusChanged<'static>>;
    USER_ROLE_CHANGED: "user.role.changed" 1 in Topics is Addressed<'static, UserRoleChanged<'static>>;
    USER_PASSWORD_RESET: "user.password.reset" 1 in Topics is Addressed<'static, UserPasswordReset<'static>, Unversioned>;
    USER_DELETED: "user.deleted" 1 in Topics is Addressed<'static, UserDeleted<'static>>;
    CUSTOMER_CREATED: "customer.created" 1 in Topics is Addressed<'static, CustomerCreated<'static>>;
    CUSTOMER_UPDATED: "customer.updated" 1 in Topics is Addressed<'static, CustomerUpdated<'static>>;
    CUSTOMER_VALIDATED: "customer.validated" 1 in Topics is Addressed<'static, CustomerAdmitted<'static>>;
    CUSTOMER_SUSPENDED: "customer.suspended" 1 in Topics is Addressed<'static, CustomerSuspended<'static>>;
    CUSTOMER_REACTIVATED: "customer.reactivated" 1 in Topics is Addressed<'static, CustomerAdmitted<'static>>;
    CUSTOMER_DELETED: "customer.deleted" 1 in Topics is Addressed<'static, CustomerDeleted<'static>>;
    SUBSCRIPTION_CREATED: "subscription.created" 1 in Topics is Addressed<'static, SubscriptionNow<'static>>;
    SUBSCRIPTION_UPDATED: "subscription.updated" 1 in Topics is Addressed<'static, SubscriptionNow<'static>>;
    SUBSCRIPTION_RENEWED: "subscription.renewed" 1 in Topics is Addressed<'static, SubscriptionNow<'static>>;
    SUBSCRIPTION_CANCELLED: "subscription.cancelled" 1 in Topics is Addressed<'static, SubscriptionNow<'static>>;
    SUBSCRIPTION_EXPIRED: "subscription.expired" 1 in Topics is Addressed<'static, SubscriptionNow<'static>>;
    TOKEN_PURCHASED: "token.purchased" 1 in Topics is Addressed<'static, TokensMoved<'static>>;
    TOKEN_USED: "token.used" 1 in Topics is Addressed<'static, TokensMoved<'static>>;
    TOKEN_ALLOCATED: "token.allocated" 1 in Topics is Addressed<'static, TokensMoved<'static>>;
}

impl Form {
    /// The JSON Schema of its values, in draft 7, which `AsyncAPI` builds on.
    #[must_use]
    pub fn schema(&self) -> Value {
        (self.schema)()
    }
}

/// The schema of `T` as it is written, with the name of its type where the values have one.
fn schema<T: JsonSchema>(name: &str, place: Place) -> Value {
    let settings = SchemaSettings::draft07().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    let field = match place {
        Place::Stream => Some("event"),
        Place::UserEvents => Some("type"),
        Place::Topics => None,
    };
    if let Some(field) = field {
        constant(&mut schema, field, name);
    }
    schema.to_value()
}

/// Has a field of an object be there, with this value alone.
fn constant(schema: &mut Schema, field: &str, value: &str) {
    let object = schema.ensure_object();
    object.entry("properties").or_insert_with(|| json!({}))[field] = json!({ "const": value });
    if let Some(required) = object.entry("required").or_insert_with(|| json!([])).as_array_mut()
        && !required.iter().any(|it| it == field)
    {
        required.insert(0, field.into());
    }
}

/// The forms of a type, one for each place where it is sent; all have the same version.
#[must_use]
pub fn of_type(name: &str) -> Vec<&'static Form> {
    ALL.iter().copied().filter(|form| form.name == name).collect()
}

/// The schema of a type, whichever of its places a value comes from.
#[must_use]
pub fn schema_of_type(name: &str) -> Option<Value> {
    let forms = of_type(name);
    let version = forms.first()?.version;
    Some(json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": format!("/schemas/{}", file(name, version)),
        "title": name,
        // By its title each place is known, also when there is but one.
        "oneOf": forms.iter().map(|form| titled(form)).collect::<Vec<_>>(),
    }))
}

fn titled(form: &Form) -> Value {
    let mut schema = form.schema();
    schema["title"] = match form.place {
        Place::Stream => Cow::from("in the Redis stream"),
        Place::UserEvents => "on the topic user.events".into(),
        Place::Topics => format!("on the topic {0} and its copies", form.name).into(),
    }
    .into();
    schema
}

/// The file that the schema of a type stands in.
pub(crate) fn file(name: &str, version: u16) -> String {
    format!("{name}/{version}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributor;

    #[test]
    fn the_forms_of_a_type_have_the_same_version() {
        for form in ALL {
            assert!(of_type(form.name).iter().all(|it| it.version == form.version), "{}", form.name);
        }
    }

    #[test]
    fn what_goes_to_topics_is_named_for_them() {
        let named = |topic: &str| ALL.iter().any(|form| form.place == Place::Topics && form.name == topic);
        assert!(distributor::ALL.iter().all(|it| named(it.topic)));
    }
}
