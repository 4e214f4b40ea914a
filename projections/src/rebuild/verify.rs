//! Live rows compared with those that the log makes, and set right.

use event_store::EventStore;
use event_store::reader::Failure;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::compare::{Key, compare};
use super::shadow::run;
use super::swap::snapshot;
use super::{Compared, Shadow, of_this_log};
use crate::table::Projection;

/// What was found, and the session that has the keys of what differs.
pub(super) struct Found {
    session: PgConnection,
    keys: Vec<Key>,
    pub(super) compared: Compared,
}

/// Compares as of one position. The rows made beside the live ones are behind them by little, and not ahead.
pub(super) async fn find<P: Projection>(
    store: &dyn EventStore,
    options: &PgConnectOptions,
    shadow: &mut Shadow,
) -> Result<Found, Failure> {
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin().await?;
    hold::<P>(&mut transaction, store, shadow).await?;
    let both = snapshot(options).await?;
    transaction.commit().await?;
    let (session, keys, compared) = compare::<P>(both, "public", "rebuild").await?;
    Ok(Found { session, keys, compared })
}

/// Writes what differs.
pub(super) async fn heal<P: Projection>(
    store: &dyn EventStore,
    mut found: Found,
    shadow: &mut Shadow,
) -> Result<Compared, Failure> {
    let mut transaction = found.session.begin().await?;
    hold::<P>(&mut transaction, store, shadow).await?;
    for Key { table, columns } in found.keys {
        let replace = format!(
            "DELETE FROM public.\"{table}\" WHERE ({columns}) IN (SELECT {columns} FROM \"differing_{table}\");
             INSERT INTO public.\"{table}\" SELECT made.* FROM rebuild.\"{table}\" made
             JOIN \"differing_{table}\" USING ({columns})"
        );
        run(&mut transaction, replace).await?;
    }
    transaction.commit().await?;
    Ok(found.compared)
}

/// Keeps whoever writes the live rows waiting, and brings those beside them to the same position.
async fn hold<P: Projection>(
    transaction: &mut PgConnection,
    store: &dyn EventStore,
    shadow: &mut Shadow,
) -> Result<(), Failure> {
    run(transaction, "SET LOCAL lock_timeout = '30s'; SET LOCAL synchronous_commit = on".into()).await?;
    sqlx::query("SELECT 1 FROM checkpoints WHERE reader = $1 FOR UPDATE")
        .bind(P::NAME)
        .execute(&mut *transaction)
        .await?;
    if let Some(live) = of_this_log::<P>(transaction, store.log()).await? {
        shadow.catch_up::<P>(store, live.position, &|_| ()).await?;
    }
    shadow.fence::<P>(transaction).await
}
