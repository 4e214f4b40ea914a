//! `annuaire doctor`: looks at everything the program needs, and says what to do.

mod kafka;
mod mail;
mod postgres;
mod redis;

use serde_json::{Value, json};

use super::print::write;
use super::{Tools, followers};
use crate::fatal::Fatal;

/// A reader this many seconds behind is worth a look.
const LATE: f64 = 60.0;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    /// It works; someone should look.
    Warning,
    /// Something does not work, or will lose what was acknowledged.
    Problem,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was looked at, and what was found.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; empty where nothing is.
    todo: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), todo: String::new() }
    }

    fn warning(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: found.into(), todo: todo.into() }
    }

    fn problem(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { name, state: State::Problem, found: found.into(), todo: todo.into() }
    }

    fn json(&self) -> Value {
        let todo = Some(&self.todo).filter(|todo| !todo.is_empty());
        json!({ "check": self.name, "state": self.state.name(), "found": self.found, "do": todo })
    }

    fn text(&self) -> String {
        let todo = if self.todo.is_empty() { String::new() } else { format!(": {}", self.todo) };
        format!("{:<8} {}: {}{todo}\n", self.state.name(), self.name, self.found)
    }
}

/// Prints every check; an error where one is a problem.
pub(crate) async fn run(tools: &Tools, as_json: bool) -> Result<(), Fatal> {
    let mut checks = postgres::look(tools).await;
    // Without the schema there is nothing to be read.
    if checks.iter().all(|check| check.state != State::Problem || check.name != postgres::SCHEMA) {
        checks.extend(readers(tools).await);
    }
    checks.extend(redis::look(tools).await);
    checks.extend(kafka::look(tools).await);
    checks.push(mail::look(tools).await);
    let has = |state| checks.iter().filter(|check| check.state == state).count();
    let problems = has(State::Problem);
    let text = if as_json {
        let checks: Vec<Value> = checks.iter().map(Check::json).collect();
        let all = json!({ "problems": problems, "warnings": has(State::Warning), "checks": checks });
        format!("{all:#}\n")
    } else {
        checks.iter().map(Check::text).collect()
    };
    // Whoever stopped reading still gets the exit code.
    let _written = write(&text)?;
    if problems == 0 {
        return Ok(());
    }
    Err(Fatal::new("something needs to be mended", format!("{problems} of {} checks", checks.len())))
}

/// The log and those that follow it.
async fn readers(tools: &Tools) -> Vec<Check> {
    let (head, followers) = match followers::read(tools).await {
        Ok(read) => read,
        // Said by the checks of PostgreSQL already, where it is not there at all.
        Err(error) => return vec![Check::problem("log", error.to_string(), "see the lines above")],
    };
    let mut checks = vec![Check::ok("log", format!("ends at position {head}"))];
    for follower in followers {
        // Of an embedded broker there is a line of its own.
        let Some(lag) = &follower.lag else { continue };
        let (name, late) = (&follower.name, lag.seconds);
        let found = match follower.position {
            Some(position) => {
                let behind = || format!("{} events and {late:.1} s behind", lag.events());
                let place = lag.diverged().map_or_else(behind, ToOwned::to_owned);
                format!("{name} is at position {position}, {place}")
            }
            None => format!("{name} has not begun"),
        };
        checks.push(if lag.diverged().is_some() {
            let todo = "the log was restored to an earlier point: see `log_diverged` in docs/operations.md";
            Check::problem("reader", found, todo)
        } else if late > LATE {
            let todo = "is a process with its role running? /health and the log say why it stands still";
            Check::warning("reader", found, todo)
        } else {
            Check::ok("reader", found)
        });
    }
    checks
}
