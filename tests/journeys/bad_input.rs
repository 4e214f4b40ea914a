//! What clients get wrong, over the wire: the contract's error each time, and never a 500.

use event_store::MIGRATOR;
use serde_json::json;
use sqlx::PgPool;

use crate::server::{Server, answer, error, header};

fn raw(
    server: &Server,
    method: &str,
    path: &str,
    kind: Option<&str>,
    body: Vec<u8>,
) -> reqwest::RequestBuilder {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let request = reqwest::Client::new().request(method, format!("{}{path}", server.base)).body(body);
    match kind {
        Some(kind) => request.header("content-type", kind),
        None => request,
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn bad_requests_get_the_error_that_fits(pool: PgPool) {
    let server = Server::on(&pool).await;
    let id = server.create("M1").await;
    let json = Some("application/json");
    let path = format!("/{id}");
    let (erase, as_it_was) = (format!("{path}?erase=true"), format!("{path}?at=1"));
    let two_mib = format!(r#"{{"matricule":"M2","nom":"{}"}}"#, "x".repeat(2 << 20));
    let cases = [
        ("POST", "/", json, "{\"nom\":", 400, "MALFORMED_JSON"),
        ("POST", "/", json, "", 400, "MALFORMED_JSON"),
        ("POST", "/", json, "[]", 400, "VALIDATION_ERROR"),
        ("POST", "/", Some("text/plain"), "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/", None, "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("POST", "/", json, r#"{"matricule":"M2"}"#, 400, "VALIDATION_ERROR"),
        ("POST", "/", json, r#"{"matricule":"M2","nom":"a\u0000b"}"#, 400, "VALIDATION_ERROR"),
        ("POST", "/", json, r#"{"matricule":"M2","nom":"x","password":"secret"}"#, 400, "VALIDATION_ERROR"),
        ("POST", "/", json, r#"{"matricule":"Login","nom":"x"}"#, 400, "VALIDATION_ERROR"),
        ("POST", "/", json, r#"{"matricule":"M2","nom":"x","id":"a b"}"#, 400, "VALIDATION_ERROR"),
        ("POST", "/", json, r#"{"matricule":"M2","nom":"x","customerId":"c1"}"#, 404, "CUSTOMER_NOT_FOUND"),
        ("POST", "/", json, r#"{"matricule":"M1","nom":"x"}"#, 409, "MATRICULE_TAKEN"),
        ("POST", "/", json, r#"{"matricule":"M2","nom":"x","id":"M1"}"#, 409, "ID_TAKEN"),
        ("POST", "/", json, &two_mib, 413, "PAYLOAD_TOO_LARGE"),
        ("PUT", &path, json, "{}", 400, "VALIDATION_ERROR"),
        ("PUT", &path, json, r#"{"unknown":1}"#, 400, "VALIDATION_ERROR"),
        ("PUT", &path, json, r#"{"nom":null}"#, 400, "VALIDATION_ERROR"),
        ("PUT", "/nobody", json, r#"{"nom":"x"}"#, 404, "USER_NOT_FOUND"),
        ("PUT", "/a%20b", json, r#"{"nom":"x"}"#, 400, "VALIDATION_ERROR"),
        ("PUT", "/%00", json, r#"{"nom":"x"}"#, 400, "VALIDATION_ERROR"),
        ("PUT", "/%FF", json, r#"{"nom":"x"}"#, 400, "VALIDATION_ERROR"),
        ("GET", "/login", None, "", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/register", json, "{}", 404, "NOT_FOUND"),
        ("PUT", "/Favicon.ico", json, r#"{"nom":"x"}"#, 404, "NOT_FOUND"),
        ("DELETE", "/all", None, "", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", &erase, None, "", 400, "VALIDATION_ERROR"),
        ("GET", &as_it_was, None, "", 400, "VALIDATION_ERROR"),
        ("DELETE", "/nobody", None, "", 404, "USER_NOT_FOUND"),
        ("GET", "/nobody", None, "", 404, "USER_NOT_FOUND"),
        ("GET", "/matricule/nobody", None, "", 404, "USER_NOT_FOUND"),
        ("GET", "/all?limit=0", None, "", 400, "VALIDATION_ERROR"),
        ("GET", "/all?limit=1001", None, "", 400, "VALIDATION_ERROR"),
        ("GET", "/all?limit=x", None, "", 400, "VALIDATION_ERROR"),
        ("GET", "/batch", None, "", 400, "VALIDATION_ERROR"),
        ("POST", "/batch", json, r#"{"ids":[1]}"#, 400, "VALIDATION_ERROR"),
        ("GET", "/no/such/route", None, "", 404, "NOT_FOUND"),
        ("PATCH", &path, json, "{}", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/", json, "{}", 405, "METHOD_NOT_ALLOWED"),
    ];
    for (method, path, kind, body, status, code) in cases {
        let got = error(raw(&server, method, path, kind, body.as_bytes().to_vec())).await;
        let body = body.get(..body.len().min(80)).unwrap_or_default();
        assert_eq!(got, (status, code.to_owned()), "{method} {path} {kind:?} {body}");
    }
    let not_utf8 = raw(&server, "POST", "/", json, b"{\"nom\":\"\xff\"}".to_vec());
    assert_eq!(error(not_utf8).await, (400, "MALFORMED_JSON".into()));
    let wrong_method = raw(&server, "PUT", "/", json, b"{}".to_vec()).send().await.unwrap();
    assert_eq!(header(&wrong_method, "allow"), "POST");
    assert!(!server.log().contains("panicked"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_wrong_field_is_named_at_once(pool: PgPool) {
    let server = Server::on(&pool).await;
    let wrong = json!({ "nom": "", "sexe": "X", "avatar": "ftp://x", "email": "no", "preferences": [], "isCompanyOwner": "yes" });
    let (status, body) = answer(server.post("/", &wrong)).await;
    assert_eq!(status, 400);
    let mut fields: Vec<_> =
        body["details"].as_array().unwrap().iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["avatar", "email", "isCompanyOwner", "matricule", "nom", "preferences", "sexe"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn conditions_and_keys_are_checked(pool: PgPool) {
    let server = Server::on(&pool).await;
    let path = format!("/{}", server.create("M1").await);
    let put = |nom: &str| server.put(&path, &json!({ "nom": nom }));
    assert_eq!(error(put("x").header("if-match", "\"7\"")).await, (412, "VERSION_CONFLICT".into()));
    for malformed in ["W/\"1\"", "1", "\"1"] {
        assert_eq!(
            error(put("x").header("if-match", malformed)).await,
            (400, "VALIDATION_ERROR".into()),
            "{malformed}"
        );
    }
    assert_eq!(answer(put("x").header("if-match", "\"1\"")).await.0, 200);
    assert_eq!(answer(put("y").header("if-match", "*")).await.0, 200);
    for malformed in ["", "é", &"k".repeat(256)] {
        let keyed = put("z").header("idempotency-key", malformed.as_bytes());
        assert_eq!(error(keyed).await, (400, "VALIDATION_ERROR".into()), "{malformed}");
    }
    let far = server.get(&path).header("x-min-position", "1000000");
    let far = far.send().await.unwrap();
    assert_eq!((far.status().as_u16(), header(&far, "retry-after")), (503, "1".into()));
    assert_eq!(error(server.get(&path).header("x-min-position", "x")).await.0, 400);
    let etag = header(&server.get(&path).send().await.unwrap(), "etag");
    let unchanged = server.get(&path).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
}
