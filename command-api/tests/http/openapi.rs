//! The document holds for every answer that any test here gets.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use sqlx::PgPool;

use crate::{Answer, JSON, service, service_of_operations, service_without_projection};

pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(command_api::openapi()).unwrap());

fn paths() -> &'static Map<String, Value> {
    DOCUMENT["paths"].as_object().unwrap()
}

/// The described path that matches: with the fewest variables, as the router chooses.
fn described(path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let matches = |template: &str| {
        template.split('/').count() == path.split('/').count()
            && template
                .split('/')
                .zip(path.split('/'))
                .all(|(known, found)| known == found || (known.starts_with('{') && !found.is_empty()))
    };
    let found = paths().iter().filter(|(template, _)| matches(template));
    found.min_by_key(|(template, _)| template.matches('{').count()).map(|(name, item)| (&**name, item))
}

fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let whole = json!({ "components": DOCUMENT["components"], "allOf": [schema] });
    let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Fails where an answer is not as the document says.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let asked = format!("{method} {path}: {} {}", answer.status, answer.text);
    let method = if method == "HEAD" { "GET" } else { method };
    let refusal = |name: &str| DOCUMENT["components"]["responses"][name].clone();
    let response = match described(path) {
        None => refusal("NoSuchRoute"),
        // What begins a path of the service is no user's name.
        Some(_) if answer.status == 404 && answer.text.contains("\"NOT_FOUND\"") => refusal("NoSuchRoute"),
        Some((_, item)) => match item.get(method.to_lowercase()) {
            None => refusal("MethodNotAllowed"),
            Some(operation) => operation["responses"][answer.status.to_string()].clone(),
        },
    };
    assert!(response.is_object(), "not described: {asked}");
    let known = response["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase());
    let known: BTreeSet<String> = known.chain(COMMON.map(str::to_owned)).collect();
    for name in answer.headers.keys() {
        assert!(known.contains(name.as_str()), "header {name} is not described: {asked}");
    }
    let Some(content) = response["content"].as_object() else {
        assert_eq!(answer.text, "", "{asked}");
        return;
    };
    let media_type = answer.header("content-type").unwrap().split(';').next().unwrap();
    let form = content.get(media_type).unwrap_or_else(|| panic!("{media_type} is not described: {asked}"));
    if media_type == "application/json" && !answer.text.is_empty() {
        assert_eq!(errors(&form["schema"], &answer.json()), [""; 0], "{asked}");
    }
}

/// Of every answer, or of HTTP itself.
const COMMON: [&str; 10] = [
    "content-type",
    "content-length",
    "allow",
    "cache-control",
    "content-security-policy",
    "referrer-policy",
    "set-cookie",
    "vary",
    "www-authenticate",
    "x-content-type-options",
];

fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    paths().iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (&**path, &**method, operation))
    })
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn every_path_and_method_of_the_router_is_described(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    for (template, item) in paths() {
        let path = template.replace("{id}", "u1").replace("{matricule}", "m1").replace("{role}", "r1");
        // No path has this method, so the router tells which it has.
        let answer = service.send("PATCH", &path, &[], "").await;
        assert_eq!(answer.status, 405, "{path}");
        let routed = answer.header("allow").unwrap().split(',').filter(|method| *method != "HEAD");
        let routed: BTreeSet<String> = routed.map(str::to_lowercase).collect();
        let described: BTreeSet<String> = item.as_object().unwrap().keys().cloned().collect();
        assert_eq!(routed, described, "{path}");
    }
    assert_eq!(paths().len(), 49);
}

#[test]
fn every_operation_has_an_id_of_its_own_a_summary_and_the_answers_of_all() {
    assert!(DOCUMENT["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations() {
        let is_watching = path.starts_with("/health") || path == "/metrics";
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} twice");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{id}");
        for status in ["500", "503"].into_iter().chain((!is_watching).then_some("429")) {
            assert!(operation["responses"][status].is_object(), "{method} {path} {status}");
        }
        assert_eq!(operation["responses"]["408"].is_object(), operation["requestBody"].is_object(), "{id}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(response["headers"]["X-Request-Id"].is_object(), "{id} {status}");
        }
    }
}

#[test]
fn the_document_refers_to_nothing_that_is_not_there() {
    fn refs(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(target) if key == "$ref" => drop(found.insert(target.clone())),
                        _ => refs(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    refs(&DOCUMENT, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for target in found {
        assert!(DOCUMENT.pointer(target.trim_start_matches('#')).is_some(), "{target}");
    }
}

#[test]
fn examples_have_the_form_they_stand_beside() {
    let mut seen = 0;
    for (_, _, operation) in operations() {
        for response in operation["responses"].as_object().unwrap().values() {
            for form in response["content"].as_object().into_iter().flat_map(Map::values) {
                if let Some(example) = form.get("example") {
                    assert_eq!(errors(&form["schema"], example), [""; 0]);
                    seen += 1;
                }
            }
        }
    }
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        if let Some(example) = schema.get("example") {
            assert_eq!(errors(schema, example), [""; 0], "{name}");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

/// What the document says of a body is what the service says.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_the_form_of_a_body_refuses_is_refused(pool: PgPool) {
    let service = service_without_projection(&pool).await;
    let creation = &DOCUMENT["paths"]["/"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let long = "x".repeat(201);
    for (changes, accepted) in [
        (json!({}), true),
        (json!({ "prenom": null, "sexe": "", "email": "", "avatar": "", "userType": "", "id": "" }), true),
        (json!({ "prenom": "Zoé", "sexe": "F", "email": "z@a.cd", "avatar": "HTTPS://a.cd" }), true),
        (json!({ "userType": "SME", "isCompanyOwner": true, "preferences": { "a": [1] } }), true),
        (json!({ "preferences": null, "isCompanyOwner": null, "password": "", "x": 1 }), true),
        (json!({ "id": "auth0|abc", "username": "é".repeat(200) }), true),
        (json!({ "nom": "" }), false),
        (json!({ "nom": "  " }), false),
        (json!({ "nom": null }), false),
        (json!({ "nom": long }), false),
        (json!({ "nom": "a\u{7}b" }), false),
        (json!({ "matricule": "é" }), false),
        (json!({ "matricule": "x".repeat(129) }), false),
        (json!({ "id": "-a" }), false),
        (json!({ "prenom": 1 }), false),
        (json!({ "telephone": long }), false),
        (json!({ "sexe": "X" }), false),
        (json!({ "userType": "sme" }), false),
        (json!({ "email": "a.cd" }), false),
        (json!({ "avatar": "ftp://a.cd" }), false),
        (json!({ "avatar": format!("http://a.cd/{}", "x".repeat(2048)) }), false),
        (json!({ "preferences": [] }), false),
        (json!({ "isCompanyOwner": 1 }), false),
        (json!({ "password": "secret" }), false),
    ] {
        let mut body = json!({ "matricule": format!("m{}", fresh()), "nom": "n" });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let wrong = errors(creation, &body);
        assert_eq!(wrong.is_empty(), accepted, "{changes}: {wrong:?}");
        let answer = service.send("POST", "/", &[JSON, ("prefer", "respond-async")], body.to_string()).await;
        assert_eq!(answer.status, if accepted { 201 } else { 400 }, "{changes}: {}", answer.text);
    }
}

/// A number that no other call gets.
fn fresh() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn the_document_is_served_where_the_routes_are(pool: PgPool) {
    let service = service(&pool).await;
    assert_eq!(service.get("/openapi.json").await.json(), *DOCUMENT);
    let of_operations = service_of_operations(&pool).await;
    let document = of_operations.get("/openapi.json").await.json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let of_any_process = [
        "/asyncapi.json",
        "/docs",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/schemas/{type}/{file}",
    ];
    assert_eq!(paths, of_any_process);
    for service in [service, of_operations] {
        let page = service.get("/docs").await;
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; frame-ancestors 'none'; connect-src 'self';"),
            "{policy}"
        );
    }
}
