//! What every backend of the log must do, as one list of cases, and what PostgreSQL must do besides.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

mod cases;
mod commands;
mod counter;
mod following;
mod leaders;
mod model;
mod plans;
mod readers;

use std::sync::Arc;

use event_store::postgres::PostgresStore;
use event_store::{EventStore, MIGRATOR};
use sqlx::PgPool;

/// The store of a test's own database.
async fn store(pool: &PgPool) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap())
}

/// Runs a case of the list against each backend there is.
macro_rules! contract {
    ($($case:ident)*) => {
        mod postgres {
            use super::*;
            $(#[sqlx::test(migrator = "MIGRATOR")]
            async fn $case(pool: PgPool) {
                let store: Arc<dyn EventStore> = store(&pool).await;
                cases::$case(store).await;
            })*
        }
    };
}

contract! {
    positions_follow_each_other_without_a_hole
    a_stale_command_is_refused_and_the_others_are_stored
    a_lane_is_stored_in_one_batch
    who_was_decided_after_a_loser_of_its_lane_is_stale
    a_claim_is_held_by_one_stream_until_it_is_released
    a_taken_claim_is_no_answer_to_a_stale_command
    a_key_counts_once_and_only_for_the_same_request
    the_key_of_a_refusal_is_not_kept
    a_batch_sent_again_is_stored_once
    a_command_without_events_holds_at_its_version_only
    time_never_goes_back_along_positions
    a_stream_is_read_in_part
    the_log_is_read_in_order_from_a_position
    news_of_the_head_wakes_a_reader
    a_reader_refuses_a_log_that_is_not_its_own
}
