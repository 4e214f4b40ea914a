//! How read models stand, as every process sees it: what has stopped in another one is to be told here, too.

use std::time::Duration;

use projections::operations::{self, Standing};
use sqlx::PgPool;
use tokio::sync::watch;

use crate::figures;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps `seen` and the figures up to date. Runs until it is dropped.
pub(crate) async fn follow(reader: &'static str, pool: PgPool, seen: watch::Sender<Standing>) {
    figures::show_standing(reader, &Standing::default());
    loop {
        // Unknown while PostgreSQL is away: then it is what it was.
        if let Ok(standing) = look(reader, &pool).await {
            figures::show_standing(reader, &standing);
            seen.send_replace(standing);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(reader: &str, pool: &PgPool) -> Result<Standing, sqlx::Error> {
    operations::standing(&mut *pool.acquire().await?, reader).await
}
