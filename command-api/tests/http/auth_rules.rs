//! Who may do what: every route of the document, asked by everyone.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use command_api::auth::Tokens;
use event_store::{Clock, IdSource, SystemClock, UuidV7};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::PgPool;

use crate::auth::user;
use crate::openapi::DOCUMENT;
use crate::{Answer, JSON, SECRET, Service, guarded_service, service};

/// Who a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Everyone,
    /// Whoever has a token.
    Readers,
    /// The user whom the path names, and administrators.
    Oneself,
    /// The user whom the path names, and nobody else.
    OnlyOneself,
    Administrators,
    AdministratorsAndServices,
    /// Who belongs to the customer that is meant and has a role there, administrators, and to read services.
    Customer(Members),
}

/// Of a customer's users those with the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    AdminsAndUsers,
    Admins,
    None,
}

/// What the contract says; a route that is missing here fails.
pub(crate) const ROUTES: &[(&str, &str, For)] = &[
    ("get", "/health", For::Everyone),
    ("get", "/health/live", For::Everyone),
    ("get", "/health/ready", For::Everyone),
    ("get", "/metrics", For::Everyone),
    ("get", "/openapi.json", For::Everyone),
    ("get", "/docs", For::Everyone),
    ("get", "/asyncapi.json", For::Everyone),
    ("get", "/schemas/{type}/{file}", For::Everyone),
    ("post", "/login", For::Everyone),
    ("post", "/refresh", For::Everyone),
    ("post", "/logout", For::Everyone),
    ("post", "/validate", For::Everyone),
    ("post", "/register", For::Everyone),
    ("post", "/password/forgot", For::Everyone),
    ("post", "/password/reset", For::Everyone),
    ("post", "/email/verify", For::Everyone),
    ("get", "/{id}", For::Readers),
    ("get", "/matricule/{matricule}", For::Readers),
    ("get", "/all", For::Readers),
    ("get", "/alls", For::Readers),
    ("get", "/batch", For::Readers),
    ("post", "/batch", For::Readers),
    ("put", "/{id}", For::Oneself),
    ("put", "/{id}/password", For::Oneself),
    ("get", "/{id}/history", For::Oneself),
    ("get", "/{id}/addresses", For::Oneself),
    ("post", "/{id}/addresses", For::Oneself),
    ("put", "/{id}/addresses/{addressId}", For::Oneself),
    ("delete", "/{id}/addresses/{addressId}", For::Oneself),
    ("post", "/{id}/email/verification", For::Oneself),
    ("post", "/{id}/mfa/totp", For::OnlyOneself),
    ("post", "/{id}/mfa/totp/confirm", For::OnlyOneself),
    ("delete", "/{id}/mfa/totp", For::Oneself),
    ("get", "/{id}/sessions", For::Oneself),
    ("delete", "/{id}/sessions/{sid}", For::Oneself),
    ("post", "/", For::Administrators),
    ("delete", "/{id}", For::Administrators),
    ("put", "/{id}/status", For::Administrators),
    ("put", "/{id}/roles/{role}", For::Administrators),
    ("delete", "/{id}/roles/{role}", For::Administrators),
    ("post", "/customers", For::Administrators),
    ("get", "/customers", For::AdministratorsAndServices),
    ("get", "/customers/{id}", For::Customer(Members::AdminsAndUsers)),
    ("put", "/customers/{id}", For::Customer(Members::Admins)),
    ("delete", "/customers/{id}", For::Customer(Members::None)),
    ("get", "/customers/{id}/history", For::Customer(Members::AdminsAndUsers)),
    ("post", "/customers/{id}/validate", For::Customer(Members::None)),
    ("post", "/customers/{id}/suspend", For::Customer(Members::None)),
    ("post", "/customers/{id}/reactivate", For::Customer(Members::None)),
    ("post", "/customers/{id}/subscriptions", For::Customer(Members::Admins)),
    ("get", "/customers/{id}/subscriptions", For::Customer(Members::AdminsAndUsers)),
    ("get", "/subscriptions/{id}", For::Customer(Members::AdminsAndUsers)),
    ("put", "/subscriptions/{id}", For::Customer(Members::Admins)),
    ("get", "/subscriptions/{id}/history", For::Customer(Members::AdminsAndUsers)),
    ("post", "/subscriptions/{id}/renew", For::Customer(Members::Admins)),
    ("post", "/subscriptions/{id}/cancel", For::Customer(Members::Admins)),
    ("get", "/customers/{id}/tokens", For::Customer(Members::AdminsAndUsers)),
    ("get", "/customers/{id}/tokens/history", For::Customer(Members::AdminsAndUsers)),
    ("post", "/customers/{id}/tokens/purchase", For::Customer(Members::Admins)),
    ("post", "/customers/{id}/tokens/use", For::Customer(Members::AdminsAndUsers)),
    ("post", "/customers/{id}/tokens/allocate", For::Customer(Members::None)),
];

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Oneself,
    Another,
    Administrator,
    Service,
    /// A token that another service made for the user whom the path names.
    ForeignOneself,
    /// And one for an administrator.
    ForeignAdministrator,
}

fn expected(path: &str, route: For, who: Who, reads: bool) -> Option<(u16, &'static str)> {
    let forbidden = Some((403, "FORBIDDEN"));
    match (route, who) {
        (For::Everyone, _) => None,
        (_, Who::Nobody) => Some((401, "MISSING_TOKEN")),
        (For::Readers, _) | (For::Oneself | For::OnlyOneself, Who::Oneself) => None,
        (For::OnlyOneself, _) => forbidden,
        (_, Who::Administrator) => None,
        (For::AdministratorsAndServices | For::Customer(_), Who::Service)
        | (For::Customer(_), Who::ForeignAdministrator)
            if reads =>
        {
            None
        }
        (For::Customer(_), Who::Service | Who::ForeignAdministrator) => forbidden,
        // Of no customer: each is another's.
        (For::Customer(_), _) if path.starts_with("/subscriptions") => Some((404, "SUBSCRIPTION_NOT_FOUND")),
        (For::Customer(_), _) => Some((404, "CUSTOMER_NOT_FOUND")),
        (For::Oneself, Who::ForeignOneself) | (_, Who::ForeignAdministrator) if reads => None,
        (For::Oneself | For::Administrators | For::AdministratorsAndServices, _) => forbidden,
    }
}

pub(crate) fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// A token as a library that knows the secret makes it.
pub(crate) fn foreign(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&message);
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

pub(crate) fn in_seconds(seconds: i64) -> i64 {
    (SystemClock.now() + TimeDelta::seconds(seconds)).timestamp()
}

pub(crate) fn of_another_service(id: &str) -> String {
    let claims = json!({ "matricule": "x", "id": id, "iat": in_seconds(0), "exp": in_seconds(900) });
    foreign(&json!({ "alg": "HS256", "typ": "JWT" }), &claims, SECRET)
}

/// The callers, and the user whom paths name.
pub(crate) struct People {
    pool: PgPool,
    service: Service,
    pub(crate) oneself: String,
    another: String,
    administrator: String,
    of_service: String,
    /// A customer, and a subscription of it.
    customer: String,
    subscription: String,
}

impl People {
    pub(crate) async fn new(pool: &PgPool) -> Self {
        let open = service(pool).await;
        for id in ["self", "other", "boss"] {
            user(pool, id).await;
        }
        assert_eq!(open.send("PUT", "/boss/roles/admin", &[], "").await.status, 200);
        let sid = uuid::Uuid::from_u128(9);
        projections::sessions::begin_of_service(pool, sid, "chat-file-service", 1).await.unwrap();
        let tokens = Tokens::new(SECRET, &[], Arc::new(SystemClock));
        let service = guarded_service(pool).await;
        let customer = open.customer("sme").await;
        let subscription = open.subscription(&customer).await;
        Self {
            customer,
            subscription,
            pool: pool.clone(),
            oneself: service.tokens("self").await.0,
            another: service.tokens("other").await.0,
            administrator: service.tokens("boss").await.0,
            of_service: tokens
                .of_service("chat-file-service", sid, SystemClock.now() + TimeDelta::days(1))
                .unwrap(),
            service,
        }
    }

    fn token(&self, who: Who) -> Option<String> {
        match who {
            Who::Nobody => None,
            Who::Oneself => Some(self.oneself.clone()),
            Who::Another => Some(self.another.clone()),
            Who::Administrator => Some(self.administrator.clone()),
            Who::Service => Some(self.of_service.clone()),
            Who::ForeignOneself => Some(of_another_service("self")),
            Who::ForeignAdministrator => Some(of_another_service("boss")),
        }
    }

    /// A session of that user, where the route names one.
    async fn session_of(&self, id: &str, route: &str) -> String {
        let sid = UuidV7.next();
        if route.contains("{sid}") {
            let begin =
                "INSERT INTO sessions (sid, user_id, expires_at) VALUES ($1, $2, now() + interval '1 day')";
            sqlx::query(begin).bind(sid).bind(id).execute(&self.pool).await.unwrap();
        }
        sid.to_string()
    }

    pub(crate) async fn ask(&self, method: &str, route: &str, id: &str, token: Option<&str>) -> Answer {
        let id = match route {
            _ if id != "self" => id,
            route if route.starts_with("/customers/{id}") => &self.customer,
            route if route.starts_with("/subscriptions/{id}") => &self.subscription,
            _ => id,
        };
        let path = route
            .replace("{id}", id)
            .replace("{matricule}", "M-other")
            .replace("{role}", "MANAGER")
            .replace("{type}", "user.created")
            .replace("{file}", "1.json");
        let path = path.replace("{sid}", &self.session_of(id, route).await);
        let path = if route == "/batch" && method == "get" { "/batch?ids=self".to_owned() } else { path };
        let body = match (method, route) {
            ("get" | "delete", _) => "",
            (_, "/batch") => r#"{"ids":["self"]}"#,
            // Enough to get past who may, not to do anything.
            _ => r#"{"sexe":1,"notes":1,"reason":1,"endsAt":1}"#,
        };
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![];
        if !body.is_empty() {
            headers.push(JSON);
        }
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.service.send(&method.to_uppercase(), &path, &headers, body).await
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn every_route_is_for_whom_the_contract_says(pool: PgPool) {
    let people = People::new(&pool).await;
    let open = service(&pool).await;
    let mut asked = 0;
    for (route, item) in DOCUMENT["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let known = ROUTES.iter().find(|(it, path, _)| it == method && path == route);
            let (_, _, rule) = known.unwrap_or_else(|| panic!("{method} {route}: who may is not known"));
            let reads = method == "get" || route == "/batch";
            for who in [
                Who::Nobody,
                Who::Oneself,
                Who::Another,
                Who::Administrator,
                Who::Service,
                Who::ForeignOneself,
                Who::ForeignAdministrator,
            ] {
                if *rule == For::Everyone && who != Who::Nobody {
                    continue;
                }
                let mut id = "self".to_owned();
                if method == "delete" && who == Who::Administrator {
                    if route == "/customers/{id}" {
                        id = open.customer("sme").await;
                    } else {
                        id = format!("gone-{asked}");
                        open.create(&id).await;
                    }
                }
                let answer = people.ask(method, route, &id, people.token(who).as_deref()).await;
                let asked_for = format!("{method} {route} by {who:?}: {} {}", answer.status, answer.text);
                match expected(route, *rule, who, reads) {
                    Some((status, code)) => {
                        assert_eq!(answer.refusal(), (status, code.to_owned()), "{asked_for}");
                    }
                    None if *rule == For::Everyone => {
                        assert!(!matches!(answer.status, 403 | 404 | 405 | 500..), "{asked_for}");
                    }
                    // Who may ask is told that there is no such thing.
                    None if route.ends_with("Id}") && answer.status == 404 => {
                        assert_eq!(answer.refusal().1, "NOT_FOUND", "{asked_for}");
                    }
                    None => assert!(!matches!(answer.status, 401 | 403 | 404 | 405 | 500..), "{asked_for}"),
                }
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 16 + 45 * 7);
    assert_eq!(ROUTES.len(), 61);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_token_of_another_service_names_its_user_by_id_or_else_by_matricule(pool: PgPool) {
    let people = People::new(&pool).await;
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let by_matricule = foreign(&header, &json!({ "matricule": "M-self", "exp": in_seconds(900) }), SECRET);
    let answer = people.service.as_user(&by_matricule, "GET", "/self", "").await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("active")));
    // What it holds beside that is its own.
    let of_its_own = json!({ "id": "self", "sid": "s-1", "roles": null, "iat": "now", "nbf": in_seconds(-1),
                             "exp": in_seconds(900) });
    let answer = people.service.as_user(&foreign(&header, &of_its_own, SECRET), "GET", "/self", "").await;
    assert_eq!(answer.status, 200);
    let open = service(&pool).await;
    assert_eq!(open.put("/self/status", &json!({ "status": "inactive" })).await.status, 200);
    let answer = people.service.as_user(&by_matricule, "GET", "/self", "").await;
    assert_eq!(answer.refusal(), (401, "INVALID_TOKEN".to_owned()));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_profile_is_whole_for_oneself_administrators_and_services_only(pool: PgPool) {
    const SEEN_BY_ALL: [&str; 14] = [
        "_id",
        "avatar",
        "createdAt",
        "email",
        "fullName",
        "id",
        "matricule",
        "ministere",
        "nom",
        "prenom",
        "profile_pic",
        "sexe",
        "updatedAt",
        "username",
    ];
    let people = People::new(&pool).await;
    let fields = |profile: &Value| {
        let mut fields: Vec<String> = profile.as_object().unwrap().keys().cloned().collect();
        fields.retain(|field| field != "version");
        fields.sort();
        fields
    };
    for (who, whole) in [
        (Who::Oneself, true),
        (Who::Administrator, true),
        (Who::Service, true),
        (Who::ForeignOneself, true),
        (Who::Another, false),
    ] {
        let token = people.token(who);
        for (method, route) in
            [("get", "/{id}"), ("get", "/batch"), ("post", "/batch"), ("get", "/all"), ("get", "/alls")]
        {
            let answer = people.ask(method, route, "self", token.as_deref()).await.json();
            let profile = answer.as_array().or_else(|| answer["users"].as_array());
            let profile = profile.map_or(&answer, |all| all.iter().find(|it| it["id"] == "self").unwrap());
            assert_eq!(fields(profile) != SEEN_BY_ALL, whole, "{method} {route} by {who:?}: {profile}");
            assert_eq!(profile.get("roles").is_some(), whole);
        }
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_does_not_see_a_status_cannot_ask_for_it(pool: PgPool) {
    let people = People::new(&pool).await;
    for (who, status) in [(Who::Another, 403), (Who::Administrator, 200), (Who::Service, 200)] {
        let token = people.token(who).unwrap();
        let answer = people.service.as_user(&token, "GET", "/all?status=banned", "").await;
        assert_eq!(answer.status, status, "{who:?}");
    }
}

/// As the log has it, not as the read model had it.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn who_is_no_administrator_any_more_has_no_moment_left(pool: PgPool) {
    let people = People::new(&pool).await;
    let open = service(&pool).await;
    assert_eq!(open.send("PUT", "/other/roles/admin", &[], "").await.status, 200);
    assert_eq!(open.send("DELETE", "/boss/roles/admin", &[], "").await.status, 200);
    // As if the read model had not come so far.
    sqlx::query("UPDATE users_v1 SET roles = '{admin}' WHERE id = 'boss'").execute(&pool).await.unwrap();
    let refused = people.service.as_user(&people.administrator, "DELETE", "/self", "").await;
    assert_eq!(refused.refusal(), (403, "FORBIDDEN".to_owned()));
    let seen = people.service.as_user(&people.administrator, "GET", "/self", "").await;
    assert!(seen.json().get("roles").is_none());
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_an_administrator_decides_nobody_changes_of_oneself(pool: PgPool) {
    let people = People::new(&pool).await;
    for (field, value) in [
        ("matricule", json!("M-2")),
        ("ministere", json!("Défense")),
        ("userType", json!("SME")),
        ("isCompanyOwner", json!(true)),
    ] {
        let body = json!({ field: value }).to_string();
        let refused = people.service.as_user(&people.oneself, "PUT", "/self", &body).await;
        assert_eq!(refused.refusal(), (403, "FORBIDDEN".to_owned()), "{field}");
        let changed = people.service.as_user(&people.administrator, "PUT", "/self", &body).await;
        assert_eq!(changed.status, 200, "{field}: {}", changed.text);
    }
    let body = json!({ "telephone": "+243 1" }).to_string();
    // Also under the new matricule.
    assert_eq!(people.service.as_user(&people.oneself, "PUT", "/M-2", &body).await.status, 200);
    let actor: Value =
        sqlx::query_scalar("SELECT meta->>'actor' FROM events_readable ORDER BY position DESC LIMIT 1")
            .fetch_one(&pool)
            .await
            .map(Value::String)
            .unwrap();
    assert_eq!(actor, json!("self"));
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_page_of_another_site_cannot_write_with_the_users_cookie(pool: PgPool) {
    let people = People::new(&pool).await;
    let cookie = format!("accessToken={}", people.oneself);
    let send = |origin: &'static str, kind: &'static str| {
        let headers =
            [("cookie", cookie.clone()), ("host", "localhost:8001".to_owned()), (kind, origin.to_owned())];
        let service = &people.service;
        async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, &**v)).chain([JSON]).collect();
            service.send("PUT", "/self", &headers, r#"{"telephone":"+243 1"}"#).await.status
        }
    };
    assert_eq!(send("https://evil.example", "origin").await, 403);
    assert_eq!(send("null", "origin").await, 403);
    assert_eq!(send("http://localhost:8001", "origin").await, 200);
    assert_eq!(send("cross-site", "sec-fetch-site").await, 403);
    assert_eq!(send("same-origin", "sec-fetch-site").await, 200);
    // A form can't send JSON.
    let form = [("cookie", &*cookie), ("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(people.service.send("PUT", "/self", &form, "telephone=1").await.status, 415);
}

/// A page that had its own name lead to this machine.
#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn an_open_service_is_asked_under_a_name_of_this_machine_only(pool: PgPool) {
    let service = service(&pool).await;
    for (host, status) in [
        ("localhost:8001", 200),
        ("127.0.0.1:8001", 200),
        ("[::1]:8001", 200),
        ("evil.example", 403),
        ("a b", 403),
    ] {
        assert_eq!(service.get_with("/all", &[("host", host)]).await.status, status, "{host}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn what_is_no_token_makes_nobody_an_administrator(pool: PgPool) {
    let open = service(&pool).await;
    open.create("u1").await;
    for header in ["Bearer", "Bearer ", "Bearer x", "Basic eA==", "caf\u{e9}"] {
        let headers = [JSON, ("authorization", header)];
        let change = open.send("PUT", "/u1", &headers, json!({ "nom": "x" }).to_string()).await;
        assert_eq!(change.refusal(), (401, "INVALID_TOKEN".into()), "{header}");
    }
    assert_eq!(open.put("/u1", &json!({ "nom": "x" })).await.status, 200);
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn a_header_wins_over_a_cookie(pool: PgPool) {
    let people = People::new(&pool).await;
    let (cookie, bearer) =
        (format!("accessToken={}", people.administrator), format!("Bearer {}", people.another));
    let both = [("cookie", &*cookie), ("authorization", &*bearer)];
    assert_eq!(people.service.send("DELETE", "/self", &both, "").await.status, 403);
    assert_eq!(people.service.send("DELETE", "/self", &both[..1], "").await.status, 200);
}
