use serde_json::json;

use super::*;

fn read(kind: Kind, line: &Value) -> Result<Line, Unreadable> {
    kind.read(line.to_string().as_bytes())
}

/// The fields that are refused.
fn wrong(kind: Kind, line: &Value) -> Vec<&'static str> {
    let unreadable = read(kind, line).err();
    unreadable.map(|it| it.reasons.iter().map(|reason| reason.field).collect()).unwrap_or_default()
}

#[test]
fn an_id_is_read_in_the_forms_that_databases_export() {
    let oid = json!({ "$oid": "507f191e810c19729de860ea" });
    for (kind, line, id) in [
        (Kind::Users, json!({ "id": "u1", "_id": oid, "matricule": "M1", "nom": "Ba" }), "u1"),
        (Kind::Users, json!({ "_id": oid, "matricule": "M1", "nom": "Ba" }), "507f191e810c19729de860ea"),
        (Kind::Users, json!({ "id": null, "_id": 7, "matricule": "M1", "nom": "Ba" }), "7"),
        (Kind::Customers, json!({ "customerId": 8, "customerType": "sme", "name": "Kivu" }), "8"),
        (Kind::Balances, json!({ "id": oid, "balance": 0 }), "507f191e810c19729de860ea"),
    ] {
        assert_eq!(read(kind, &line).map(|it| it.id().to_owned()), Ok(id.to_owned()), "{line}");
    }
    assert_eq!(wrong(Kind::Users, &json!({ "id": -1, "matricule": "M1", "nom": "Ba" })), ["id"]);
    assert_eq!(wrong(Kind::Users, &json!({ "id": { "oid": "a" }, "matricule": "M1", "nom": "Ba" })), ["id"]);
}

#[test]
fn everything_that_is_wrong_with_a_line_is_told_at_once() {
    let line = json!({
        "passwordHash": "$2b$10$short", "password": "secret", "roles": ["admin", "not one"], "status": "gone",
        "emailVerified": "yes", "email": "nowhere",
    });
    let all =
        ["id", "passwordHash", "password", "roles", "status", "emailVerified", "matricule", "nom", "email"];
    assert_eq!(wrong(Kind::Users, &line), all);
    assert_eq!(
        wrong(Kind::Customers, &json!({ "status": "deleted" })),
        ["customerId", "status", "customerType", "name"]
    );
    assert_eq!(wrong(Kind::Balances, &json!({ "balance": -1 })), ["customerId", "balance"]);
    for balance in [json!(1.5), json!("5"), json!(1_000_000_000_001_u64), Value::Null] {
        assert_eq!(wrong(Kind::Balances, &json!({ "id": "c1", "balance": balance })), ["balance"]);
    }
}

#[test]
fn only_a_user_of_a_customer_needs_no_matricule() {
    assert_eq!(wrong(Kind::Users, &json!({ "id": "u1", "nom": "Ba", "customerId": 5 })), [""; 0]);
    assert_eq!(wrong(Kind::Users, &json!({ "id": "u1", "nom": "Ba", "customerId": null })), ["matricule"]);
}

#[test]
fn what_is_no_object_says_so_and_no_more() {
    for text in ["[]", "\"corridor\"", "{\"password\":\"corridor\"", "corridor"] {
        let Err(Unreadable { id: None, reasons }) = Kind::Users.read(text.as_bytes()) else {
            panic!("{text}")
        };
        assert_eq!(reasons[0].field, "line");
        assert!(!reasons[0].message.contains("corridor"), "{reasons:?}");
    }
}

#[test]
fn a_name_is_that_of_the_first_line_which_wants_it() {
    let mut names = Names::default();
    let mut take = |number: u64, id: &str, matricule: &str, email: &str| {
        let line = json!({ "id": id, "matricule": matricule, "nom": "Ba", "email": email });
        let line = read(Kind::Users, &line).unwrap_or_else(|it| panic!("{it:?}"));
        let taken = names.take(&line, number).err().unwrap_or_default();
        taken.iter().map(|reason| reason.field).collect::<Vec<_>>()
    };
    assert_eq!(take(1, "u1", "M1", "ba@example.org"), [""; 0]);
    assert_eq!(take(2, "u1", "M2", ""), ["id"]);
    assert_eq!(take(3, "u3", "M1", "BA@example.org"), ["matricule", "email"]);
    assert_eq!(take(4, "M1", "u1", ""), ["id", "matricule"], "ids and matricules are one namespace");
    // What is refused takes nothing.
    assert_eq!(take(5, "u3", "M2", ""), [""; 0]);
    assert_eq!(take(6, "M6", "M6", ""), [""; 0]);
}
