//! What is published of the messages is what they are: other services build on it.

use std::path::Path;

use messaging::schemas::{self, Difference};
use serde_json::{Value, json};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

#[test]
fn no_form_breaks_what_is_published_of_it() {
    let Difference { stale, breaking } = schemas::compare(&Path::new(DOCS).join("schemas")).unwrap();
    assert!(
        breaking.is_empty(),
        "readers would no longer understand these; give the type a new version in forms.rs: {breaking:#?}"
    );
    assert!(stale.is_empty(), "`make contract` writes these again: {stale:#?}");
}

#[test]
fn the_published_document_is_what_the_forms_make() {
    let published = std::fs::read_to_string(Path::new(DOCS).join("asyncapi.json")).unwrap_or_default();
    assert!(
        published == schemas::text(&schemas::asyncapi()),
        "`make contract` writes docs/asyncapi.json again"
    );
}

#[test]
fn what_is_published_is_served() {
    for (file, schema) in schemas::schemas() {
        assert!(schemas::published()[&file] == schemas::text(&schema), "{file} is not built in as it is");
    }
}

#[test]
fn a_breaking_change_is_refused_and_a_new_version_is_not() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(schemas::write(folder.path()).unwrap().len(), schemas::schemas().len());
    assert_eq!(schemas::compare(folder.path()).unwrap(), Difference::default());

    // As if `user.deleted` had said more before.
    let file = folder.path().join("user.deleted/1.json");
    let mut before: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    before["oneOf"][0]["properties"]["reason"] = json!({ "type": "string" });
    std::fs::write(&file, schemas::text(&before)).unwrap();
    let difference = schemas::compare(folder.path()).unwrap();
    let gone = "user.deleted/1.json: the value \"on the topic user.deleted and its copies\": reason is gone";
    assert_eq!(difference.breaking, [gone]);
    let refused = schemas::write(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("new version") && refused.contains("reason is gone"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), schemas::text(&before), "it was written over");

    // Nor may a type go.
    std::fs::create_dir(folder.path().join("user.gone")).unwrap();
    let breaking = schemas::compare(folder.path()).unwrap().breaking;
    assert!(breaking.contains(&"user.gone: the type is gone".to_owned()), "{breaking:?}");
    std::fs::remove_dir(folder.path().join("user.gone")).unwrap();

    // What is published of another version stays as it is.
    std::fs::rename(&file, folder.path().join("user.deleted/0.json")).unwrap();
    assert_eq!(schemas::write(folder.path()).unwrap(), ["user.deleted/1.json"]);
    assert!(folder.path().join("user.deleted/0.json").exists());
}
