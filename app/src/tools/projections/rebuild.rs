//! `annuaire projections rebuild` and `rollback` of the read models in `PostgreSQL`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use event_store::reader::Failure;
use event_store::{EventStore, Position};
use projections::Projection;
use projections::customers::Customers;
use projections::rebuild::{Compared, Rebuild, Rebuilt, Step};
use projections::users::Users;
use serde_json::json;

use super::super::Tools;
use super::super::print::write;
use super::super::progress::Progress;
use super::{Memory, Name, Verified, Which, after_others, tell};
use crate::fatal::Fatal;

/// What is to be done with rows.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Verify { heal: bool, memory: Memory },
    Rebuild { memory: Memory },
    RollBack,
    Cancel,
}

/// Does it with the rows of one that has some.
pub(super) async fn run(tools: &Tools, which: Which, order: Order) -> Result<(), Fatal> {
    match which.name {
        Name::Users => run_for::<Users>(tools, which, order).await,
        Name::Customers => run_for::<Customers>(tools, which, order).await,
        Name::ProfileCache => {
            let how =
                "it has no tables; `annuaire projections rebuild profile_cache` writes its hashes again";
            Err(Fatal::new("can't do that with profile_cache", how))
        }
    }
}

async fn run_for<P: Projection>(tools: &Tools, which: Which, order: Order) -> Result<(), Fatal> {
    let (Which { name, json: as_json }, begun) = (which, Instant::now());
    let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
    let head = store.head().await.map_err(|e| Fatal::new("can't read the event log", e))?;
    let memory = match order {
        Order::Verify { memory, .. } | Order::Rebuild { memory } => memory.bytes(),
        // Only what the log has had since is looked at.
        Order::RollBack | Order::Cancel => 0,
    };
    let rebuild = Rebuild::<P>::new(store, tools.urls.owner().clone(), memory);
    let progress = Progress::new(head.get());
    let told = |step: Step| show(&progress, step);
    let failed = |what: &str| {
        let what = format!("can't {what} {}", name.as_str());
        |e: Failure| Fatal::new(what, e)
    };
    let made = match order {
        Order::Verify { heal, .. } => {
            let (position, Compared { differing, differences, .. }) =
                rebuild.verify(heal, &told).await.map_err(failed("verify"))?;
            return tell(&Verified { name, position, differing, differences, is_healed: heal }, as_json, &[]);
        }
        Order::Cancel => {
            let given_up = rebuild.cancel().await.map_err(failed("give up the rebuild of"))?;
            return write(&cancelled(name, given_up, as_json)).map(drop);
        }
        Order::Rebuild { .. } => rebuild.run(&told).await.map_err(failed("rebuild"))?,
        Order::RollBack => rebuild.roll_back(&told).await.map_err(failed("roll back"))?,
    };
    progress.finish();
    write(&report(name, &made, begun.elapsed().as_secs_f64(), as_json)).map(drop)
}

fn cancelled(name: Name, given_up: bool, as_json: bool) -> String {
    let name = name.as_str();
    match (as_json, given_up) {
        (true, _) => format!("{:#}\n", json!({ "name": name, "cancelled": given_up })),
        (false, true) => format!("{name}: the rebuild is given up, what it had made is dropped\n"),
        (false, false) => format!("{name}: no rebuild was begun\n"),
    }
}

fn show(progress: &Progress, step: Step) {
    let at = |position: Position| progress.at(position.get());
    match step {
        Step::Resumed => progress.say("Going on with the rebuild that was broken off"),
        Step::Reading { range, at: position, to } if position == to => {
            progress.say(&format!("Read the log, range {range} of the rows that memory holds at a time"));
        }
        Step::Reading { at: position, .. } | Step::CatchingUp { at: position, .. } => at(position),
        Step::Indexing => progress.say("Making the indexes"),
        Step::Waiting => progress.say("Waiting for queries that read the rows"),
        Step::Swapped => {
            progress.say("The new rows are read from now on; comparing them with the old ones");
        }
        Step::Comparing => progress.say("Comparing the rows that the log makes with the others"),
    }
}

fn report(read_model: Name, rebuilt: &Rebuilt, seconds: f64, as_json: bool) -> String {
    let (Rebuilt { position, was_at, compared }, name) = (rebuilt, read_model.as_str());
    if as_json {
        let mut answer = json!({
            "name": name, "position": position.get(), "wasAt": was_at.get(), "seconds": seconds,
        });
        match compared {
            Ok(Compared { rows, differing, differences }) => {
                answer["rows"] = (*rows).into();
                answer["differing"] = (*differing).into();
                answer["differences"] = json!(differences);
            }
            Err(error) => answer["notCompared"] = error.to_string().into(),
        }
        return format!("{answer:#}\n");
    }
    let mut text = format!("{name}: made as of position {position}, in {seconds:.1} s\n");
    // Writing to a text does not fail.
    let _ = match compared {
        Err(error) => writeln!(text, "They could not be compared with the old ones: {error}"),
        Ok(Compared { rows, differing: 0, .. }) => writeln!(text, "{rows} rows, as the old ones were"),
        Ok(Compared { rows, .. }) if *was_at == Position::START => {
            writeln!(text, "{rows} rows, the first ones")
        }
        Ok(Compared { rows, differing, .. }) => writeln!(
            text,
            "{rows} rows, of which {differing} differ from the old ones, which were at position {was_at} and which \
             `annuaire projections rollback {name}` puts back:"
        ),
    };
    if let Ok(Compared { differing, differences, .. }) = compared
        && *was_at > Position::START
    {
        for difference in differences {
            let _ = writeln!(text, "  {}", difference.with("now", "before"));
        }
        after_others(read_model, *differing, &mut text);
    }
    text
}
