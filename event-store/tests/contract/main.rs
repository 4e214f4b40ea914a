//! What every backend of the log must do, as one list of cases, and what PostgreSQL must do besides.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

mod account;
mod cases;
mod commands;
mod counter;
mod following;
mod inbox;
mod latest;
mod leaders;
mod marks;
mod model;
mod plans;
mod readers;
mod reads;
mod seen;
mod shaky;
mod together;

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
    ($($list:ident::$case:ident)*) => {
        mod postgres {
            use super::*;
            $(#[sqlx::test(migrator = "MIGRATOR")]
            async fn $case(pool: PgPool) {
                let store: Arc<dyn EventStore> = store(&pool).await;
                $list::$case(store).await;
            })*
        }
    };
}

contract! {
    cases::positions_follow_each_other_without_a_hole
    cases::a_stale_command_is_refused_and_the_others_are_stored
    cases::a_lane_is_stored_in_one_batch
    cases::who_was_decided_after_a_loser_of_its_lane_is_stale
    cases::a_claim_is_held_by_one_stream_until_it_is_released
    cases::a_taken_claim_is_no_answer_to_a_stale_command
    cases::a_key_counts_once_and_only_for_the_same_request
    cases::the_key_of_a_refusal_is_not_kept
    cases::a_batch_sent_again_is_stored_once
    cases::a_command_without_events_holds_at_its_version_only
    cases::time_never_goes_back_along_positions
    cases::a_stream_is_read_in_part
    cases::the_log_is_read_in_order_from_a_position
    cases::news_of_the_head_wakes_a_reader
    cases::a_reader_refuses_a_log_that_is_not_its_own
    cases::a_group_is_stored_together_or_not_at_all
    cases::a_group_that_fails_takes_its_lanes_with_it_and_no_other_group
    cases::a_group_sent_again_is_stored_once
    seen::a_batch_tells_where_the_log_ended_and_ends
    seen::who_has_seen_the_end_is_alone
    seen::what_others_wrote_since_is_told
    seen::what_is_too_much_to_tell_is_looked_up
    seen::a_batch_of_ones_own_is_never_too_much
    seen::others_are_noticed_on_either_side_of_a_batch_of_ones_own
    seen::a_batch_that_was_sent_twice_may_stand_in_two_pieces
    seen::a_log_that_was_set_back_and_has_gone_on_is_looked_up
    reads::a_stream_is_read_backwards
    reads::several_streams_are_read_at_once
    reads::the_log_is_replayed_as_it_is_read
    reads::a_replay_that_nobody_reads_to_its_end_costs_no_connection
    reads::a_reader_gets_what_it_wants_and_knows_how_far_it_has_looked
}
