//! What lists have in common.

/// Above so many rows a count is an estimate.
pub(crate) const COUNT_EXACTLY: i64 = 10_000;

/// Whether queries of lists are kept with a plan: which index is best depends on what is asked for, and a plan that
/// is made once walks through all rows by their ids, whatever is searched.
pub(crate) const PREPARED: bool = false;

/// How many rows the planner of `PostgreSQL` expects, from what EXPLAIN (FORMAT JSON) answers.
pub(crate) fn expected_rows(plan: &serde_json::Value) -> i64 {
    plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod testing {
    use serde_json::Value;
    use sqlx::PgPool;

    /// One connection with the settings of those that queries get.
    pub(crate) fn as_served(pool: &PgPool) -> PgPool {
        event_store::postgres::pool(event_store::postgres::probing((*pool.connect_options()).clone()), 1)
    }

    /// The indexes that a plan reads.
    pub(crate) fn indexes_of(plan: &Value) -> Vec<&str> {
        let (own, parts): (_, Vec<&Value>) = match plan {
            Value::Object(fields) => {
                (fields.get("Index Name").and_then(Value::as_str), fields.values().collect())
            }
            Value::Array(parts) => (None, parts.iter().collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (None, Vec::new()),
        };
        own.into_iter().chain(parts.into_iter().flat_map(indexes_of)).collect()
    }

    /// Fails if the connection keeps a statement that has this text.
    pub(crate) async fn assert_kept_nowhere(pool: &PgPool, text: &str) {
        let kept: Vec<String> = sqlx::query_scalar(
            "SELECT statement FROM pg_prepared_statements WHERE strpos(statement, $1) > 0",
        )
        .bind(text)
        .fetch_all(pool)
        .await
        .unwrap();
        assert_eq!(kept, Vec::<String>::new());
    }
}
