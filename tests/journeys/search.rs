//! People and customers looked for over HTTP by a part of what they are called.

use event_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::customers::done;
use crate::server::{Server, header, text};

/// What a search in a list finds, the values of one field in their order, and the counted total.
async fn found(server: &Server, list: &str, field: &str, q: &str) -> (Vec<String>, String) {
    let encoded: String = url::form_urlencoded::byte_serialize(q.as_bytes()).collect();
    let response = server.get(&format!("{list}?limit=10&q={encoded}")).send().await.unwrap();
    assert_eq!(response.status(), 200, "{q}");
    let total = header(&response, "x-total-count");
    let rows: Vec<Value> = response.json().await.unwrap();
    let mut names: Vec<String> = rows.iter().map(|row| text(row, field)).collect();
    names.sort();
    (names, total)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn people_are_found_whatever_case_and_accents(pool: PgPool) {
    let server = Server::on(&pool).await;
    let mut position = String::new();
    for (matricule, prenom, nom) in [
        ("A-1", json!("Élodie"), "Dupont"),
        ("A-2", json!("Éloi"), "N'Guessan"),
        ("A-3", json!("François"), "Œuvrard 100%"),
        ("A-4", json!("Ngọc"), "a_b"),
        ("A-5", json!("Jean"), "a\\b"),
        ("A-6", json!(null), "Müller"),
    ] {
        let new = json!({ "matricule": matricule, "prenom": prenom, "nom": nom });
        let created = server.post("/", &new).send().await.unwrap();
        assert_eq!(created.status(), 201);
        position = header(&created, "x-event-position");
    }
    let seen = server.get("/all?limit=1").header("x-min-position", &position).send().await.unwrap();
    assert_eq!(header(&seen, "x-total-count"), "6");
    for (q, expected) in [
        ("elodie dupont", &["A-1"] as &[&str]),
        ("Dupont Élodie", &["A-1"]),
        ("DUPONT ELODIE", &["A-1"]),
        ("E\u{301}LODIE", &["A-1"]),
        ("die dup", &["A-1"]),
        ("elo", &["A-1", "A-2"]),
        ("n'guessan", &["A-2"]),
        ("N’Guessan", &["A-2"]),
        ("francois oeuvrard", &["A-3"]),
        ("ngoc", &["A-4"]),
        ("muller", &["A-6"]),
        ("MÜLLER", &["A-6"]),
        ("muller jean", &[]),
        // Of fewer letters than the index knows.
        ("ÖE", &["A-3"]),
        ("%", &["A-3"]),
        ("100%", &["A-3"]),
        ("0_", &[]),
        ("_", &["A-4"]),
        ("a_b", &["A-4"]),
        ("\\", &["A-5"]),
        ("a\\b", &["A-5"]),
        ("a-_", &[]),
        // As wide signs are written in the East.
        ("a＿b", &["A-4"]),
    ] {
        let expected = (expected.iter().map(ToString::to_string).collect(), expected.len().to_string());
        assert_eq!(found(&server, "/all", "matricule", q).await, expected, "{q}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn pages_of_a_search_follow_one_another(pool: PgPool) {
    let server = Server::on(&pool).await;
    let mut position = String::new();
    for n in 0..7 {
        let new = json!({ "matricule": format!("P{n}"), "prenom": if n % 2 == 0 { "Zoé" } else { "Awa" }, "nom": "Bélanger" });
        position = header(&server.post("/", &new).send().await.unwrap(), "x-event-position");
    }
    let mut next = Some("/all?limit=3&q=BELANGER+zoe".to_owned());
    let mut pages = Vec::new();
    while let Some(path) = next {
        let page = server.get(&path).header("x-min-position", &position).send().await.unwrap();
        assert_eq!(header(&page, "x-total-count"), "4");
        let link = header(&page, "link");
        next =
            link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
        let rows: Vec<Value> = page.json().await.unwrap();
        pages.push(rows.iter().map(|row| text(row, "matricule")).collect::<Vec<_>>().concat());
    }
    assert_eq!(pages, ["P0P2P4", "P6"]);
    // Without `limit`, the same as one stream.
    let all: Vec<Value> = server.get("/alls?q=zoe").send().await.unwrap().json().await.unwrap();
    assert_eq!(all.len(), 4);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn customers_are_found_whatever_case_and_accents(pool: PgPool) {
    let server = Server::on(&pool).await;
    for (name, city) in [("Kivu Café", "Goma"), ("Sôciété 50%_x", "Bukavu"), ("Cafe\\Bar", "N'Djaména")]
    {
        let new = json!({ "customerType": "sme", "name": name, "city": city });
        done(server.post("/customers", &new), 201).await;
    }
    crate::server::eventually("three customers are listed", async || {
        header(&server.get("/customers?limit=1").send().await.unwrap(), "x-total-count") == "3"
    })
    .await;
    for (q, expected) in [
        ("CAFE", &["Cafe\\Bar", "Kivu Café"] as &[&str]),
        ("kivu càfé", &["Kivu Café"]),
        ("societe", &["Sôciété 50%_x"]),
        ("50%_X", &["Sôciété 50%_x"]),
        ("0%x", &[]),
        ("n'djamena", &["Cafe\\Bar"]),
        ("e\\b", &["Cafe\\Bar"]),
        ("gö", &["Kivu Café"]),
    ] {
        let expected = (expected.iter().map(ToString::to_string).collect(), expected.len().to_string());
        assert_eq!(found(&server, "/customers", "name", q).await, expected, "{q}");
    }
}
