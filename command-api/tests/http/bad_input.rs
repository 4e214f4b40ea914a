use axum::body::Body;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{JSON, Service, service_without_projection as service};

async fn with(service: &Service, field: &str, value: Value) -> Vec<String> {
    let mut body = json!({ "matricule": "m1", "nom": "a" });
    body[field] = value;
    let created = service.post("/", &body).await.fields();
    assert_eq!(service.put("/u1", &json!({ field: body[field] })).await.fields(), created);
    created
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn every_field_that_is_wrong_is_named(pool: PgPool) {
    let service = service(&pool).await;
    let answer = service.post("/", &json!({ "nom": "", "sexe": "X" })).await;
    assert_eq!(
        answer.text,
        concat!(
            r#"{"success":false,"message":"Données invalides","code":"VALIDATION_ERROR","details":["#,
            r#"{"field":"matricule","message":"champ obligatoire"},"#,
            r#"{"field":"nom","message":"champ obligatoire"},"#,
            r#"{"field":"sexe","message":"M ou F"}]}"#
        )
    );
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_value_that_breaks_a_rule_is_a_validation_error(pool: PgPool) {
    let service = service(&pool).await;
    for (field, values) in [
        (
            "matricule",
            vec![
                json!(null),
                json!(""),
                json!("a b"),
                json!("-a"),
                json!("ALL"),
                json!("a".repeat(129)),
                json!(1),
            ],
        ),
        (
            "nom",
            vec![
                json!(null),
                json!(" "),
                json!("a".repeat(201)),
                json!("a\nb"),
                json!("a\u{7f}"),
                json!([]),
                json!(1),
            ],
        ),
        ("prenom", vec![json!("a".repeat(201)), json!("a\0b"), json!({}), json!(false)]),
        (
            "avatar",
            vec![
                json!("javascript:alert(1)"),
                json!("http://"),
                json!(format!("http://a/{}", "a".repeat(2048))),
            ],
        ),
        ("profile_pic", vec![json!("a"), json!(1)]),
        ("sexe", vec![json!("H"), json!("m")]),
        ("email", vec![json!("a"), json!("a@"), json!("a b@c.d")]),
        ("preferences", vec![json!([]), json!("{}"), json!(1), json!({ "a": "x".repeat(16 * 1024) })]),
        ("userType", vec![json!("sme"), json!("SME_USER")]),
        ("isCompanyOwner", vec![json!("true"), json!(1)]),
        ("password", vec![json!("correct"), json!("Password2026"), json!("a".repeat(257)), json!(1)]),
    ] {
        for value in values {
            assert_eq!(with(&service, field, value.clone()).await, [field], "{value}");
        }
    }
    for id in [json!("a/b"), json!("login"), json!(1), json!("é")] {
        let body = json!({ "matricule": "m1", "nom": "a", "id": id });
        assert_eq!(service.post("/", &body).await.fields(), ["id"], "{id}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_null_character_in_a_text_is_a_validation_error(pool: PgPool) {
    let service = service(&pool).await;
    for field in ["matricule", "nom", "prenom", "ministere", "username", "telephone", "email", "avatar"] {
        assert_eq!(with(&service, field, json!("a\0b")).await, [field]);
    }
    assert_eq!(with(&service, "preferences", json!({ "a\0": 1 })).await, ["preferences"]);
    assert_eq!(service.get("/a%00b").await.fields(), ["id"]);
    assert_eq!(service.get("/all?q=a%00b").await.fields(), ["q"]);
    let batch = service.post("/batch", &json!({ "ids": ["a\0b"] })).await;
    assert_eq!(batch.text, r#"{"users":[],"count":0}"#);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_customer_that_does_not_exist_is_not_found(pool: PgPool) {
    let service = service(&pool).await;
    let answer = service.post("/", &json!({ "matricule": "m1", "nom": "a", "customerId": "c1" })).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.text, r#"{"success":false,"message":"Client non trouvé","code":"CUSTOMER_NOT_FOUND"}"#);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_change_that_names_no_field_is_a_validation_error(pool: PgPool) {
    let service = service(&pool).await;
    for body in [json!({}), json!({ "id": "x", "customerId": "y", "surname": "z" })] {
        assert_eq!(service.put("/u1", &body).await.fields(), ["body"]);
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_body_that_is_no_json_is_malformed(pool: PgPool) {
    let service = service(&pool).await;
    for body in [&b""[..], b"{", b"{\"nom\":\"\xff\"}", b"nom=a", b"{\"nom\":\"\\ud800\"}"] {
        for (method, path) in [("POST", "/"), ("PUT", "/u1"), ("POST", "/batch")] {
            let answer = service.send(method, path, &[JSON], Body::from(body)).await;
            assert_eq!(answer.status, 400);
            assert_eq!(
                answer.text,
                r#"{"success":false,"message":"Le corps de la requête n'est pas un JSON valide","code":"MALFORMED_JSON"}"#
            );
        }
    }
    for body in ["null", "[]", "\"a\"", "1"] {
        assert_eq!(service.send("POST", "/", &[JSON], body).await.fields(), ["body"], "{body}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_body_of_another_type_is_unsupported(pool: PgPool) {
    let service = service(&pool).await;
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json; charset=iso-8859-1")],
        &[JSON, ("content-encoding", "gzip")],
    ] {
        for (method, path) in [("POST", "/"), ("PUT", "/u1"), ("POST", "/batch")] {
            let answer = service.send(method, path, headers, "{}").await;
            assert_eq!(answer.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".into()), "{headers:?}");
        }
    }
    let accepted = [("content-type", "application/vnd.api+json; charset=UTF-8")];
    assert_eq!(service.send("POST", "/", &accepted, "{}").await.status, 400);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_body_of_more_than_a_mebibyte_is_too_large(pool: PgPool) {
    let service = service(&pool).await;
    let body = json!({ "matricule": "m1", "nom": "a", "unknown": "x".repeat(1024 * 1024) }).to_string();
    let answer = service.send("POST", "/", &[JSON], body).await;
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.text,
        r#"{"success":false,"message":"Le corps de la requête dépasse la taille permise","code":"PAYLOAD_TOO_LARGE"}"#
    );
    let announced = service.send("PUT", "/u1", &[JSON, ("content-length", "1048577")], "{}").await;
    assert_eq!(announced.refusal(), (413, "PAYLOAD_TOO_LARGE".into()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_path_that_names_nobody_possible_is_a_validation_error(pool: PgPool) {
    let service = service(&pool).await;
    for path in ["/-a", "/a%20b", "/a%2Fb", "/%FF", "/%C3%A9", "/matricule/a%00"] {
        assert_eq!(service.get(path).await.fields(), ["id"], "{path}");
    }
    for reserved in ["/favicon.ico", "/Customers", "/matricule/login"] {
        assert_eq!(service.get(reserved).await.refusal(), (404, "NOT_FOUND".into()), "{reserved}");
    }
    let body = json!({ "nom": "a" });
    assert_eq!(service.put("/subscriptions", &body).await.refusal(), (404, "NOT_FOUND".into()));
    assert_eq!(service.put("/customers", &body).await.refusal(), (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(service.delete("/a%20b").await.fields(), ["id"]);
    let long = format!("/{}", "a".repeat(129));
    assert_eq!(service.get(&long).await.fields(), ["id"]);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_wrong_header_is_a_validation_error(pool: PgPool) {
    let service = service(&pool).await;
    let body = json!({ "matricule": "m1", "nom": "a" }).to_string();
    for key in ["", "a b", &"k".repeat(256)] {
        let answer = service.send("POST", "/", &[JSON, ("idempotency-key", key)], body.clone()).await;
        assert_eq!(answer.fields(), ["Idempotency-Key"]);
    }
    for position in ["", "-1", "+1", "1.5", "a", "1,2", "9223372036854775808"] {
        assert_eq!(
            service.get_with("/u1", &[("x-min-position", position)]).await.fields(),
            ["X-Min-Position"],
            "{position}"
        );
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_wrong_parameter_is_a_validation_error(pool: PgPool) {
    let service = service(&pool).await;
    for (path, field) in [
        ("/all?limit=0", "limit"),
        ("/all?limit=1001", "limit"),
        ("/all?limit=-1", "limit"),
        ("/all?limit=%2B1", "limit"),
        ("/all?limit=", "limit"),
        ("/alls?limit=ten", "limit"),
        ("/all?limit=1&after=a%20b", "after"),
        ("/all?after=", "after"),
        ("/all?sexe=X", "sexe"),
        ("/all?status=alive", "status"),
        ("/all?q=%FF", "query"),
        ("/batch", "ids"),
        ("/batch?ids=", "ids"),
        ("/batch?ids=,,", "ids"),
    ] {
        assert_eq!(service.get(path).await.fields(), [field], "{path}");
    }
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    assert_eq!(service.get(&format!("/batch?ids={}", many.join(","))).await.fields(), ["ids"]);
    for ids in [json!(many), json!([]), json!("a"), json!(null), json!([1]), json!([["a"]])] {
        assert_eq!(service.post("/batch", &json!({ "ids": ids })).await.fields(), ["ids"]);
    }
    assert_eq!(service.post("/batch", &json!({})).await.fields(), ["ids"]);
}
