//! What is asked of the customers' table.

use sqlx::PgPool;

use super::CustomerRow;
use crate::search::{COUNT_EXACTLY, expected_rows, pattern};

/// Which customers a list holds; all, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Somewhere in name, e-mail, telephone, town or tax number, in any case.
    pub q: Option<String>,
    /// `sme` or `institution`.
    pub customer_type: Option<String>,
    /// The status.
    pub status: Option<String>,
}

impl Filter {
    fn pattern(&self) -> Option<String> {
        self.q.as_deref().map(pattern)
    }
}

/// The customer with this id.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<CustomerRow>, sqlx::Error> {
    sqlx::query_as!(CustomerRow, "SELECT * FROM customers_v1 WHERE id = $1", id).fetch_optional(pool).await
}

/// The first `limit` customers behind the id `after`, in the order of ids.
pub async fn page(
    pool: &PgPool,
    filter: &Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<CustomerRow>, sqlx::Error> {
    sqlx::query_as!(
        CustomerRow,
        r#"
        SELECT * FROM customers_v1
        WHERE id > $1
          AND ($2::text IS NULL OR customer_type = $2)
          AND ($3::text IS NULL OR status = $3)
          AND ($4::text IS NULL OR concat_ws(' ', name, email, phone, city, tax_id) COLLATE "default" ILIKE $4)
        ORDER BY id
        LIMIT $5
        "#,
        after.unwrap_or_default(),
        filter.customer_type,
        filter.status,
        filter.pattern(),
        limit,
    )
    .fetch_all(pool)
    .await
}

/// How many customers there are, and whether that is exact: above ten thousand it
/// is what the planner of PostgreSQL thinks.
pub async fn count(pool: &PgPool, filter: &Filter) -> Result<(i64, bool), sqlx::Error> {
    let exactly = sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "count!" FROM (
            SELECT 1 FROM customers_v1
            WHERE ($1::text IS NULL OR customer_type = $1)
              AND ($2::text IS NULL OR status = $2)
              AND ($3::text IS NULL OR concat_ws(' ', name, email, phone, city, tax_id) COLLATE "default" ILIKE $3)
            LIMIT $4
        ) some_customers
        "#,
        filter.customer_type,
        filter.status,
        filter.pattern(),
        COUNT_EXACTLY + 1,
    )
    .fetch_one(pool)
    .await?;
    if exactly <= COUNT_EXACTLY {
        return Ok((exactly, true));
    }
    let plan: serde_json::Value = sqlx::query_scalar(
        r#"
        EXPLAIN (FORMAT JSON) SELECT 1 FROM customers_v1
        WHERE ($1::text IS NULL OR customer_type = $1)
          AND ($2::text IS NULL OR status = $2)
          AND ($3::text IS NULL OR concat_ws(' ', name, email, phone, city, tax_id) COLLATE "default" ILIKE $3)
        "#,
    )
    .bind(&filter.customer_type)
    .bind(&filter.status)
    .bind(filter.pattern())
    .fetch_one(pool)
    .await?;
    Ok((expected_rows(&plan).max(exactly), false))
}
