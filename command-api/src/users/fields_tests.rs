use serde_json::json;

use domain::values::{Patch, Preferences};

use super::*;

const FRESH: &str = "0190a7c4-0000-7000-8000-000000000001";

fn created(body: &Value) -> Result<NewUser, ApiError> {
    creation(body.as_object().unwrap().clone(), FRESH).map(|(user, _)| user)
}

fn changed(body: &Value) -> Result<Changes, ApiError> {
    changes(body.as_object().unwrap().clone())
}

fn wrong<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Vec<&'static str> {
    match result {
        Err(ApiError::Invalid(details)) => details.iter().map(|detail| detail.field).collect(),
        other => panic!("{other:?}"),
    }
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({ "matricule": "570479H", "nom": "Kabila" });
    body[field] = value;
    body
}

#[test]
fn a_creation_needs_a_matricule_and_a_name() {
    let user = created(&json!({ "matricule": " 570479H ", "nom": " Kabila " })).unwrap();
    assert_eq!(user.id.as_str(), FRESH);
    assert_eq!(user.matricule.unwrap().as_str(), "570479H");
    assert_eq!(user.nom.as_str(), "Kabila");
    assert_eq!(wrong(created(&json!({}))), ["matricule", "nom"]);
    for empty in [Value::Null, json!(""), json!(" \t\n")] {
        assert_eq!(wrong(created(&with("nom", empty.clone()))), ["nom"]);
        assert_eq!(wrong(created(&with("matricule", empty))), ["matricule"]);
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let body = json!({
        "id": "all", "matricule": "a b", "nom": 1, "prenom": [], "ministere": {}, "avatar": "ftp://a", "sexe": "X",
        "email": "nobody", "username": true, "telephone": 243, "preferences": [], "password": "secret",
        "customerId": "/", "userType": "BANK", "isCompanyOwner": "true",
    });
    assert_eq!(
        wrong(created(&body)),
        [
            "password",
            "id",
            "customerId",
            "matricule",
            "nom",
            "prenom",
            "ministere",
            "avatar",
            "sexe",
            "email",
            "username",
            "telephone",
            "preferences",
            "userType",
            "isCompanyOwner",
        ]
    );
    // A change ignores the id and the customer, as it ignores what it does not know.
    assert_eq!(
        wrong(changed(&body)),
        [
            "password",
            "matricule",
            "nom",
            "prenom",
            "ministere",
            "avatar",
            "sexe",
            "email",
            "username",
            "telephone",
            "preferences",
            "userType",
            "isCompanyOwner",
        ]
    );
}

#[test]
fn a_null_character_in_a_text_is_wrong() {
    for field in ["nom", "prenom", "ministere", "username", "telephone", "email", "avatar", "matricule", "id"]
    {
        assert_eq!(wrong(created(&with(field, json!("http://a.b/\0")))), [field]);
    }
    assert_eq!(wrong(created(&with("preferences", json!({ "a": "\0" })))), ["preferences"]);
}

#[test]
fn a_text_has_200_characters_at_most() {
    assert!(created(&with("prenom", json!("é".repeat(200)))).is_ok());
    assert_eq!(wrong(created(&with("prenom", json!("é".repeat(201))))), ["prenom"]);
}

#[test]
fn empty_optional_fields_are_absent_at_creation() {
    let body = json!({
        "matricule": "1", "nom": "a", "id": "", "prenom": "", "ministere": null, "avatar": " ", "sexe": "",
        "email": "", "username": "", "telephone": "", "preferences": null, "password": "", "customerId": "",
        "userType": "", "isCompanyOwner": null,
    });
    assert_eq!(created(&body).unwrap(), created(&json!({ "matricule": "1", "nom": "a" })).unwrap());
    // A profile without preferences shows {}.
    assert_eq!(created(&with("preferences", json!({}))).unwrap().preferences, None);
}

#[test]
fn empty_optional_fields_are_cleared_by_a_change() {
    for empty in [Value::Null, json!(""), json!("  ")] {
        for field in [
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
        ] {
            let changes = changed(&json!({ field: empty })).unwrap();
            assert!(!changes.is_empty(), "{field}");
        }
    }
    let changes = changed(&json!({ "isCompanyOwner": "", "prenom": null })).unwrap();
    assert_eq!((changes.is_company_owner, changes.prenom), (Some(false), Patch::Clear));
}

#[test]
fn a_name_and_a_matricule_cannot_be_cleared() {
    for empty in [Value::Null, json!(""), json!("  ")] {
        assert_eq!(wrong(changed(&json!({ "nom": empty, "matricule": empty }))), ["matricule", "nom"]);
    }
}

#[test]
fn the_avatar_has_another_name_and_its_own_wins() {
    let avatar = |body: Value| created(&body).unwrap().avatar.map(|url| url.as_str().to_owned());
    assert_eq!(avatar(with("profile_pic", json!("http://a.b/p"))), Some("http://a.b/p".into()));
    let mut both = with("profile_pic", json!("not even a URL"));
    both["avatar"] = json!("http://a.b/a");
    assert_eq!(avatar(both.clone()), Some("http://a.b/a".into()));
    both["avatar"] = Value::Null;
    assert_eq!(changed(&both).unwrap().avatar, Patch::Clear);
    assert_eq!(wrong(created(&with("profile_pic", json!("a")))), ["profile_pic"]);
}

#[test]
fn a_change_without_a_field_it_knows_is_wrong() {
    for body in [json!({}), json!({ "id": "a", "customerId": "b", "_id": "c", "fullName": "d" })] {
        assert_eq!(wrong(changed(&body)), ["body"]);
    }
    assert_eq!(wrong(changed(&json!({ "password": "secret" }))), ["password"]);
    assert_eq!(wrong(changed(&json!({ "password": null }))), ["body"]);
}

/// A new field has to be named here, or this does not compile.
#[test]
fn each_field_of_a_change_may_be_the_only_one() {
    let all = Changes {
        matricule: Some(Matricule::parse("M1").unwrap()),
        nom: Some(Text::parse("N").unwrap()),
        prenom: Patch::Set(Text::parse("P").unwrap()),
        ministere: Patch::Set(Text::parse("M").unwrap()),
        avatar: Patch::Set(AvatarUrl::parse("http://a.b/a").unwrap()),
        sexe: Patch::Set(Sexe::parse("F").unwrap()),
        email: Patch::Set(Email::parse("a@example.com").unwrap()),
        username: Patch::Set(Username::parse("u").unwrap()),
        telephone: Patch::Set(Text::parse("1").unwrap()),
        preferences: Patch::Set(Preferences::parse(json!({ "a": 1 })).unwrap()),
        user_type: Patch::Set(UserType::parse("SME").unwrap()),
        is_company_owner: Some(true),
    };
    let Value::Object(fields) = serde_json::to_value(&all).unwrap() else { panic!("no object") };
    assert_eq!(changes(fields.clone()).unwrap(), all);
    for (name, value) in fields {
        let alone = json!({ name: value });
        assert_eq!(serde_json::to_value(changed(&alone).unwrap()).unwrap(), alone);
    }
}

#[test]
fn every_changeable_field_is_one_that_a_change_reads() {
    for field in CHANGEABLE {
        assert_eq!(wrong(changed(&json!({ field: [1] }))), [field]);
    }
}
