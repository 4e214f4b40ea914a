//! `annuaire dlq`: messages of other services that could not be carried out.

use std::sync::Arc;

use clap::{Args, Subcommand};
use messaging::inbound::letters;
use messaging::inbound::sealed::{Kept, Seal};
use messaging::inbound::{DeadLetter, Retried, Retry, Which};
use serde_json::{Value, json};

use super::print::{table, time, write};
use super::{Tools, unreadable};
use crate::fatal::Fatal;
use crate::inbound;

/// Messages of other services that could not be carried out
#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// Print those that wait, the newest first: why, and which
    List {
        #[command(flatten)]
        which: Filter,
        /// Also those that wait no more
        #[arg(long)]
        all: bool,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one with all that it holds: its key, headers and value, which may be personal
    Show {
        /// Its number, as `annuaire dlq list` has it
        id: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Judge them again, in the order in which they came: each is applied once, whatever else goes on
    ///
    /// Set right before what they were refused for. One that is refused again stays, and so do those behind it
    /// of the same key. What came later and was carried out is not taken back: a suspension that is tried again
    /// follows the activation that came after it. Questions are not answered: whoever asked has gone.
    Retry(Chosen),
    /// Give them up: they are not tried again, and stay in the table as discarded
    Discard(Chosen),
}

/// Which letters.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Those on this topic alone
    #[arg(long)]
    topic: Option<String>,
    /// Those with this code alone, for example FORBIDDEN
    #[arg(long)]
    code: Option<String>,
}

/// Letters by number, or by what they have in common.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Their numbers
    #[arg(required_unless_present_any = ["topic", "code", "all"])]
    ids: Vec<i64>,
    #[command(flatten)]
    which: Filter,
    /// All that wait
    #[arg(long, conflicts_with_all = ["ids", "topic", "code"])]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Filter {
    fn which(&self, ids: &[i64]) -> Which {
        Which { ids: ids.to_vec(), topic: self.topic.clone(), code: self.code.clone() }
    }
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Dlq) -> Result<(), Fatal> {
    let store = Arc::new(tools.store().await?);
    let log = store.pool().clone();
    match command {
        Dlq::List { which, all, limit, json } => {
            let letters = letters::list(&log, &which.which(&[]), *all, *limit).await.map_err(unreadable)?;
            let text = if *json { listed_json(&letters) } else { listed(&letters, *limit) };
            write(&text).map(drop)
        }
        Dlq::Show { id, json } => {
            let letter = letters::letter(&log, *id).await.map_err(unreadable)?;
            let letter = letter.ok_or_else(|| no_such(*id))?;
            if letter.body.is_empty() {
                let why = format!("what the dead letter {id} held is gone: it is {} since", letter.state);
                return Err(Fatal::new("can't show the letter", why));
            }
            let seal = Seal::of(&log).await.map_err(unreadable)?;
            let kept = seal.open(&letter.body).map_err(|error| Fatal::new("can't show the letter", error))?;
            write(&if *json { format!("{:#}\n", shown_json(&letter, &kept)) } else { shown(&letter, &kept) })
                .map(drop)
        }
        Dlq::Retry(chosen) => {
            let ids = waiting(&log, chosen).await?;
            let retry = Retry::new(store, log.clone(), inbound::rules(&tools.config)).await;
            let retry = retry.map_err(|error| Fatal::new("can't try again", error))?;
            Tried::all(&log, &retry, &ids).await?.tell(chosen.json)
        }
        Dlq::Discard(chosen) => {
            let ids = waiting(&log, chosen).await?;
            let discarded = letters::discard(&log, &ids).await.map_err(unreadable)?;
            let text = if chosen.json {
                format!("{:#}\n", json!({ "discarded": discarded }))
            } else {
                format!("Discarded {discarded} messages\n")
            };
            write(&text).map(drop)
        }
    }
}

fn no_such(id: i64) -> Fatal {
    Fatal::new("can't do that", format!("there is no dead letter {id}"))
}

/// Those that wait of the ones that are meant; each that is named must be there.
async fn waiting(log: &sqlx::PgPool, chosen: &Chosen) -> Result<Vec<i64>, Fatal> {
    let ids = letters::waiting(log, &chosen.which.which(&chosen.ids)).await.map_err(unreadable)?;
    let Some(missing) = chosen.ids.iter().find(|id| !ids.contains(id)) else { return Ok(ids) };
    match letters::letter(log, *missing).await.map_err(unreadable)? {
        None => Err(no_such(*missing)),
        Some(letter) if letter.state == "waiting" => Ok(ids),
        Some(letter) => {
            Err(Fatal::new("can't do that", format!("the dead letter {missing} is {} already", letter.state)))
        }
    }
}

fn listed(letters: &[DeadLetter], limit: i64) -> String {
    if letters.is_empty() {
        return "No message waits\n".to_owned();
    }
    let mut rows =
        vec![["ID", "TOPIC", "PLACE", "SINCE", "TRIES", "STATE", "CODE", "WHY"].map(str::to_owned).to_vec()];
    for letter in letters {
        rows.push(vec![
            letter.id.to_string(),
            letter.topic.clone(),
            format!("{}/{}", letter.partition, letter.offset),
            time(letter.failed_at),
            letter.attempts.to_string(),
            letter.state.clone(),
            letter.code.clone(),
            letter.detail.clone(),
        ]);
    }
    let more = if i64::try_from(letters.len()).unwrap_or(i64::MAX) < limit {
        ""
    } else {
        "… --limit shows more\n"
    };
    format!("{}{more}", table(&rows))
}

fn listed_json(letters: &[DeadLetter]) -> String {
    format!("{:#}\n", Value::Array(letters.iter().map(described).collect()))
}

fn described(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id, "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
        "failedAt": time(letter.failed_at), "attempts": letter.attempts, "state": letter.state,
        "code": letter.code, "detail": letter.detail,
    })
}

/// Text as it is, anything else as what stands for it.
fn readable(bytes: Option<&Vec<u8>>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn shown_json(letter: &DeadLetter, kept: &Kept) -> Value {
    let mut shown = described(letter);
    shown["key"] = kept.key.as_deref().map(String::from_utf8_lossy).into();
    let text = |value: &Option<Vec<u8>>| -> Value { value.as_deref().map(String::from_utf8_lossy).into() };
    let headers = kept.headers.iter().map(|it| (it.name.clone(), text(&it.value)));
    shown["headers"] = Value::Object(headers.collect());
    shown["value"] = readable(kept.value.as_ref());
    shown
}

fn shown(letter: &DeadLetter, kept: &Kept) -> String {
    let mut rows = vec![
        ("Topic", format!("{}, partition {}, offset {}", letter.topic, letter.partition, letter.offset)),
        ("Failed", format!("{}, {} tries, {}", time(letter.failed_at), letter.attempts, letter.state)),
        ("Why", format!("{}: {}", letter.code, letter.detail)),
    ];
    if let Some(key) = &kept.key {
        rows.push(("Key", String::from_utf8_lossy(key).into_owned()));
    }
    for header in &kept.headers {
        let value = header.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        rows.push(("Header", format!("{}: {value}", header.name)));
    }
    let rows: Vec<String> = rows.into_iter().map(|(name, value)| format!("{name:<8}{value}\n")).collect();
    format!("{}\n{:#}\n", rows.concat(), readable(kept.value.as_ref()))
}

/// What became of letters that were tried again.
#[derive(Default)]
struct Tried {
    applied: usize,
    skipped: usize,
    behind: usize,
    /// Number, code and why.
    refused: Vec<(i64, String, String)>,
}

impl Tried {
    async fn all(log: &sqlx::PgPool, retry: &Retry, ids: &[i64]) -> Result<Self, Fatal> {
        let mut tried = Self::default();
        for id in ids {
            let Some(letter) = letters::letter(log, *id).await.map_err(unreadable)? else { continue };
            let broken = |error| {
                Fatal::new(format!("the dead letter {id} could not be tried; those before it were"), error)
            };
            match retry.retry(&letter).await.map_err(broken)? {
                Retried::Applied => tried.applied += 1,
                Retried::Skipped => tried.skipped += 1,
                Retried::Behind(_) => tried.behind += 1,
                Retried::Refused(code, why) => tried.refused.push((*id, code, why)),
                Retried::Gone => {}
            }
        }
        Ok(tried)
    }

    fn tell(&self, as_json: bool) -> Result<(), Fatal> {
        let Self { applied, skipped, behind, refused } = self;
        let text = if as_json {
            let refused: Vec<Value> = refused
                .iter()
                .map(|(id, code, why)| json!({ "id": id, "code": code, "detail": why }))
                .collect();
            format!(
                "{:#}\n",
                json!({ "applied": applied, "skipped": skipped, "behind": behind, "refused": refused })
            )
        } else {
            let lines: Vec<String> = refused
                .iter()
                .map(|(id, code, why)| format!("{id} is refused again: {code}: {why}\n"))
                .collect();
            let count = refused.len();
            format!(
                "{}{applied} applied, {skipped} need not be, {count} refused again, {behind} wait behind one of \
                 their key\n",
                lines.concat()
            )
        };
        write(&text)?;
        if refused.is_empty() && *behind == 0 {
            return Ok(());
        }
        Err(Fatal::new("not all could be carried out", "`annuaire dlq show` says more of each"))
    }
}
