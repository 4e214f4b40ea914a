//! What is asked of the users' table.

use std::collections::HashMap;
use std::sync::Arc;

use event_store::{Gather, Position};
use sqlx::PgPool;

use super::{UserRow, Users, rows_of};
use crate::search::{COUNT_EXACTLY, PREPARED, expected_rows};
use crate::table::Projection;

/// Finds users by id or matricule, those that are asked for at the same moment with one query.
pub struct Finder(Gather<String, Option<UserRow>, sqlx::Error>);

impl Finder {
    /// Through these connections.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self(Gather::start(move |names| {
            let pool = pool.clone();
            async move { find_each(&pool, &names).await }
        }))
    }

    /// The user with this id or matricule, as of a moment after the call.
    pub async fn find(&self, id_or_matricule: &str) -> Result<Option<UserRow>, Arc<sqlx::Error>> {
        let found = self.0.ask(id_or_matricule.to_owned()).await;
        found.unwrap_or_else(|| Err(Arc::new(sqlx::Error::WorkerCrashed)))
    }
}

/// The user with this matricule.
pub async fn find_by_matricule(pool: &PgPool, matricule: &str) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as!(UserRow, "SELECT * FROM users_v1 WHERE matricule = $1 LIMIT 1", matricule)
        .fetch_optional(pool)
        .await
}

/// The users with these ids or matricules in the order asked; unknown ones are left out.
pub async fn find_many(pool: &PgPool, ids_or_matricules: &[String]) -> Result<Vec<UserRow>, sqlx::Error> {
    Ok(find_each(pool, ids_or_matricules).await?.into_iter().flatten().collect())
}

/// For each of these ids or matricules its user.
async fn find_each(pool: &PgPool, ids_or_matricules: &[String]) -> Result<Vec<Option<UserRow>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        UserRow,
        "SELECT * FROM users_v1 WHERE id = ANY($1) OR matricule = ANY($1)",
        ids_or_matricules
    )
    .fetch_all(pool)
    .await?;
    let mut by_name: HashMap<&str, &UserRow> = HashMap::with_capacity(2 * rows.len());
    for row in &rows {
        by_name.insert(&row.id, row);
        if let Some(matricule) = &row.matricule {
            by_name.insert(matricule, row);
        }
    }
    Ok(ids_or_matricules.iter().map(|name| by_name.get(name.as_str()).copied().cloned()).collect())
}

/// The rows of the users with these ids, and a position up to which they are right, at least.
pub(crate) async fn rows_and_position(
    pool: &PgPool,
    ids: &[String],
) -> Result<(Vec<UserRow>, Position), sqlx::Error> {
    // First, and not of the rows' own snapshot: that may be of before the rows changed places with others, which
    // seem older in it than the position.
    let position = position(pool).await?;
    Ok((rows_of(&mut *pool.acquire().await?, ids).await?, position))
}

/// As [`rows_and_position`], of those whose id or matricule is one of these.
pub(crate) async fn rows_under(
    pool: &PgPool,
    names: &[String],
) -> Result<(Vec<UserRow>, Position), sqlx::Error> {
    let position = position(pool).await?;
    let rows = sqlx::query_as("SELECT * FROM users_v1 WHERE id = ANY($1) OR matricule = ANY($1)");
    Ok((rows.bind(names).fetch_all(pool).await?, position))
}

/// As [`rows_and_position`], of the first `limit` with greater ids than this.
pub(crate) async fn rows_behind(
    pool: &PgPool,
    id: &str,
    limit: i64,
) -> Result<(Vec<UserRow>, Position), sqlx::Error> {
    let position = position(pool).await?;
    let rows = sqlx::query_as("SELECT * FROM users_v1 WHERE id > $1 ORDER BY id LIMIT $2");
    Ok((rows.bind(id).bind(limit).fetch_all(pool).await?, position))
}

/// How far the rows have come.
pub(crate) async fn position(pool: &PgPool) -> Result<Position, sqlx::Error> {
    let position = sqlx::query_scalar!("SELECT position FROM checkpoints WHERE reader = $1", Users::NAME)
        .fetch_optional(pool)
        .await?;
    Ok(Position::new(position.unwrap_or(0)))
}

/// The ids of the first `limit` users who have the role `admin` and may log in, but for those named.
pub async fn administrators(
    pool: &PgPool,
    but_for: &[String],
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        SELECT id FROM users_v1
        WHERE status = 'active' AND 'admin' = ANY (roles) AND id <> ALL ($1)
        ORDER BY id
        LIMIT $2
        "#,
        but_for,
        limit
    )
    .fetch_all(pool)
    .await
}

/// Which users a list holds; all, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Somewhere in name, matricule, e-mail or username, in any case, with or without accents.
    pub q: Option<String>,
    /// The ministry.
    pub ministere: Option<String>,
    /// `M` or `F`.
    pub sexe: Option<String>,
    /// The status.
    pub status: Option<String>,
}

// Exactly the expression of the index `users_v1_search`; the first name on both sides, for either order of names.
const PAGE: &str = r"
    SELECT * FROM users_v1
    WHERE id > $1
      AND ($2::text IS NULL OR ministere = $2)
      AND ($3::text IS NULL OR sexe = $3)
      AND ($4::text IS NULL OR status = $4)
      AND ($5::text IS NULL OR search_text(prenom, nom, prenom, matricule, email, username) LIKE search_pattern($5))
    ORDER BY id
    LIMIT $6
";
const COUNT: &str = r"
    SELECT count(*) FROM (
        SELECT 1 FROM users_v1
        WHERE ($1::text IS NULL OR ministere = $1)
          AND ($2::text IS NULL OR sexe = $2)
          AND ($3::text IS NULL OR status = $3)
          AND ($4::text IS NULL OR search_text(prenom, nom, prenom, matricule, email, username) LIKE search_pattern($4))
        LIMIT $5
    ) some_users
";
const EXPECTED: &str = r"
    EXPLAIN (FORMAT JSON) SELECT 1 FROM users_v1
    WHERE ($1::text IS NULL OR ministere = $1)
      AND ($2::text IS NULL OR sexe = $2)
      AND ($3::text IS NULL OR status = $3)
      AND ($4::text IS NULL OR search_text(prenom, nom, prenom, matricule, email, username) LIKE search_pattern($4))
";

/// The first `limit` users behind `after_id` in the order of ids.
pub async fn page(
    pool: &PgPool,
    filter: &Filter,
    after_id: Option<&str>,
    limit: i64,
) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as(PAGE)
        .bind(after_id.unwrap_or_default())
        .bind(&filter.ministere)
        .bind(&filter.sexe)
        .bind(&filter.status)
        .bind(&filter.q)
        .bind(limit)
        .persistent(PREPARED)
        .fetch_all(pool)
        .await
}

/// How many users there are, and whether that is exact: above ten thousand it
/// is what the planner of PostgreSQL thinks.
pub async fn count(pool: &PgPool, filter: &Filter) -> Result<(i64, bool), sqlx::Error> {
    let exactly: i64 = sqlx::query_scalar(COUNT)
        .bind(&filter.ministere)
        .bind(&filter.sexe)
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
        .bind(&filter.ministere)
        .bind(&filter.sexe)
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
        INSERT INTO users_v1 (id, matricule, nom, prenom, email, status, roles, email_verified, mfa_enabled,
                              is_company_owner, created_at, updated_at, version)
        SELECT 'u-' || lpad(n::text, 6, '0'), 'M' || n, 'Dupont-' || md5(n::text), 'Élodie', n || '@example.com',
               'active', '{}', false, false, false, now(), now(), 1
        FROM generate_series(1, 20000) n";

    #[sqlx::test(migrator = "MIGRATOR")]
    async fn a_search_reads_its_index(pool: PgPool) {
        let pool = as_served(&pool);
        sqlx::raw_sql(FILL).execute(&pool).await.unwrap();
        sqlx::raw_sql("ANALYZE users_v1").execute(&pool).await.unwrap();
        for (text, found) in [("dùpont-C4CA4238", 1), ("M19999", 1), ("ÉLODIE DUPONT-c4ca42", 1), ("zzz", 0)]
        {
            let all = None::<String>;
            let page_plan = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {PAGE}")));
            let page_plan = page_plan
                .bind("")
                .bind(&all)
                .bind(&all)
                .bind(&all)
                .bind(text)
                .bind(101_i64)
                .persistent(false);
            let count_plan =
                sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {COUNT}")));
            let count_plan = count_plan
                .bind(&all)
                .bind(&all)
                .bind(&all)
                .bind(text)
                .bind(COUNT_EXACTLY + 1)
                .persistent(false);
            for plan in [page_plan, count_plan] {
                let plan: serde_json::Value = plan.fetch_one(&pool).await.unwrap();
                assert_eq!(indexes_of(&plan), ["users_v1_search"], "{text}: {plan:#}");
            }
            let filter = Filter { q: Some(text.to_owned()), ..Filter::default() };
            assert_eq!(page(&pool, &filter, None, 101).await.unwrap().len(), found, "{text}");
            assert_eq!(count(&pool, &filter).await.unwrap().0, i64::try_from(found).unwrap(), "{text}");
        }
        let filter = Filter { q: Some("é".to_owned()), ..Filter::default() };
        assert_eq!(page(&pool, &filter, Some("u-000007"), 1).await.unwrap()[0].id, "u-000008");
        let (expected, exact) = count(&pool, &filter).await.unwrap();
        assert!(expected > COUNT_EXACTLY && !exact, "{expected}");
        assert_kept_nowhere(&pool, "search_text").await;
    }
}
