//! Live rows compared with those that the log makes, and set right.

use event_store::EventStore;
use event_store::reader::Failure;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::compare::{Key, compare};
use super::shadow::run;
use super::swap::snapshot;
use super::{Rebuilt, Shadow, of_this_log};
use crate::table::Projection;

/// Compares as of one position, and writes what differs if it is to `heal`. The rows made beside the live ones
/// are behind them by little, and not ahead.
pub(super) async fn verify<P: Projection>(
    store: &dyn EventStore,
    options: &PgConnectOptions,
    shadow: &mut Shadow,
    heal: bool,
) -> Result<Rebuilt, Failure> {
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin().await?;
    hold::<P>(&mut transaction, store, shadow).await?;
    let both = snapshot(options).await?;
    transaction.commit().await?;
    let ((mut session, keys), verified) = compare::<P>(both, "public", "rebuild", shadow.at.position).await?;
    if heal && verified.differing > 0 {
        // In the session that has the keys.
        let mut transaction = session.begin().await?;
        hold::<P>(&mut transaction, store, shadow).await?;
        for Key { table, columns } in keys {
            let replace = format!(
                "DELETE FROM public.\"{table}\"
                 WHERE ({columns}) IN (SELECT {columns} FROM \"differing_{table}\");
                 INSERT INTO public.\"{table}\" SELECT made.* FROM rebuild.\"{table}\" made
                 JOIN \"differing_{table}\" USING ({columns})"
            );
            run(&mut transaction, replace).await?;
        }
        transaction.commit().await?;
    }
    Ok(verified)
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
    Ok(())
}
