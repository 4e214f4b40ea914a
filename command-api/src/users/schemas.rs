//! The forms of what the routes of users read, for the document.
//!
//! Bodies are read by `fields.rs`, parameters by `list.rs` and `queries.rs`: one by
//! one, so that everything that is wrong is told at once.

#![expect(dead_code, reason = "descriptions: nothing makes or reads such values")]

use utoipa::{IntoParams, ToSchema};

use super::Name;
use crate::schemas::{EmailOrNone, FilledLine, Line};

/// A new user.
#[derive(ToSchema)]
#[schema(as = NewUser, rename_all = "camelCase", example = json!({
    "matricule": "TEST123", "nom": "Test", "prenom": "User", "ministere": "IT", "sexe": "M",
    "email": "test.user@example.cd", "preferences": { "langue": "fr" },
}))]
pub(super) struct NewUserBody {
    /// Made where there is none; for ever.
    id: Option<NameOrNone>,
    matricule: Name,
    /// The family name.
    nom: FilledLine,
    /// The customer that the user acts for, for ever.
    customer_id: Option<NameOrNone>,
    /// To log in with: 12 to 256 characters, and not a common one.
    #[schema(pattern = r"^([\s\S]{12,256})?$")]
    password: Option<String>,
    #[serde(flatten)]
    rest: OptionalFields,
}

/// A user who registers.
#[derive(ToSchema)]
#[schema(as = Registration, rename_all = "camelCase", example = json!({
    "matricule": "TEST123", "nom": "Test", "email": "test.user@example.cd", "password": "corridor-vers-la-mer",
}))]
pub(super) struct RegistrationBody {
    matricule: Name,
    /// The family name.
    nom: FilledLine,
    /// Where the mail goes that asks for a proof. No two users have the same, in any case.
    #[schema(max_length = 254, pattern = r"^[^\s@]+@[^\s@]+$")]
    email: String,
    /// 12 to 256 characters, and not a common one.
    #[schema(min_length = 12, max_length = 256)]
    password: String,
    /// The given name.
    prenom: Option<Line>,
    /// The ministry.
    ministere: Option<Line>,
    /// The address of a picture.
    avatar: Option<Address>,
    sexe: Option<Sexe>,
    /// No two users have the same.
    username: Option<Line>,
    telephone: Option<Line>,
    /// Any object, of 16 KiB and 64 levels at most, without the character U+0000.
    #[schema(value_type = Option<Object>)]
    preferences: Option<()>,
}

/// A postal address.
#[derive(ToSchema)]
#[schema(as = NewAddress, rename_all = "camelCase", example = json!({
    "label": "Bureau", "line1": "12, avenue de la Paix", "city": "Niamey", "country": "Niger",
}))]
pub(super) struct AddressBody {
    /// What the user calls it.
    label: Option<Line>,
    /// House and street.
    line1: FilledLine,
    /// What else helps to find it.
    line2: Option<Line>,
    city: FilledLine,
    postal_code: Option<Line>,
    country: FilledLine,
}

/// New values of some fields of an address, at least one. What is not named stays.
#[derive(ToSchema)]
#[schema(as = AddressChanges, rename_all = "camelCase", example = json!({ "postalCode": "8000" }))]
pub(super) struct AddressChangesBody {
    /// What the user calls it.
    label: Option<Line>,
    /// House and street.
    #[schema(required = false)]
    line1: FilledLine,
    /// What else helps to find it.
    line2: Option<Line>,
    #[schema(required = false)]
    city: FilledLine,
    postal_code: Option<Line>,
    #[schema(required = false)]
    country: FilledLine,
}

/// New values of some fields, at least one. What is not named stays.
#[derive(ToSchema)]
#[schema(as = UserChanges, rename_all = "camelCase", example = json!({ "nom": "Test", "telephone": null }))]
pub(super) struct ChangesBody {
    /// The old one is free at once.
    #[schema(required = false)]
    matricule: Name,
    /// The family name.
    #[schema(required = false)]
    nom: FilledLine,
    #[serde(flatten)]
    rest: OptionalFields,
}

/// The fields of a user that may be null.
#[derive(ToSchema)]
#[schema(as = UserFields, rename_all = "camelCase")]
struct OptionalFields {
    /// The given name.
    prenom: Option<Line>,
    /// The ministry.
    ministere: Option<Line>,
    /// The address of a picture.
    avatar: Option<Address>,
    /// Another name of `avatar`, which wins.
    #[schema(rename = "profile_pic")]
    profile_pic: Option<Address>,
    sexe: Option<Sexe>,
    /// No two users have the same, in any case.
    email: Option<EmailOrNone>,
    /// No two users have the same.
    username: Option<Line>,
    telephone: Option<Line>,
    /// Any object, of 16 KiB and 64 levels at most, without the character U+0000.
    #[schema(value_type = Option<Object>)]
    preferences: Option<()>,
    /// What kind of customer the user acts for.
    user_type: Option<UserType>,
    /// Whether the customer's company is the user's own; null counts as false.
    is_company_owner: Option<bool>,
}

/// As `UserName`; empty counts as null.
#[derive(ToSchema)]
#[schema(pattern = "^([A-Za-z0-9][A-Za-z0-9._~|@:+-]{0,127})?$")]
struct NameOrNone(String);

/// An `http` or `https` URL; empty counts as null.
#[derive(ToSchema)]
#[schema(max_length = 2048, pattern = r"^([Hh][Tt][Tt][Pp][Ss]?://[^\u0000-\u001f\u007f-\u009f]+)?$")]
struct Address(String);

/// A sex; empty counts as null.
#[derive(ToSchema)]
#[schema(pattern = "^[MF]?$", example = "F")]
struct Sexe(String);

/// A kind of customer; empty counts as null.
#[derive(ToSchema)]
#[schema(pattern = "^(SME|FINANCIAL_INSTITUTION)?$", example = "SME")]
struct UserType(String);

/// A status; empty counts as none.
#[derive(ToSchema)]
#[schema(pattern = "^(active|pending|inactive|suspended|banned)?$", example = "active")]
struct Status(String);

/// A new status.
#[derive(ToSchema)]
#[schema(as = StatusChange, example = json!({ "status": "suspended", "reason": "Décision administrative" }))]
pub(super) struct StatusBody {
    #[schema(inline)]
    status: FilledStatus,
    /// Why: it stands in the history, and other services are told.
    reason: Option<Line>,
}

/// Whether the user may log in: only an active one may.
#[derive(ToSchema)]
#[schema(pattern = "^(active|pending|inactive|suspended|banned)$", example = "suspended")]
struct FilledStatus(String);

/// What became of a deletion.
#[derive(ToSchema)]
#[schema(as = Deleted, rename_all = "camelCase")]
pub(super) struct Deletion {
    success: bool,
    user_id: Name,
}

/// Which users are asked for.
#[derive(ToSchema)]
#[schema(as = BatchRequest, example = json!({ "ids": ["TEST123", "auth0|abc"] }))]
pub(super) struct BatchBody {
    /// Ids or matricules; what can be neither is left out like what names nobody.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
}

/// Which users are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchParameters {
    /// Ids or matricules with commas between; may come more than once.
    #[param(style = Form, explode = false, min_items = 1, max_items = 1000)]
    ids: Vec<Name>,
}

/// How a deletion is meant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeletionParameters {
    /// Personal data can't be destroyed in this release: anything but `false` is refused.
    #[param(value_type = String, required = false, pattern = "^false$")]
    erase: String,
}

/// Which part of all users is asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// How many users a page has; without it all come as one stream.
    #[param(value_type = u16, required = false, minimum = 1, maximum = 1000)]
    limit: u16,
    /// Only users behind this id.
    #[param(value_type = Name, required = false)]
    after: Name,
    /// Somewhere in name, matricule, e-mail address or username, in any case, with or without accents.
    #[param(value_type = Line, required = false)]
    q: Line,
    /// Exactly this ministry.
    #[param(value_type = Line, required = false)]
    ministere: Line,
    #[param(value_type = Sexe, required = false)]
    sexe: Sexe,
    #[param(inline, value_type = Status, required = false)]
    status: Status,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;

    use super::super::fields::CHANGEABLE;
    use super::*;
    use crate::schemas::properties;

    #[test]
    fn a_change_is_described_with_each_field_it_may_have() {
        let mut names = BTreeSet::new();
        for schema in [ChangesBody::schema(), OptionalFields::schema()] {
            properties(&serde_json::to_value(schema).unwrap(), &mut names);
        }
        assert_eq!(names, CHANGEABLE.map(str::to_owned).into());
    }
}
