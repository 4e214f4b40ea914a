use serde_json::json;

use super::super::given::{but, malformed, map, missing, without};
use super::*;

fn created() -> Value {
    json!({
        "userId": "auth0|42",
        "email": " Awa@Example.org ",
        "name": "Awa Diop",
        "role": "user",
        "userType": "SME_OWNER",
        "customerAccountId": "c-1",
        "customerName": "Diop SARL",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "anything": ["else"],
    })
}

#[test]
fn a_new_user_is_read_with_everything_there_is_of_it() {
    let user = UserCreated::parse(map(created())).unwrap();
    assert_eq!(user.user_id.as_str(), "auth0|42");
    assert_eq!(user.email.as_str(), "Awa@Example.org");
    assert_eq!(user.name.as_str(), "Awa Diop");
    assert_eq!((user.role.as_str(), user.user_type.as_str()), ("user", "SME_OWNER"));
    assert_eq!(user.customer_account_id.as_deref(), Some("c-1"));
    assert_eq!(user.customer_name.as_ref().map(Text::as_str), Some("Diop SARL"));
}

#[test]
fn a_new_user_without_a_required_field_is_refused() {
    for field in ["userId", "email", "name", "role", "userType", "timestamp"] {
        assert_eq!(UserCreated::parse(without(&created(), field)), missing(field));
        for none in [json!(null), json!(" ")] {
            assert_eq!(UserCreated::parse(but(&created(), field, none)), missing(field));
        }
        for wrong in [json!(1), json!({ "a": "b" })] {
            assert_eq!(UserCreated::parse(but(&created(), field, wrong)), malformed(field));
        }
    }
}

#[test]
fn a_new_user_with_a_malformed_field_is_refused() {
    for (field, wrong) in [
        ("userId", "a b"),
        ("userId", "all"),
        ("email", "nobody"),
        ("name", "a\nb"),
        ("timestamp", "yesterday"),
        ("timestamp", "2026-02-30T00:00:00Z"),
    ] {
        assert_eq!(UserCreated::parse(but(&created(), field, json!(wrong))), malformed(field), "{wrong}");
    }
    assert_eq!(UserCreated::parse(but(&created(), "customerName", json!(1))), malformed("customerName"));
}

#[test]
fn the_customer_of_a_new_user_may_be_missing_or_malformed() {
    let user = UserCreated::parse(without(&created(), "customerAccountId")).unwrap();
    assert_eq!(user.customer_account_id, None);
    let user = UserCreated::parse(but(&created(), "customerAccountId", json!("no id at all"))).unwrap();
    assert_eq!(user.customer_account_id.as_deref(), Some("no id at all"));
}

#[test]
fn types_and_roles_that_nobody_knows_are_read_as_they_are() {
    let user = UserCreated::parse(but(&created(), "userType", json!("ROBOT"))).unwrap();
    assert_eq!((user.user_type.as_str(), Mapping::of(&user.user_type)), ("ROBOT", None));
}

#[test]
fn a_time_may_lack_its_offset() {
    for time in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+01:00", "2026-01-31T12:00:00.123456"] {
        assert!(UserCreated::parse(but(&created(), "timestamp", json!(time))).is_ok(), "{time}");
    }
}

#[test]
fn a_status_is_read_in_any_case_and_deleted_is_one() {
    let changed = |status: &str| {
        let fields = json!({ "userId": "u1", "newStatus": status, "changedBy": "admin-7" });
        UserStatusChanged::parse(map(fields)).map(|it| it.to)
    };
    for (word, status) in [
        ("active", Status::Active),
        ("PENDING", Status::Pending),
        ("Inactive", Status::Inactive),
        (" Suspended ", Status::Suspended),
        ("BANNED", Status::Banned),
    ] {
        assert_eq!(changed(word), Ok(NewStatus::To(status)));
    }
    assert_eq!(changed("deleted"), Ok(NewStatus::Deleted));
    assert_eq!(changed("Deleted"), Ok(NewStatus::Deleted));
    assert_eq!(changed("gone"), malformed("newStatus"));
    assert_eq!(changed(""), missing("newStatus"));
}

#[test]
fn who_changed_a_user_is_told_where_it_is_known() {
    let fields = json!({ "userId": "u1", "newStatus": "active", "changedBy": "admin-7" });
    let changed = UserStatusChanged::parse(map(fields.clone())).unwrap();
    assert_eq!(changed.changed_by.as_ref().map(Text::as_str), Some("admin-7"));
    assert_eq!(UserStatusChanged::parse(without(&fields, "changedBy")).unwrap().changed_by, None);
    let deleted = UserDeleted::parse(map(json!({ "userId": "u1", "deletedBy": "admin-7" }))).unwrap();
    assert_eq!(deleted.deleted_by.as_ref().map(Text::as_str), Some("admin-7"));
    assert_eq!(UserDeleted::parse(map(json!({ "userId": "u1" }))).unwrap().deleted_by, None);
    assert_eq!(UserDeleted::parse(map(json!({ "deletedBy": "admin-7" }))), missing("userId"));
}

#[test]
fn roles_of_other_services_are_roles_of_customers_here() {
    for (theirs, ours) in [
        ("admin", "CUSTOMER_ADMIN"),
        ("manager", "MANAGER"),
        ("accountant", "MANAGER"),
        ("CUSTOMER_ADMIN", "CUSTOMER_ADMIN"),
        ("CUSTOMER_USER", "CUSTOMER_USER"),
        ("MANAGER", "MANAGER"),
        ("user", "CUSTOMER_USER"),
        ("Admin", "CUSTOMER_USER"),
        ("superadmin", "CUSTOMER_USER"),
    ] {
        let fields = json!({ "userId": "u1", "newRole": theirs });
        let changed = UserRoleChanged::parse(map(fields)).unwrap();
        assert_eq!(changed.role.name().as_str(), ours, "{theirs}");
    }
    assert_eq!(UserRoleChanged::parse(map(json!({ "userId": "u1" }))), missing("newRole"));
}

#[test]
fn no_role_of_another_service_is_that_of_administrators() {
    for role in CustomerRole::ALL {
        assert_ne!(role.name(), RoleName::admin());
    }
}

#[test]
fn types_of_users_mean_what_the_table_says() {
    let sme = UserType::Sme;
    let institution = UserType::FinancialInstitution;
    for (user_type, role, customer, is_company_owner) in [
        ("SME_USER", CustomerRole::User, sme, false),
        ("SME_OWNER", CustomerRole::Admin, sme, true),
        ("INSTITUTION_USER", CustomerRole::User, institution, false),
        ("INSTITUTION_ADMIN", CustomerRole::Admin, institution, true),
    ] {
        let expected = Mapping { role, user_type: customer, is_company_owner };
        assert_eq!(Mapping::of(user_type), Some(expected), "{user_type}");
    }
    for unknown in ["", "sme_user", "ADMIN", "SME"] {
        assert_eq!(Mapping::of(unknown), None, "{unknown}");
    }
}
