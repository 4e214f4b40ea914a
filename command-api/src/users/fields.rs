//! From a JSON object to a command, with everything that is wrong told at once.

use domain::ids::{CustomerId, Matricule, UserId};
use domain::password::Password;
use domain::user::{Address, AddressChanges, Changes, NewUser, Status};
use domain::values::{AvatarUrl, Email, Sexe, Text, UserType, Username};
use serde_json::{Map, Value};

use crate::error::{ApiError, Detail};
use crate::fields::{Fields, Parse, REQUIRED, set};

/// The fields that a change may name.
pub(super) const CHANGEABLE: [&str; 13] = [
    "matricule",
    "nom",
    "prenom",
    "ministere",
    "avatar",
    "profile_pic",
    "sexe",
    "email",
    "username",
    "telephone",
    "preferences",
    "userType",
    "isCompanyOwner",
];

/// Those of them that nobody changes of themselves.
pub(super) const ADMINISTRATORS: [&str; 4] = ["matricule", "ministere", "userType", "isCompanyOwner"];

/// Reads the body of a creation; `fresh` is the id of a user that brings none.
pub(super) fn creation(
    fields: Map<String, Value>,
    fresh: &str,
) -> Result<(NewUser, Option<Password>), ApiError> {
    let mut fields = Fields::of(fields);
    let password = set(fields.optional("password", Password::parse));
    let id = match set(fields.optional("id", UserId::parse)) {
        Some(id) => id,
        None => UserId::parse(fresh).map_err(|invalid| ApiError::internal(invalid.to_string()))?,
    };
    let user = new_user(&mut fields, id, Fields::required);
    fields.finish(user).map(|user| (user, password))
}

/// Reads whom to create; `matricule` says whether there has to be one.
pub(crate) fn new_user(
    fields: &mut Fields,
    id: UserId,
    matricule: fn(&mut Fields, &'static str, Parse<Matricule>) -> Option<Matricule>,
) -> Option<NewUser> {
    let customer_id = set(fields.optional("customerId", CustomerId::parse));
    let matricule = matricule(fields, "matricule", Matricule::parse);
    let nom = fields.required("nom", Text::parse);
    let Changes {
        matricule: _,
        nom: _,
        prenom,
        ministere,
        avatar,
        sexe,
        email,
        username,
        telephone,
        preferences,
        user_type,
        is_company_owner,
    } = fields.user_changes();
    Some(NewUser {
        id,
        matricule,
        nom: nom?,
        prenom: set(prenom),
        ministere: set(ministere),
        avatar: set(avatar),
        sexe: set(sexe),
        email: set(email),
        username: set(username),
        telephone: set(telephone),
        preferences: set(preferences),
        customer_id,
        role: None,
        customer_name: None,
        user_type: set(user_type),
        is_company_owner: is_company_owner.unwrap_or_default(),
    })
}

/// Reads the body of a change.
pub(super) fn changes(fields: Map<String, Value>) -> Result<Changes, ApiError> {
    let mut fields = Fields::of(fields);
    fields.refuse_password();
    fields.expect_one_of(&CHANGEABLE);
    let matricule = fields.named("matricule", Matricule::parse);
    let nom = fields.named("nom", Text::parse);
    let changes = Changes { matricule, nom, ..fields.user_changes() };
    fields.finish(Some(changes))
}

/// Reads the body of a registration.
pub(super) fn registration(
    mut fields: Map<String, Value>,
    fresh: &str,
) -> Result<(NewUser, Password), ApiError> {
    // Nobody decides these of oneself.
    for name in ["id", "customerId", "userType", "isCompanyOwner"] {
        fields.remove(name);
    }
    let is_there = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(value) => !value.is_null(),
        None => false,
    };
    let missing = ["email", "password"].into_iter().filter(|name| !is_there(name));
    let missing: Vec<Detail> = missing.map(|name| Detail::new(name, REQUIRED)).collect();
    match creation(fields, fresh) {
        Ok((user, Some(password))) if missing.is_empty() => Ok((user, password)),
        Ok(_) => Err(ApiError::Invalid(missing)),
        Err(ApiError::Invalid(wrong)) => Err(ApiError::Invalid([wrong, missing].concat())),
        Err(error) => Err(error),
    }
}

/// The fields of an address.
const OF_ADDRESS: [&str; 6] = ["label", "line1", "line2", "city", "postalCode", "country"];

/// Reads the body of a new address.
pub(super) fn address(fields: Map<String, Value>) -> Result<Address, ApiError> {
    let mut fields = Fields::of(fields);
    let [label, line2, postal_code] =
        ["label", "line2", "postalCode"].map(|name| set(fields.optional(name, Text::parse)));
    let [line1, city, country] = ["line1", "city", "country"].map(|name| fields.required(name, Text::parse));
    match (line1, city, country) {
        (Some(line1), Some(city), Some(country)) if fields.wrong.is_empty() => {
            Ok(Address { label, line1, line2, city, postal_code, country })
        }
        _ => Err(ApiError::Invalid(fields.wrong)),
    }
}

/// Reads the body of a change of an address.
pub(super) fn address_changes(fields: Map<String, Value>) -> Result<AddressChanges, ApiError> {
    let mut fields = Fields::of(fields);
    fields.expect_one_of(&OF_ADDRESS);
    let [label, line2, postal_code] =
        ["label", "line2", "postalCode"].map(|name| fields.optional(name, Text::parse));
    let [line1, city, country] = ["line1", "city", "country"].map(|name| fields.named(name, Text::parse));
    fields.finish(Some(AddressChanges { label, line1, line2, city, postal_code, country }))
}

/// Reads the body of a change of status.
pub(super) fn status(fields: Map<String, Value>) -> Result<(Status, Option<Text>), ApiError> {
    let mut fields = Fields::of(fields);
    let (to, reason) = (fields.required("status", Status::parse), fields.optional("reason", Text::parse));
    fields.finish(to.map(|to| (to, set(reason))))
}

/// What only users have.
trait UserFields {
    fn user_changes(&mut self) -> Changes;
    fn refuse_password(&mut self);
}

impl UserFields for Fields {
    /// What creation and change have in common: all but `matricule` and `nom`.
    fn user_changes(&mut self) -> Changes {
        let avatar = if self.fields.contains_key("avatar") { "avatar" } else { "profile_pic" };
        Changes {
            matricule: None,
            nom: None,
            prenom: self.optional("prenom", Text::parse),
            ministere: self.optional("ministere", Text::parse),
            avatar: self.optional(avatar, AvatarUrl::parse),
            sexe: self.optional("sexe", Sexe::parse),
            email: self.optional("email", Email::parse),
            username: self.optional("username", Username::parse),
            telephone: self.optional("telephone", Text::parse),
            preferences: self.object("preferences"),
            user_type: self.optional("userType", UserType::parse),
            is_company_owner: self.boolean("isCompanyOwner"),
        }
    }

    /// Who sends a password must not believe that it counts.
    fn refuse_password(&mut self) {
        match self.fields.remove("password") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(_) => {
                self.refuse::<()>("password", "un mot de passe se change par PUT /:id/password");
            }
        }
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
