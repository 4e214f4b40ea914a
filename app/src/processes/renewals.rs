//! Does what comes due of subscriptions: periods begin and bring their tokens, and what is over ends.
//!
//! The rows say which are due, and `PostgreSQL` what time it is. What then happens is decided on the log, at the
//! version that was read there: so nothing happens twice, whoever else is at it, and what a process that ended
//! has left undone is found by the next.

mod plan;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::subscription::{Command, Rejection, Subscription};
use domain::token_account::{self, TokenAccount};
use event_store::reader::{Leadership, Progress};
use event_store::{
    Commands, Company, ExecuteError, IdSource, IfMatch, Metadata, Part, Position, Request, StreamId, UuidV7,
};
use futures::{StreamExt, stream};
use metrics::{counter, gauge};
use projections::subscriptions::{self, Due, DueRow};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use plan::{Line, Lines, Plan};
use waiting::Waiting;

/// Its lock, and its name in the log.
const NAME: &str = "renewals";
/// How often it looks at least.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many are looked at in one go.
const PAGE: i64 = 1_000;
/// How many commands are under way at a time.
const UNDER_WAY: usize = 256;
/// How much of a round one account may take, beside its last append: all others wait for it.
const AN_ACCOUNT: Duration = Duration::from_secs(1);
/// How long the rows may take to show what was done; after that they are taken as they are.
const CATCH_UP: Duration = Duration::from_secs(2);
/// After which a database that refused is asked again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Who does it, in the history.
const ACTOR: &str = "annuaire";

/// What it works with.
pub(crate) struct Renewals {
    pub(crate) subscriptions: Commands<Subscription>,
    pub(crate) accounts: Commands<TokenAccount>,
    pub(crate) pool: PgPool,
    /// How far the rows have come.
    pub(crate) progress: Progress,
    /// Where processes agree on who does it.
    pub(crate) leaders: PgConnectOptions,
}

/// What became of a subscription.
#[derive(Clone, Debug)]
enum Outcome {
    /// Something happened, up to this position.
    Done(Position),
    /// It was done before; the row does not show it yet.
    Behind,
    /// It has changed meanwhile, or was met a moment too early: the next look tells.
    Overtaken,
    Refused(Rejection),
    Failed(String),
}

impl Outcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Behind | Self::Overtaken => "overtaken",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<ExecuteError<Rejection>> for Outcome {
    fn from(error: ExecuteError<Rejection>) -> Self {
        match error {
            ExecuteError::VersionMismatch { .. } => Self::Overtaken,
            ExecuteError::Rejected(rejection) => Self::Refused(rejection),
            ExecuteError::NotFoundByClaim
            | ExecuteError::KeyReused
            | ExecuteError::Overloaded
            | ExecuteError::Store(_) => Self::Failed(error.to_string()),
        }
    }
}

impl Renewals {
    /// Works, whenever no other process does, until told to stop. What is under way then is carried out, or not, as
    /// a whole.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_leading()).await;
    }

    async fn keep_leading(&self) {
        let mut failing = false;
        loop {
            let Err(error) = self.lead(&mut failing).await;
            if !failing {
                tracing::warn!("{NAME}: failing, will try again: {error}");
            }
            failing = true;
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn lead(&self, failing: &mut bool) -> Result<std::convert::Infallible, sqlx::Error> {
        let stand_by = || tracing::info!("{NAME}: standing by, another process leads");
        let mut leadership = Leadership::acquire(&self.leaders, NAME, stand_by).await?;
        tracing::info!("{NAME}: leading");
        tokio::select! {
            failed = self.work(failing) => failed,
            lost = leadership.keep() => Err(lost),
        }
    }

    async fn work(&self, failing: &mut bool) -> Result<std::convert::Infallible, sqlx::Error> {
        let mut waiting = Waiting::new();
        loop {
            let due = subscriptions::due(&self.pool).await?;
            let last = self.round(&due, &mut waiting, failing).await?;
            match last {
                // There may be more at once: one command begins only so many periods.
                Some(last) => drop(self.progress.reaches(last, CATCH_UP).await),
                None => tokio::time::sleep(pause(&due)).await,
            }
        }
    }

    /// Looks at all that are due; answers the last position of what was done.
    async fn round(
        &self,
        due: &Due,
        waiting: &mut Waiting,
        failing: &mut bool,
    ) -> Result<Option<Position>, sqlx::Error> {
        waiting.begin(Instant::now());
        let (mut last, mut done, mut failures) = (None, 0, Vec::new());
        let (mut behind, mut count, mut taken) = (None::<DueRow>, 0, HashMap::new());
        loop {
            let page = subscriptions::due_by(&self.pool, due.now, behind.as_ref(), PAGE).await?;
            behind = page.last().copied();
            count += page.len();
            let is_last = i64::try_from(page.len()).is_ok_and(|len| len < PAGE);
            let rows = page.into_iter().filter(|row| !waiting.holds(row)).collect();
            for (row, outcome) in self.advance(rows, due.now, &mut taken).await {
                counter!("annuaire_subscriptions_advanced_total", "outcome" => outcome.name()).increment(1);
                match outcome {
                    Outcome::Done(position) => {
                        last = last.max(Some(position));
                        done += 1;
                        waiting.for_row(&row);
                    }
                    Outcome::Behind => waiting.for_row(&row),
                    Outcome::Overtaken => {}
                    Outcome::Refused(rejection) => waiting.refused(&row, rejection),
                    Outcome::Failed(error) => failures.push(error),
                }
            }
            if is_last {
                break;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("annuaire_subscriptions_due").set(count as f64);
        if done > 0 {
            tracing::info!(done, "Did what had come due of {done} subscriptions");
        }
        if let Some(error) = failures.first()
            && !*failing
        {
            let count = failures.len();
            tracing::warn!(
                "Could not do what has come due of {count} subscriptions, will try again: {error}"
            );
        }
        *failing = !failures.is_empty();
        Ok(last)
    }

    /// Does what has come due by then of these subscriptions, as far as there is time; `taken` is what each account
    /// has had of it.
    async fn advance(
        &self,
        rows: Vec<DueRow>,
        to: DateTime<Utc>,
        taken: &mut HashMap<String, Duration>,
    ) -> Vec<(DueRow, Outcome)> {
        let planned = stream::iter(rows).map(async |row| (row, self.plan(row, to).await));
        let planned: Vec<_> = planned.buffer_unordered(UNDER_WAY).collect().await;
        let (mut outcomes, mut lines) = (Vec::with_capacity(planned.len()), Lines::default());
        for (row, plan) in planned {
            match plan {
                Ok(plan) => lines.add(plan),
                Err(outcome) => outcomes.push((row, outcome)),
            }
        }
        let timed: Vec<_> = lines
            .into_iter()
            .map(|line| {
                let taken = line.account.as_ref().and_then(|account| taken.get(account));
                let left = AN_ACCOUNT.saturating_sub(taken.copied().unwrap_or_default());
                (line, left)
            })
            .filter(|(_, left)| !left.is_zero())
            .collect();
        let carried = stream::iter(timed).map(async |(line, left)| {
            let begin = Instant::now();
            let outcomes = self.carry_out(&line, to, begin + left).await;
            let time = begin.elapsed();
            // A single append that is in time takes no longer than anybody's.
            let counts = line.appends.len() > 1 || time >= left;
            (line.account.filter(|_| counts), time, outcomes)
        });
        let carried: Vec<_> = carried.buffer_unordered(UNDER_WAY).collect().await;
        for (account, time, of_line) in carried {
            outcomes.extend(of_line);
            if let Some(account) = account {
                *taken.entry(account).or_default() += time;
            }
        }
        outcomes
    }

    /// What is to happen of a subscription.
    async fn plan(&self, row: DueRow, to: DateTime<Utc>) -> Result<Plan, Outcome> {
        let stream = StreamId::new(Subscription::CATEGORY, &row.subscription_id.to_string());
        let failed = |error| Outcome::from(ExecuteError::Store(error));
        let now = self.subscriptions.current(&stream).await.map_err(failed)?;
        let events = now.state.decide(Command::Advance { to }, to).map_err(Outcome::Refused)?;
        match now.state.contract() {
            Some(contract) if !events.is_empty() => {
                Ok(Plan::new(row, stream, now.version, contract, &events))
            }
            Some(_) | None if now.version > row.version => Err(Outcome::Behind),
            Some(_) | None => Err(Outcome::Overtaken),
        }
    }

    /// One append after another, until there is no time left. What is in the way of others is looked for by halves.
    async fn carry_out(&self, line: &Line, to: DateTime<Utc>, until: Instant) -> Vec<(DueRow, Outcome)> {
        let mut left: Vec<&[Plan]> = line.appends.iter().rev().map(Vec::as_slice).collect();
        let mut outcomes = Vec::new();
        while let Some(plans) = left.pop() {
            let outcome = self.append(plans, to).await;
            let late = Instant::now() >= until;
            if plans.len() > 1 && matches!(outcome, Outcome::Overtaken | Outcome::Refused(_)) {
                // One at least: or the next round would come no further.
                let (front, back) = plans.split_at(if late { 1 } else { plans.len() / 2 });
                left.extend([back, front]);
                continue;
            }
            outcomes.extend(plans.iter().map(|plan| (plan.row, outcome.clone())));
            if late {
                break;
            }
        }
        outcomes
    }

    /// All of these with the tokens that they bring, or nothing.
    async fn append(&self, plans: &[Plan], to: DateTime<Utc>) -> Outcome {
        let Some((first, others)) = plans.split_first() else { return Outcome::Overtaken };
        let mut after: Vec<Part<Rejection>> = self.allocations(first).collect();
        for plan in others {
            let (stream, if_match) = (plan.stream.clone(), IfMatch::OneOf(vec![plan.version]));
            after.push(self.subscriptions.part(stream, Command::Advance { to }, if_match, |refusal| refusal));
            after.extend(self.allocations(plan));
        }
        let correlation_id = Some(UuidV7.next().to_string());
        let metadata = Metadata { actor: ACTOR.to_owned(), correlation_id, traceparent: None };
        let request = Request {
            if_match: IfMatch::OneOf(vec![first.version]),
            ..Request::on(first.stream.clone(), Command::Advance { to }, metadata)
        };
        let company = Company { before: Vec::new(), after };
        match self.subscriptions.execute_with(request, company).await {
            Ok(executed) => Outcome::Done(executed.last),
            Err(error) => error.into(),
        }
    }

    fn allocations(&self, plan: &Plan) -> impl Iterator<Item = Part<Rejection>> {
        let account = StreamId::new(TokenAccount::CATEGORY, &plan.customer);
        plan.allocations.iter().map(move |movement| {
            let command = token_account::Command::Allocate(movement.clone().into());
            self.accounts.part(account.clone(), command, IfMatch::Any, Rejection::Tokens)
        })
    }
}

/// How long to wait when there is no more to do.
fn pause(due: &Due) -> Duration {
    let next = due.next.and_then(|next| (next - due.now).to_std().ok());
    next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}
