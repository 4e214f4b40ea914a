//! `annuaire events stats`.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use event_store::{Clock, SystemClock, position_before};
use serde_json::{Value, json};

use crate::fatal::Fatal;
use crate::tools::print::{table, time, write};
use crate::tools::{Tools, unreadable};

/// Today and the six days before.
const DAYS: i64 = 7;

struct Stats {
    head: i64,
    streams: i64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    /// The most frequent first.
    types: Vec<(String, i64)>,
    /// In UTC, with a row for each type of that day.
    days: BTreeMap<NaiveDate, BTreeMap<String, i64>>,
    tables: Vec<(String, i64)>,
}

/// Prints them.
pub(super) async fn run(tools: &Tools, as_json: bool) -> Result<(), Fatal> {
    let stats = Stats::read(tools).await?;
    let text = if as_json { format!("{:#}\n", stats.json()) } else { stats.text() };
    write(&text).map(drop)
}

impl Stats {
    async fn read(tools: &Tools) -> Result<Self, Fatal> {
        let mut log = tools.log().await?;
        let types: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT type, count(*), count(*) FILTER (WHERE version = 1)
             FROM events GROUP BY type ORDER BY count(*) DESC, type",
        )
        .fetch_all(&mut log)
        .await
        .map_err(unreadable)?;
        let (first, last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = sqlx::query_as(
            "SELECT (SELECT recorded_at FROM events ORDER BY position LIMIT 1),
                    (SELECT recorded_at FROM events ORDER BY position DESC LIMIT 1)",
        )
        .fetch_one(&mut log)
        .await
        .map_err(unreadable)?;
        let today = SystemClock.now().date_naive();
        let since = (today - TimeDelta::days(DAYS - 1)).and_time(chrono::NaiveTime::MIN).and_utc();
        // Times grow with positions: the week is found without a look at what is older.
        let before = position_before(&tools.store().await?, since)
            .await
            .map_err(|e| Fatal::new("can't read the event log", e))?;
        let by_day: Vec<(NaiveDate, String, i64)> = sqlx::query_as(
            "SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, type, count(*)
             FROM events WHERE position > $1 GROUP BY day, type",
        )
        .bind(before.get())
        .fetch_all(&mut log)
        .await
        .map_err(unreadable)?;
        let tables: Vec<(String, i64)> = sqlx::query_as(
            "SELECT name, (pg_total_relation_size(name::regclass)
                           + (SELECT coalesce(sum(pg_total_relation_size(relid)), 0)
                              FROM pg_partition_tree(name::regclass) WHERE relid <> name::regclass))::bigint
             FROM unnest(ARRAY['events', 'claims', 'idempotency']) AS name",
        )
        .fetch_all(&mut log)
        .await
        .map_err(unreadable)?;
        let mut days: BTreeMap<NaiveDate, BTreeMap<String, i64>> =
            (0..DAYS).map(|ago| (today - TimeDelta::days(ago), BTreeMap::new())).collect();
        for (day, name, count) in by_day {
            days.entry(day).or_default().insert(name, count);
        }
        Ok(Self {
            head: super::head(&mut log).await?,
            streams: types.iter().map(|(_, _, streams)| streams).sum(),
            first,
            last,
            types: types.into_iter().map(|(name, count, _)| (name, count)).collect(),
            days,
            tables,
        })
    }

    fn bytes_per_event(&self) -> Option<i64> {
        let events = self.tables.iter().find(|(name, _)| name == "events").map_or(0, |(_, bytes)| *bytes);
        (self.head > 0).then(|| events / self.head)
    }

    fn json(&self) -> Value {
        let sum = |types: &BTreeMap<String, i64>| types.values().sum::<i64>();
        let days: Vec<Value> = self
            .days
            .iter()
            .map(|(day, types)| json!({ "day": day, "events": sum(types), "types": types }))
            .collect();
        json!({
            "head": self.head,
            "streams": self.streams,
            "first": self.first.map(time),
            "last": self.last.map(time),
            "types": self.types.iter().cloned().collect::<BTreeMap<_, _>>(),
            "days": days,
            "bytes": self.tables.iter().cloned().collect::<BTreeMap<_, _>>(),
            "bytesPerEvent": self.bytes_per_event(),
        })
    }

    fn text(&self) -> String {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let mut rows = vec![
            vec!["head".to_owned(), self.head.to_string()],
            vec!["streams".to_owned(), self.streams.to_string()],
            vec!["first".to_owned(), or_none(self.first.map(time))],
            vec!["last".to_owned(), or_none(self.last.map(time))],
        ];
        rows.extend(
            self.tables.iter().map(|(name, bytes)| vec![format!("bytes of {name}"), bytes.to_string()]),
        );
        let each = self.bytes_per_event().map(|bytes| bytes.to_string());
        rows.push(vec!["bytes per event".to_owned(), or_none(each)]);
        let mut text = table(&rows);
        text.push_str("\nEvents by type\n");
        let by_type = |(name, count): &(String, i64)| vec![format!("  {name}"), count.to_string()];
        text.push_str(&table(&self.types.iter().map(by_type).collect::<Vec<_>>()));
        text.push_str("\nEvents of the last week by day (UTC)\n");
        let by_day = |(day, types): (&NaiveDate, &BTreeMap<String, i64>)| {
            let of_types = types.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
            vec![format!("  {day}"), types.values().sum::<i64>().to_string(), of_types.join(", ")]
        };
        text.push_str(&table(&self.days.iter().map(by_day).collect::<Vec<_>>()));
        text
    }
}
