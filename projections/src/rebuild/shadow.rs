//! The tables of a rebuild: as the live ones are in everything but their rows.

use event_store::LogId;
use event_store::reader::Failure;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::place::{Kind, Phase, Place};
use crate::table::Projection;

/// Statements that make a table like that of the same name in the schema `public`, with its settings and its
/// grants, which `LIKE` leaves out.
const CREATE: &str = r"
    SELECT concat_ws('; ',
        format('CREATE TABLE rebuild.%1$I (LIKE public.%1$I INCLUDING ALL EXCLUDING INDEXES)', relname),
        format('ALTER TABLE rebuild.%I OWNER TO %I', relname, pg_get_userbyid(relowner)),
        'ALTER TABLE ' || format('rebuild.%I SET (', relname) || array_to_string(reloptions, ', ') || ')',
        (SELECT string_agg(format('GRANT %s ON rebuild.%I TO %s', privilege_type, relname,
                    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END), '; ')
         FROM aclexplode(relacl) WHERE grantee <> relowner))
    FROM pg_class WHERE oid = format('public.%I', $1)::regclass";

/// Statements that make the indexes of that table, and the constraints that they stand for.
const INDEX: &str = r"
    SELECT concat_ws('; ',
        replace(pg_get_indexdef(indexrelid), format(' ON public.%I ', $1), format(' ON rebuild.%I ', $1)),
        CASE WHEN conname IS NOT NULL THEN
            format('ALTER TABLE rebuild.%I ADD CONSTRAINT %I %s USING INDEX %I', $1, conname,
                CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, index.relname)
        END)
    FROM pg_index JOIN pg_class index ON index.oid = indexrelid
    LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u')
    WHERE pg_index.indrelid = format('public.%I', $1)::regclass
      -- One that was made before this process was stopped.
      AND NOT EXISTS (SELECT 1 FROM pg_class made WHERE made.relname = index.relname
                      AND made.relnamespace = 'rebuild'::regnamespace)
    ORDER BY index.relname";

/// What hangs on a table of the schema `public` and would not be on one that takes its place.
const HANGS_ON: &str = r"
    SELECT 'the trigger ' || tgname FROM pg_trigger
    WHERE tgrelid = format('public.%I', $1)::regclass AND NOT tgisinternal
    UNION ALL
    SELECT 'the policy ' || polname FROM pg_policy WHERE polrelid = format('public.%I', $1)::regclass
    UNION ALL
    SELECT 'the constraint ' || conname FROM pg_constraint
    WHERE contype = 'f' AND format('public.%I', $1)::regclass IN (conrelid, confrelid)
    UNION ALL
    SELECT 'the publication ' || pubname FROM pg_publication_rel JOIN pg_publication pub ON pub.oid = prpubid
    WHERE prrelid = format('public.%I', $1)::regclass
    UNION ALL
    SELECT 'the view ' || ev_class::regclass FROM pg_depend JOIN pg_rewrite rule ON rule.oid = objid
    WHERE classid = 'pg_rewrite'::regclass AND refobjid = format('public.%I', $1)::regclass
    LIMIT 1";

/// The columns of a table, as far as queries depend on them.
const COLUMNS: &str = r"
    SELECT array_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = format('%I.%I', $1, $2)::regclass AND attnum > 0 AND NOT attisdropped";

pub(super) async fn create<P: Projection>(connection: &mut PgConnection) -> Result<(), Failure> {
    for table in P::TABLES {
        let hangs_on: Option<String> =
            sqlx::query_scalar(HANGS_ON).bind(table).fetch_optional(&mut *connection).await?;
        if let Some(hangs_on) = hangs_on {
            let why = format!("{hangs_on} hangs on {table}, and would not on the table that takes its place");
            return Err(Failure::lasting("rebuild_loses", format!("{why}: drop it first")));
        }
        let statements: String = sqlx::query_scalar(CREATE).bind(table).fetch_one(&mut *connection).await?;
        run(connection, statements).await?;
    }
    Ok(())
}

/// Refuses tables that a migration has not changed as it has the live ones.
pub(super) async fn assert_alike<P: Projection>(connection: &mut PgConnection) -> Result<(), Failure> {
    for table in P::TABLES {
        let mut columns = async |schema: &str| -> Result<Vec<String>, sqlx::Error> {
            sqlx::query_scalar(COLUMNS).bind(schema).bind(table).fetch_one(&mut *connection).await
        };
        if columns("public").await? != columns("rebuild").await? {
            let why = format!("a migration has changed {table} since what takes its place was made");
            let how = format!("`annuaire projections rebuild {} --cancel` gives that up", P::NAME);
            return Err(Failure::lasting("rebuild_outdated", format!("{why}: {how}")));
        }
    }
    Ok(())
}

/// Lets the planner see what there is.
pub(super) async fn analyze<P: Projection>(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let analyze: Vec<String> = P::TABLES.iter().map(|table| format("ANALYZE rebuild.", table)).collect();
    run(connection, analyze.join("; ")).await
}

/// Makes the indexes that are missing.
pub(super) async fn index<P: Projection>(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // For the time of it: a rebuild is alone.
    run(connection, "SET maintenance_work_mem = '256MB'".into()).await?;
    for table in P::TABLES {
        let indexes: Vec<String> = sqlx::query_scalar(INDEX).bind(table).fetch_all(&mut *connection).await?;
        for statements in indexes {
            run(connection, statements).await?;
        }
    }
    Ok(())
}

/// Drops what there is, and forgets that it was begun.
pub(super) async fn drop<P: Projection>(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for table in P::TABLES {
        run(&mut transaction, format("DROP TABLE IF EXISTS rebuild.", table)).await?;
    }
    forget::<P>(&mut transaction).await?;
    transaction.commit().await
}

/// Forgets where the rebuild was.
pub(super) async fn forget<P: Projection>(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for delete in
        ["DELETE FROM rebuilds WHERE reader = $1", "DELETE FROM rebuild.checkpoints WHERE reader = $1"]
    {
        sqlx::query(delete).bind(P::NAME).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Takes what the last rebuild has replaced for a new one that is filled already.
pub(super) async fn bring_back<P: Projection>(
    connection: &mut PgConnection,
    log: LogId,
) -> Result<(), Failure> {
    let mut transaction = connection.begin().await?;
    let moved = sqlx::query(
        "WITH previous AS (DELETE FROM previous.checkpoints WHERE reader = $1 AND log_id = $2 AND generation = $3
                           RETURNING *)
         INSERT INTO rebuild.checkpoints SELECT * FROM previous",
    )
    .bind(P::NAME)
    .bind(log.id)
    .bind(log.generation)
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() == 0 {
        return Err(Failure::lasting(
            "rebuild_unknown",
            format!("no rebuild of this log has replaced {}: there is nothing to go back to", P::NAME),
        ));
    }
    for table in P::TABLES {
        run(&mut transaction, format("ALTER TABLE previous.", table) + " SET SCHEMA rebuild").await?;
    }
    let (kind, phase) = (Kind::Rollback, Phase::CatchingUp);
    Place::begin::<P>(&mut transaction, log, kind, phase, event_store::Position::START).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes that back.
pub(super) async fn put_back<P: Projection>(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO previous.checkpoints SELECT * FROM rebuild.checkpoints WHERE reader = $1")
        .bind(P::NAME)
        .execute(&mut *transaction)
        .await?;
    for table in P::TABLES {
        run(&mut transaction, format("ALTER TABLE rebuild.", table) + " SET SCHEMA previous").await?;
    }
    forget::<P>(&mut transaction).await?;
    transaction.commit().await
}

/// A statement that ends with a name of ours.
pub(super) fn format(before: &str, table: &str) -> String {
    format!("{before}\"{table}\"")
}

pub(super) async fn run(connection: &mut PgConnection, statements: String) -> Result<(), sqlx::Error> {
    // Of names that stand in this program or in the catalogue, and are quoted.
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(|_| ())
}
