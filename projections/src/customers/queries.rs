//! What is asked of the customers' table.

use sqlx::PgPool;

use super::CustomerRow;
use crate::search::{COUNT_EXACTLY, PREPARED, expected_rows};

/// Which customers a list holds; all, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Somewhere in name, e-mail, telephone, town or tax number, in any case, with or
    /// without accents.
    pub q: Option<String>,
    /// `sme` or `institution`.
    pub customer_type: Option<String>,
    /// The status.
    pub status: Option<String>,
}

/// The customer with this id.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<CustomerRow>, sqlx::Error> {
    sqlx::query_as!(CustomerRow, "SELECT * FROM customers_v1 WHERE id = $1", id).fetch_optional(pool).await
}

// Exactly the expression of the index `customers_v1_search`.
const PAGE: &str = r"
    SELECT * FROM customers_v1
    WHERE id > $1
      AND ($2::text IS NULL OR customer_type = $2)
      AND ($3::text IS NULL OR status = $3)
      AND ($4::text IS NULL OR search_text(name, email, phone, city, tax_id) LIKE search_pattern($4))
    ORDER BY id
    LIMIT $5
";
const COUNT: &str = r"
    SELECT count(*) FROM (
        SELECT 1 FROM customers_v1
        WHERE ($1::text IS NULL OR customer_type = $1)
          AND ($2::text IS NULL OR status = $2)
          AND ($3::text IS NULL OR search_text(name, email, phone, city, tax_id) LIKE search_pattern($3))
        LIMIT $4
    ) some_customers
";
const EXPECTED: &str = r"
    EXPLAIN (FORMAT JSON) SELECT 1 FROM customers_v1
    WHERE ($1::text IS NULL OR customer_type = $1)
      AND ($2::text IS NULL OR status = $2)
      AND ($3::text IS NULL OR search_text(name, email, phone, city, tax_id) LIKE search_pattern($3))
";

/// The first `limit` customers behind the id `after`, in the order of ids.
pub async fn page(
    pool: &PgPool,
    filter: &Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<CustomerRow>, sqlx::Error> {
    sqlx::query_as(PAGE)
        .bind(after.unwrap_or_default())
        .bind(&filter.customer_type)
        .bind(&filter.status)
        .bind(&filter.q)
        .bind(limit)
        .persistent(PREPARED)
        .fetch_all(pool)
        .await
}

/// How many customers there are, and whether that is exact: above ten thousand it
/// is what the planner of PostgreSQL thinks.
pub async fn count(pool: &PgPool, filter: &Filter) -> Result<(i64, bool), sqlx::Error> {
    let exactly: i64 = sqlx::query_scalar(COUNT)
        .bind(&filter.customer_type)
        .bind(&filter.status)
        .bind(&filter.q)
        .bind(COUNT_EXACTLY + 1)
        .persistent(PREPARED)
        .fetch_one(pool)
        .await?;
    if exactly <= COUNT_EXACTLY {
        return Ok((exactly, true));
    }
    let plan: serde_json::Value = sqlx::query_scalar(EXPECTED)
        .bind(&filter.customer_type)
        .bind(&filter.status)
        .bind(&filter.q)
        .persistent(PREPARED)
        .fetch_one(pool)
        .await?;
    Ok((expected_rows(&plan).max(exactly), false))
}

#[cfg(test)]
mod tests {
    use event_store::MIGRATOR;

    use super::*;
    use crate::search::testing::{as_served, assert_kept_nowhere, indexes_of};

    const FILL: &str = "
        INSERT INTO customers_v1 (id, customer_type, name, email, city, status, created_at, updated_at, version)
        SELECT 'c-' || lpad(n::text, 6, '0'), 'sme', 'Café ' || md5(n::text), n || '@example.com', 'Goma',
               'validated', now(), now(), 1
        FROM generate_series(1, 20000) n";

    #[sqlx::test(migrator = "MIGRATOR")]
    async fn a_search_reads_its_index(pool: PgPool) {
        let pool = as_served(&pool);
        sqlx::raw_sql(FILL).execute(&pool).await.unwrap();
        sqlx::raw_sql("ANALYZE customers_v1").execute(&pool).await.unwrap();
        for (text, found) in [("CAFE c4ca4238", 1), ("19999@", 1), ("zzz", 0)] {
            let all = None::<String>;
            let page_plan = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {PAGE}")));
            let page_plan =
                page_plan.bind("").bind(&all).bind(&all).bind(text).bind(101_i64).persistent(false);
            let count_plan =
                sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {COUNT}")));
            let count_plan =
                count_plan.bind(&all).bind(&all).bind(text).bind(COUNT_EXACTLY + 1).persistent(false);
            for plan in [page_plan, count_plan] {
                let plan: serde_json::Value = plan.fetch_one(&pool).await.unwrap();
                assert_eq!(indexes_of(&plan), ["customers_v1_search"], "{text}: {plan:#}");
            }
            let filter = Filter { q: Some(text.to_owned()), ..Filter::default() };
            assert_eq!(page(&pool, &filter, None, 101).await.unwrap().len(), found, "{text}");
            assert_eq!(count(&pool, &filter).await.unwrap().0, i64::try_from(found).unwrap(), "{text}");
        }
        let filter = Filter { q: Some("é".to_owned()), ..Filter::default() };
        assert_eq!(page(&pool, &filter, Some("c-000007"), 1).await.unwrap()[0].id, "c-000008");
        let (expected, exact) = count(&pool, &filter).await.unwrap();
        assert!(expected > COUNT_EXACTLY && !exact, "{expected}");
        assert_kept_nowhere(&pool, "search_text").await;
    }
}
