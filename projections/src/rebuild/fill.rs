//! Rows of what the log had when the rebuild began.
//!
//! The log is read from its beginning for as many rows as memory holds, those of the smallest ids, then again for
//! the next: reading is cheap where most of it is not looked at. A range that is written is written for good.

use event_store::reader::Failure;
use event_store::{EventStore, Position};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection};

use super::place::{Phase, Place};
use super::{Bulk, Step};
use crate::operations::{Skipped, skipped};
use crate::table::Projection;

pub(super) async fn fill<P: Projection>(
    store: &dyn EventStore,
    connection: &mut PgConnection,
    place: &mut Place,
    memory: usize,
    told: &(dyn Fn(Step) + Sync),
) -> Result<(), Failure> {
    let mut bulk =
        P::bulk().ok_or_else(|| Failure::lasting("rebuild_unknown", "an earlier version has begun it"))?;
    let skipped = skipped(connection, P::NAME).await?;
    for range in 1.. {
        let told = |at| told(Step::Reading { range, at, to: place.upto });
        let next = read::<P>(store, &mut *bulk, place, &skipped, memory, &told).await?;
        let mut transaction = connection.begin().await?;
        match &next {
            Some(next) => place.reach::<P>(&mut transaction, next).await?,
            None => place.go_to::<P>(&mut transaction, Phase::Indexing).await?,
        }
        bulk.write(&mut transaction).await?;
        transaction.commit().await?;
        if next.is_none() {
            break;
        }
        place.reached = next;
    }
    Ok(())
}

/// Folds the events of as many streams as there is memory for; answers with which the next range begins.
async fn read<P: Projection>(
    store: &dyn EventStore,
    bulk: &mut dyn Bulk,
    place: &Place,
    skipped: &Skipped,
    memory: usize,
    told: &(dyn Fn(Position) + Sync),
) -> Result<Option<String>, Failure> {
    let (category, from) = (bulk.category(), place.reached.as_deref());
    let mut next: Option<String> = None;
    let mut pages = store.replay(Position::START, place.upto);
    while let Some(events) = pages.try_next().await? {
        let wanted = skipped.left(&events, P::NAME);
        for event in wanted.iter().filter(|event| event.stream.category() == category) {
            let id = event.stream.id();
            if from.is_none_or(|from| id >= from) && next.as_deref().is_none_or(|next| id < next) {
                bulk.take_in(event)?;
            }
        }
        while bulk.bytes() > memory
            && let Some(middle) = bulk.halve()
        {
            next = Some(middle);
        }
        if let Some(last) = events.last() {
            told(last.position);
        }
    }
    Ok(next)
}
