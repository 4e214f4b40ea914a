use event_store::MIGRATOR;
use serde_json::json;
use sqlx::PgPool;

use super::*;

/// Two rows of a user that differ in every field.
fn rows() -> [UserRow; 2] {
    [1, 2].map(|n| {
        let text = |field: &str| Some(format!("{field} {n}"));
        let time = DateTime::from_timestamp(n, 0).unwrap();
        UserRow {
            id: "u-1".into(),
            matricule: text("matricule"),
            nom: format!("nom {n}"),
            prenom: text("prenom"),
            ministere: text("ministere"),
            avatar: text("avatar"),
            sexe: text("sexe"),
            email: text("email"),
            username: text("username"),
            telephone: text("telephone"),
            preferences: Some(json!({ "n": n })),
            status: format!("status {n}"),
            roles: vec![format!("role {n}")],
            email_verified: n == 1,
            mfa_enabled: n == 1,
            user_type: text("user_type"),
            customer_id: text("customer_id"),
            is_company_owner: n == 1,
            created_at: time,
            updated_at: time,
            version: i32::try_from(n).unwrap(),
        }
    })
}

/// The compiler does not see inside the query: a column that is left out there would keep its first value.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_row_is_replaced_in_every_column(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for row in rows() {
        put(&mut connection, std::slice::from_ref(&row)).await.unwrap();
        assert_eq!(rows_of(&mut connection, &["u-1".into()]).await.unwrap(), [row]);
    }
}
