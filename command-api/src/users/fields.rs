//! From a JSON object to a command, with everything that is wrong told at once.

use domain::ids::{CustomerId, Matricule, UserId};
use domain::password::Password;
use domain::user::{Address, AddressChanges, Changes, NewUser, Status};
use domain::values::{AvatarUrl, Email, Invalid, Patch, Preferences, Sexe, Text, UserType, Username};
use serde_json::{Map, Value};

use crate::error::{ApiError, Detail};

/// What is said of a field that has to be there.
const REQUIRED: &str = "champ obligatoire";

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
    let mut fields = Fields { fields, wrong: Vec::new() };
    let password = set(fields.optional("password", Password::parse));
    let id = fields.optional("id", UserId::parse);
    let customer_id = set(fields.optional("customerId", CustomerId::parse));
    let matricule = fields.required("matricule", Matricule::parse);
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
    } = fields.changes();
    let (Some(matricule), Some(nom), []) = (matricule, nom, &*fields.wrong) else {
        return Err(ApiError::Invalid(fields.wrong));
    };
    if customer_id.is_some() {
        // Nothing makes customers yet, so this names none.
        return Err(ApiError::CustomerNotFound);
    }
    let id = match set(id) {
        Some(id) => id,
        None => UserId::parse(fresh).map_err(|invalid| ApiError::internal(invalid.to_string()))?,
    };
    let user = NewUser {
        id,
        matricule: Some(matricule),
        nom,
        prenom: set(prenom),
        ministere: set(ministere),
        avatar: set(avatar),
        sexe: set(sexe),
        email: set(email),
        username: set(username),
        telephone: set(telephone),
        preferences: set(preferences),
        customer_id,
        customer_name: None,
        user_type: set(user_type),
        is_company_owner: is_company_owner.unwrap_or_default(),
    };
    Ok((user, password))
}

/// Reads the body of a change.
pub(super) fn changes(fields: Map<String, Value>) -> Result<Changes, ApiError> {
    let mut fields = Fields { fields, wrong: Vec::new() };
    fields.refuse_password();
    if fields.wrong.is_empty() && !CHANGEABLE.iter().any(|name| fields.fields.contains_key(*name)) {
        return Err(ApiError::invalid(
            "body",
            format!("au moins un de ces champs attendu : {}", CHANGEABLE.join(", ")),
        ));
    }
    let names = |fields: &Fields, name| fields.fields.contains_key(name);
    let matricule =
        if names(&fields, "matricule") { fields.required("matricule", Matricule::parse) } else { None };
    let nom = if names(&fields, "nom") { fields.required("nom", Text::parse) } else { None };
    let changes = Changes { matricule, nom, ..fields.changes() };
    if fields.wrong.is_empty() { Ok(changes) } else { Err(ApiError::Invalid(fields.wrong)) }
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
    let mut fields = Fields { fields, wrong: Vec::new() };
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
    let mut fields = Fields { fields, wrong: Vec::new() };
    if !OF_ADDRESS.iter().any(|name| fields.fields.contains_key(*name)) {
        let expected = format!("au moins un de ces champs attendu : {}", OF_ADDRESS.join(", "));
        return Err(ApiError::invalid("body", expected));
    }
    let [label, line2, postal_code] =
        ["label", "line2", "postalCode"].map(|name| fields.optional(name, Text::parse));
    let [line1, city, country] = ["line1", "city", "country"].map(|name| {
        let is_named = fields.fields.contains_key(name);
        is_named.then(|| fields.required(name, Text::parse)).flatten()
    });
    let changes = AddressChanges { label, line1, line2, city, postal_code, country };
    if fields.wrong.is_empty() { Ok(changes) } else { Err(ApiError::Invalid(fields.wrong)) }
}

/// Reads the body of a change of status.
pub(super) fn status(fields: Map<String, Value>) -> Result<(Status, Option<Text>), ApiError> {
    let mut fields = Fields { fields, wrong: Vec::new() };
    let (to, reason) = (fields.required("status", Status::parse), fields.optional("reason", Text::parse));
    match to {
        Some(to) if fields.wrong.is_empty() => Ok((to, set(reason))),
        Some(_) | None => Err(ApiError::Invalid(fields.wrong)),
    }
}

fn set<T>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Keep | Patch::Clear => None,
        Patch::Set(value) => Some(value),
    }
}

/// The fields still to be read, and what was wrong with those read so far.
struct Fields {
    fields: Map<String, Value>,
    wrong: Vec<Detail>,
}

impl Fields {
    /// What creation and change have in common: all but `matricule` and `nom`.
    fn changes(&mut self) -> Changes {
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
            preferences: self.preferences(),
            user_type: self.optional("userType", UserType::parse),
            is_company_owner: self.boolean("isCompanyOwner"),
        }
    }

    /// [`None`] if it is missing, empty or wrong, which is then told.
    fn required<T>(&mut self, name: &'static str, parse: fn(&str) -> Result<T, Invalid>) -> Option<T> {
        match self.optional(name, parse) {
            Patch::Set(value) => Some(value),
            // Wrong, and told already.
            Patch::Keep if self.wrong.iter().any(|detail| detail.field == name) => None,
            Patch::Keep | Patch::Clear => self.refuse(name, REQUIRED),
        }
    }

    /// A text; null and nothing but space clear it.
    fn optional<T>(&mut self, name: &'static str, parse: fn(&str) -> Result<T, Invalid>) -> Patch<T> {
        match self.fields.remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
            Some(Value::String(text)) => match parse(&text) {
                Ok(value) => Patch::Set(value),
                Err(invalid) => self.refuse(name, invalid.to_string()).unwrap_or_default(),
            },
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                self.refuse(name, "chaîne de caractères attendue").unwrap_or_default()
            }
        }
    }

    fn preferences(&mut self) -> Patch<Preferences> {
        const NAME: &str = "preferences";
        match self.fields.remove(NAME) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
            // What a profile shows where there are none.
            Some(Value::Object(empty)) if empty.is_empty() => Patch::Clear,
            Some(value) => match Preferences::parse(value) {
                Ok(preferences) => Patch::Set(preferences),
                Err(invalid) => self.refuse(NAME, invalid.to_string()).unwrap_or_default(),
            },
        }
    }

    /// Null counts as false.
    fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.fields.remove(name) {
            None => None,
            Some(Value::Null) => Some(false),
            Some(Value::String(text)) if text.is_empty() => Some(false),
            Some(Value::Bool(value)) => Some(value),
            Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                self.refuse(name, "booléen attendu")
            }
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

    fn refuse<T>(&mut self, field: &'static str, message: impl Into<String>) -> Option<T> {
        self.wrong.push(Detail::new(field, message));
        None
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
