//! A user as HTTP shows it.

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat, Utc};
use domain::user::full_name;
use projections::users::UserRow;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Name;
use crate::auth::Caller;

/// What who set up nothing has set up.
static NO_PREFERENCES: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// A user. Every field is there; one without a value is null. Who is neither this user, nor an administrator or
/// a service, does not see the fields that are not required.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = User)]
#[expect(clippy::option_option, reason = "not shown, without a value, or with one")]
pub(crate) struct ProfileBody<'a> {
    // Clients that know users as MongoDB documents read this name.
    /// The id again.
    #[serde(rename = "_id")]
    mongo_id: &'a str,
    /// The id, for ever.
    #[schema(value_type = Name)]
    id: &'a str,
    #[schema(value_type = Option<Name>, required)]
    matricule: Option<&'a str>,
    /// The family name.
    #[schema(min_length = 1, max_length = 200)]
    nom: &'a str,
    /// The given name.
    #[schema(min_length = 1, max_length = 200, required)]
    prenom: Option<&'a str>,
    /// Given name and family name.
    full_name: String,
    /// The avatar again.
    #[serde(rename = "profile_pic")]
    #[schema(max_length = 2048, required)]
    profile_pic: Option<&'a str>,
    /// The address of a picture.
    #[schema(max_length = 2048, required)]
    avatar: Option<&'a str>,
    #[schema(max_length = 254, required)]
    email: Option<&'a str>,
    #[schema(min_length = 1, max_length = 200, required)]
    username: Option<&'a str>,
    #[schema(min_length = 1, max_length = 200, value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    telephone: Option<Option<&'a str>>,
    /// The ministry.
    #[schema(min_length = 1, max_length = 200, required)]
    ministere: Option<&'a str>,
    #[schema(pattern = "^[MF]$", required)]
    sexe: Option<&'a str>,
    /// What the user set up, as clients sent it.
    #[schema(value_type = Object, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    preferences: Option<&'a Value>,
    #[schema(pattern = "^(active|pending|inactive|suspended|banned)$", value_type = String, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[schema(value_type = Vec<String>, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [String]>,
    #[schema(value_type = bool, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[schema(value_type = bool, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa_enabled: Option<bool>,
    /// What kind of customer the user acts for.
    #[schema(pattern = "^(SME|FINANCIAL_INSTITUTION)$", value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_type: Option<Option<&'a str>>,
    /// The customer the user acts for.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<Option<&'a str>>,
    /// Whether the customer's company is the user's own.
    #[schema(value_type = bool, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    is_company_owner: Option<bool>,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    created_at: DateTime<Utc>,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_milliseconds")]
    updated_at: DateTime<Utc>,
    /// Grows with each event; `ETag` has it in quotes.
    #[schema(minimum = 1)]
    version: i32,
}

impl<'a> ProfileBody<'a> {
    /// As much as the caller may see.
    pub(super) fn seen_by(caller: &Caller, row: &'a UserRow) -> Self {
        let whole = Self::whole(row);
        if caller.sees_whole(&row.id) { whole } else { whole.reduced() }
    }

    /// What everybody sees.
    fn reduced(self) -> Self {
        Self {
            telephone: None,
            preferences: None,
            status: None,
            roles: None,
            email_verified: None,
            mfa_enabled: None,
            user_type: None,
            customer_id: None,
            is_company_owner: None,
            ..self
        }
    }

    /// Everything.
    pub(crate) fn whole(row: &'a UserRow) -> Self {
        // Whole, so that no field is forgotten.
        let UserRow {
            id,
            matricule,
            nom,
            prenom,
            ministere,
            avatar,
            sexe,
            email,
            username,
            telephone,
            preferences,
            status,
            roles,
            email_verified,
            mfa_enabled,
            user_type,
            customer_id,
            is_company_owner,
            created_at,
            updated_at,
            version,
        } = row;
        let prenom = prenom.as_deref();
        Self {
            mongo_id: id,
            id,
            matricule: matricule.as_deref(),
            nom,
            prenom,
            full_name: full_name(prenom, nom),
            profile_pic: avatar.as_deref(),
            avatar: avatar.as_deref(),
            email: email.as_deref(),
            username: username.as_deref(),
            telephone: Some(telephone.as_deref()),
            ministere: ministere.as_deref(),
            sexe: sexe.as_deref(),
            preferences: Some(preferences.as_ref().unwrap_or(&NO_PREFERENCES)),
            status: Some(status),
            roles: Some(roles),
            email_verified: Some(*email_verified),
            mfa_enabled: Some(*mfa_enabled),
            user_type: Some(user_type.as_deref()),
            customer_id: Some(customer_id.as_deref()),
            is_company_owner: Some(*is_company_owner),
            created_at: *created_at,
            updated_at: *updated_at,
            version: *version,
        }
    }
}

/// A time as bodies have it.
pub(crate) fn in_milliseconds<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::super::fields::CHANGEABLE;
    use super::*;

    fn row() -> UserRow {
        UserRow {
            id: "u1".into(),
            matricule: None,
            nom: "Kabila".into(),
            prenom: None,
            ministere: None,
            avatar: None,
            sexe: None,
            email: None,
            username: None,
            telephone: None,
            preferences: None,
            status: "active".into(),
            roles: vec![],
            email_verified: false,
            mfa_enabled: false,
            user_type: None,
            customer_id: None,
            is_company_owner: false,
            created_at: "2026-01-02T03:04:05.678999Z".parse().unwrap(),
            updated_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            version: 1,
        }
    }

    #[test]
    fn every_field_is_there_in_its_order_even_without_a_value() {
        let body = serde_json::to_string(&ProfileBody::whole(&row())).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"_id":"u1","id":"u1","matricule":null,"nom":"Kabila","prenom":null,"fullName":"Kabila","#,
                r#""profile_pic":null,"avatar":null,"email":null,"username":null,"telephone":null,"#,
                r#""ministere":null,"sexe":null,"preferences":{},"status":"active","roles":[],"#,
                r#""emailVerified":false,"mfaEnabled":false,"userType":null,"customerId":null,"#,
                r#""isCompanyOwner":false,"createdAt":"2026-01-02T03:04:05.678Z","#,
                r#""updatedAt":"2026-01-02T03:04:05.000Z","version":1}"#
            )
        );
    }

    #[test]
    fn each_field_that_can_be_changed_is_shown() {
        let body = serde_json::to_value(ProfileBody::whole(&row())).unwrap();
        for field in CHANGEABLE {
            assert!(body.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn the_given_name_comes_first_in_the_full_name() {
        let body =
            serde_json::to_value(ProfileBody::whole(&UserRow { prenom: Some("Joseph".into()), ..row() }));
        assert_eq!(body.unwrap()["fullName"], "Joseph Kabila");
    }
}
