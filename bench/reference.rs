//! What `PostgreSQL` does by itself, asked by `pgbench`: one row a commit, one row a query.

use std::process::Command;

use sqlx::PgPool;

use crate::Failure;

/// The columns of `events`; positions from a sequence, as a log without ours would have them.
pub const TABLE: &str = r#"
CREATE TABLE reference (
    position bigserial PRIMARY KEY, recorded_at timestamptz NOT NULL, event_id uuid NOT NULL,
    version integer NOT NULL, schema_version smallint NOT NULL, enc smallint NOT NULL,
    stream text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL, subject text,
    data bytea NOT NULL, meta bytea NOT NULL, UNIQUE (stream, version));
ALTER TABLE reference ALTER COLUMN data SET STORAGE EXTERNAL, ALTER COLUMN meta SET STORAGE EXTERNAL"#;

/// The payload of an update.
pub const CHANGED: &str =
    r#"{"nom":"Dupont-000000000000","avatar":"https://example.com/avatars/000000000000.png"}"#;

const META: &str = r#"{"actor":"anonymous","correlationId":"00000000-0000-0000-0000-000000000000"}"#;

/// A row a commit, as an update of one of so many streams stores it.
#[must_use]
pub fn update(streams: usize) -> String {
    insert(
        &format!("'user-0192f3c0-0000-7000-8000-' || lpad((:r % {streams})::text, 12, '0')"),
        "user.changed",
        CHANGED,
    )
}

/// A row a commit, as a creation stores it: on a stream that sorts last, as ours do.
#[must_use]
pub fn create() -> String {
    let data = format!(
        r#"{{"id":"{id}","matricule":"M{m}","nom":"Dupont","prenom":"Jean","ministere":"Santé","avatar":"https://example.com/avatars/dupont.png","sexe":"M","isCompanyOwner": false}}"#,
        id = "0".repeat(36),
        m = "0".repeat(32)
    );
    let last = "'user-0192f3c0-0000-7000-8000-' || lpad(currval('reference_position_seq')::text, 12, '0')";
    insert(last, "user.created", &data)
}

fn insert(stream: &str, kind: &str, data: &str) -> String {
    format!(
        "\\set r random(1, 1000000000)\n\
         INSERT INTO reference VALUES (nextval('reference_position_seq'), clock_timestamp(), gen_random_uuid(), \
         currval('reference_position_seq'), 1, 0, {stream}, '{kind}', NULL, convert_to('{data}', 'UTF8'), '{META}');\n"
    )
}

/// The function that ours calls, with one event of a new stream: what a caller alone could reach.
#[must_use]
pub fn function() -> String {
    format!(
        "SELECT * FROM append_batch(NULL, NULL, NULL, NULL, ARRAY['user-' || gen_random_uuid()], '{{0}}', '{{0}}', \
         '{{f}}', '{{1}}', '{{NULL}}', \
         '{{NULL}}', '{{NULL}}', '{{t}}', NULL, '{{}}', '{{}}', '{{}}', '{{}}', '{{1}}', '{{1}}', \
         ARRAY[gen_random_uuid()], '{{user.changed}}', '{{1}}', '{{NULL}}', '{{0}}', \
         ARRAY[convert_to('{CHANGED}', 'UTF8')], ARRAY['{META}'::bytea]);\n"
    )
}

/// Transactions a second of `pgbench -M prepared` with a script.
pub async fn pgbench(url: &str, script: &str, clients: usize, seconds: u64) -> Result<f64, Failure> {
    run(url, script, clients, seconds).await.map(|(tps, _)| tps)
}

/// Commits a second, each a row of [`TABLE`], which are counted.
pub async fn inserts(
    url: &str,
    script: &str,
    clients: usize,
    seconds: u64,
    pool: &PgPool,
) -> Result<f64, Failure> {
    let before = rows(pool, "reference").await?;
    let (tps, processed) = run(url, script, clients, seconds).await?;
    let stored = crate::whole(rows(pool, "reference").await? - before);
    if stored < processed {
        return Err(format!("pgbench: {processed} committed, {stored} stored").into());
    }
    Ok(tps)
}

/// Transactions a second, and how many there were.
async fn run(url: &str, script: &str, clients: usize, seconds: u64) -> Result<(f64, f64), Failure> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let mut command = Command::new("pgbench");
    command.args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &clients.min(2).to_string()]);
    command.args(["-T", &seconds.to_string(), "-f"]).arg(file.path()).arg(url);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |label: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(label))?.trim().split([' ', '/']).next()?.parse().ok()
    };
    match (number("tps = "), number("number of transactions actually processed:")) {
        (Some(tps), Some(processed)) => Ok((tps, processed)),
        _ => Err(format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// How many rows a table has.
pub async fn rows(pool: &PgPool, table: &str) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(pool)
        .await?)
}
