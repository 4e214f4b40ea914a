//! `annuaire projections rebuild` and `rollback` of the read models in `PostgreSQL`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use event_store::reader::Failure;
use event_store::{EventStore, Position};
use projections::Projection;
use projections::customers::Customers;
use projections::rebuild::{Rebuild, Rebuilt, Step};
use projections::users::Users;
use serde_json::json;

use super::super::Tools;
use super::super::print::write;
use super::super::progress::Progress;
use super::{Name, Which};
use crate::fatal::Fatal;

const MIB: usize = 1 << 20;

/// Makes one again.
pub(super) async fn rebuild(tools: &Tools, which: Which, memory: u16) -> Result<(), Fatal> {
    match which.name {
        Name::Users => tell::<Users>(tools, which, memory, false).await,
        Name::Customers => tell::<Customers>(tools, which, memory, false).await,
        Name::ProfileCache => Err(no_table(which)),
    }
}

/// Puts back what was replaced.
pub(super) async fn roll_back(tools: &Tools, which: Which) -> Result<(), Fatal> {
    match which.name {
        Name::Users => tell::<Users>(tools, which, 0, true).await,
        Name::Customers => tell::<Customers>(tools, which, 0, true).await,
        Name::ProfileCache => Err(no_table(which)),
    }
}

/// Gives up what was begun.
pub(super) async fn cancel(tools: &Tools, which: Which) -> Result<(), Fatal> {
    let given_up = match which.name {
        Name::Users => made::<Users>(tools, 0).await?.0.cancel().await,
        Name::Customers => made::<Customers>(tools, 0).await?.0.cancel().await,
        Name::ProfileCache => return Err(no_table(which)),
    };
    let name = which.name.as_str();
    let given_up = given_up.map_err(|e| Fatal::new(format!("can't give up the rebuild of {name}"), e))?;
    let text = match (which.json, given_up) {
        (true, _) => format!("{:#}\n", json!({ "name": name, "cancelled": given_up })),
        (false, true) => format!("{name}: the rebuild is given up, what it had made is dropped\n"),
        (false, false) => format!("{name}: no rebuild was begun\n"),
    };
    write(&text).map(drop)
}

async fn made<P: Projection>(tools: &Tools, memory: u16) -> Result<(Rebuild<P>, Arc<dyn EventStore>), Fatal> {
    let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
    let options = tools.urls.read_models.clone();
    Ok((Rebuild::new(store.clone(), options, usize::from(memory) * MIB), store))
}

async fn tell<P: Projection>(tools: &Tools, which: Which, memory: u16, back: bool) -> Result<(), Fatal> {
    let (name, begun) = (which.name.as_str(), Instant::now());
    let (rebuild, store) = made::<P>(tools, memory).await?;
    let head = store.head().await.map_err(|e| Fatal::new("can't read the event log", e))?;
    let progress = Progress::new(head.get());
    let told = |step: Step| show(&progress, step);
    let made = if back { rebuild.roll_back(&told).await } else { rebuild.run(&told).await };
    let what = if back { "roll back" } else { "rebuild" };
    let made = made.map_err(|e: Failure| Fatal::new(format!("can't {what} {name}"), e))?;
    progress.finish();
    let seconds = begun.elapsed().as_secs_f64();
    let text = if which.json {
        let Rebuilt { position, rows, differing, differences } = &made;
        let answer = json!({
            "name": name, "position": position.get(), "rows": rows, "seconds": seconds,
            "differing": differing, "differences": differences,
        });
        format!("{answer:#}\n")
    } else {
        report(name, &made, seconds)
    };
    write(&text).map(drop)
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
        Step::Comparing => {
            progress.say("The new rows are read from now on; comparing them with the old ones");
        }
    }
}

fn report(name: &str, rebuilt: &Rebuilt, seconds: f64) -> String {
    let Rebuilt { position, rows, differing, differences } = rebuilt;
    let mut text = format!("{name}: {rows} rows as of position {position}, in {seconds:.1} s\n");
    // Writing to a text does not fail.
    let _ = match *differing {
        0 => writeln!(text, "They are what the old ones were"),
        count => writeln!(
            text,
            "{count} differ from the old ones, which `annuaire projections rollback {name}` puts back:"
        ),
    };
    for difference in differences {
        let _ = writeln!(text, "  {}", difference.with("now", "before"));
    }
    text
}

fn no_table(which: Which) -> Fatal {
    let how = "it has no tables; `annuaire projections rebuild profile_cache` writes its hashes again";
    Fatal::new(format!("can't do that with {}", which.name.as_str()), how)
}
