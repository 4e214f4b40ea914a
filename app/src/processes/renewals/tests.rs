use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::subscription::{Event, NewSubscription, Status};
use domain::token_account::Command as Account;
use event_store::postgres::PostgresStore;
use event_store::{Appender, EventStore, MIGRATOR, StoredEvent, SystemClock, Version};
use projections::customers::Customers;
use serde_json::json;
use sqlx::types::Uuid;
use tokio::time::Instant;

use super::*;

const SOON: Duration = Duration::from_secs(20);

struct World {
    store: Arc<PostgresStore>,
    progress: Progress,
    pool: PgPool,
}

impl World {
    /// With rows that follow the log.
    async fn new(pool: PgPool) -> Self {
        let options = (*pool.connect_options()).clone();
        let store = Arc::new(PostgresStore::connect(options.clone()).await.unwrap());
        let runner = projections::runner::<Customers>(store.clone(), options, pool.clone());
        let progress = runner.progress();
        tokio::spawn(runner.run(CancellationToken::new()));
        Self { store, progress, pool }
    }

    /// As another process has it.
    fn renewals(&self) -> Renewals {
        let appender = Appender::start(self.store.clone(), SystemClock, UuidV7);
        Renewals {
            subscriptions: Commands::new(self.store.clone(), appender.clone()),
            accounts: Commands::new(self.store.clone(), appender),
            pool: self.pool.clone(),
            progress: self.progress.clone(),
            leaders: (*self.pool.connect_options()).clone(),
        }
    }

    async fn now(&self) -> DateTime<Utc> {
        subscriptions::due(&self.pool).await.unwrap().now
    }

    async fn shown(&self) {
        assert!(self.progress.reaches(self.store.head().await.unwrap(), SOON).await);
    }

    async fn subscription(&self, id: Uuid) -> Vec<StoredEvent> {
        let stream = StreamId::new(Subscription::CATEGORY, &id.to_string());
        self.store.read_stream(&stream, 0, Version::MAX).await.unwrap()
    }

    /// Waits for something that the rows are to show.
    async fn eventually(&self, query: &'static str) {
        let begin = Instant::now();
        while !sqlx::query_scalar::<_, bool>(query).fetch_one(&self.pool).await.unwrap() {
            assert!(begin.elapsed() < SOON, "{query}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Renewals {
    async fn subscribe(&self, new: NewSubscription, now: DateTime<Utc>) -> Uuid {
        let id = new.subscription_id;
        let stream = StreamId::new(Subscription::CATEGORY, &id.to_string());
        let command = Command::Create { new: new.into(), now };
        let request = Request { new_stream: true, ..Request::on(stream, command, Metadata::default()) };
        self.subscriptions.execute(request).await.unwrap();
        id
    }

    /// Renewals that bring a customer tokens, all due in a moment; answers their rows once they are.
    async fn renewing(&self, world: &World, customer: &str, count: usize) -> Vec<DueRow> {
        let now = world.now().await;
        for _ in 0..count {
            let new = with_tokens(until(now + TimeDelta::milliseconds(500), customer), 2);
            self.subscribe(NewSubscription { auto_renew: true, ..new }, now).await;
        }
        world.shown().await;
        world.eventually("SELECT bool_and(due_at <= clock_timestamp()) FROM subscriptions_v1").await;
        subscriptions::due_by(&self.pool, world.now().await, None, PAGE).await.unwrap()
    }

    /// What is to follow each other of these, which are one customer's.
    async fn line(&self, rows: &[DueRow], to: DateTime<Utc>) -> Line {
        let mut lines = Lines::default();
        for row in rows {
            lines.add(self.plan(*row, to).await.unwrap());
        }
        lines.into_iter().next().unwrap()
    }

    async fn end(&self, id: Uuid) {
        let stream = StreamId::new(Subscription::CATEGORY, &id.to_string());
        let end = Request::on(stream, Command::End { reason: None }, Metadata::default());
        self.subscriptions.execute(end).await.unwrap();
    }

    /// One round; answers whether anything was done.
    async fn look(&self, waiting: &mut Waiting) -> bool {
        let due = subscriptions::due(&self.pool).await.unwrap();
        self.round(&due, waiting, &mut false).await.unwrap().is_some()
    }
}

/// A subscription whose period begins a day before `ends_at`.
fn until(ends_at: DateTime<Utc>, customer: &str) -> NewSubscription {
    serde_json::from_value(json!({
        "subscriptionId": UuidV7.next(),
        "customerId": customer,
        "planId": "basic",
        "startsAt": ends_at - TimeDelta::days(1),
        "endsAt": ends_at,
    }))
    .unwrap()
}

fn with_tokens(new: NewSubscription, tokens: u64) -> NewSubscription {
    let tokens_per_period = serde_json::from_value(json!(tokens)).unwrap();
    NewSubscription { tokens_per_period, ..new }
}

fn types(events: &[StoredEvent]) -> Vec<&str> {
    events.iter().map(|event| event.type_name.trim_start_matches("subscription.")).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_that_is_over_expires_and_one_that_renews_itself_goes_on_with_tokens(pool: PgPool) {
    let world = World::new(pool).await;
    let (renewals, now) = (world.renewals(), world.now().await);
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.renewals().run(stop.clone()));
    let over = renewals.subscribe(until(now + TimeDelta::seconds(1), "c-1"), now).await;
    let begins = now + TimeDelta::seconds(1);
    let new = NewSubscription {
        auto_renew: true,
        starts_at: begins,
        ..with_tokens(until(begins + TimeDelta::seconds(1), "c-2"), 5)
    };
    let goes_on = renewals.subscribe(new, now).await;
    world.eventually("SELECT count(*) = 1 FROM subscriptions_v1 WHERE status = 'expired'").await;
    let events = world.subscription(over).await;
    assert_eq!(types(&events), ["created", "period.started", "expired"]);
    let late = events[2].recorded_at - (now + TimeDelta::seconds(1));
    assert!(late >= TimeDelta::zero() && late < TimeDelta::seconds(5), "{late}");
    assert!(String::from_utf8_lossy(&events[2].meta).contains(r#""actor":"annuaire""#));

    world.eventually("SELECT count(*) = 1 FROM token_accounts_v1 WHERE allocated >= 15").await;
    stop.cancel();
    running.await.unwrap();
    let periods =
        types(&world.subscription(goes_on).await).iter().filter(|it| **it == "period.started").count();
    world.shown().await;
    let account = projections::tokens::account(&world.pool, "c-2").await.unwrap().unwrap();
    assert_eq!(account.allocated, 5 * i64::try_from(periods).unwrap());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_process_goes_on_where_one_has_ended(pool: PgPool) {
    let world = World::new(pool).await;
    let (setup, now) = (world.renewals(), world.now().await);
    let stops = [CancellationToken::new(), CancellationToken::new()];
    let running = stops.clone().map(|stop| tokio::spawn(world.renewals().run(stop)));
    for stop in &stops {
        let id = setup.subscribe(until(now + TimeDelta::milliseconds(500), "c-1"), now).await;
        world.shown().await;
        world.eventually("SELECT bool_and(status = 'expired') FROM subscriptions_v1").await;
        assert_eq!(types(&world.subscription(id).await), ["created", "period.started", "expired"]);
        stop.cancel();
    }
    for running in running {
        running.await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_two_processes_do_at_once_happens_once(pool: PgPool) {
    let world = World::new(pool).await;
    let (one, other) = (world.renewals(), world.renewals());
    let now = world.now().await;
    for n in 0..300_u32 {
        let ends_at = now + TimeDelta::milliseconds(500);
        let new = until(ends_at, if n < 200 { "c-1" } else { "c-2" });
        let new = if n.is_multiple_of(3) { new } else { with_tokens(new, 2) };
        // Those with tokens have been given some already.
        one.subscribe(NewSubscription { auto_renew: true, ..new }, now).await;
    }
    world.shown().await;
    world.eventually("SELECT count(*) = 300 FROM subscriptions_v1 WHERE due_at <= clock_timestamp()").await;
    let (mut first, mut second) = (Waiting::new(), Waiting::new());
    while tokio::join!(one.look(&mut first), other.look(&mut second)) != (false, false) {
        world.shown().await;
    }
    let periods =
        "SELECT count(*) = 300 FROM subscriptions_v1 WHERE version = 4 AND due_at > clock_timestamp()";
    world.eventually(periods).await;
    let allocated: Vec<i64> =
        sqlx::query_scalar("SELECT allocated FROM token_accounts_v1 ORDER BY customer_id")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(allocated, [133 * 2, 67 * 2]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_that_is_refused_keeps_no_other_waiting(pool: PgPool) {
    let world = World::new(pool).await;
    let (renewals, now) = (world.renewals(), world.now().await);
    let closed = StreamId::new(TokenAccount::CATEGORY, "c-1");
    let close = Account::Close(serde_json::from_value(json!("c-1")).unwrap());
    renewals.accounts.execute(Request::on(closed, close, Metadata::default())).await.unwrap();
    let begins = now + TimeDelta::milliseconds(200);
    let new = |customer: &str, tokens: u64| NewSubscription {
        starts_at: begins,
        ..with_tokens(until(begins + TimeDelta::days(1), customer), tokens)
    };
    let refused = renewals.subscribe(new("c-1", 7), now).await;
    let without = NewSubscription { tokens_per_period: None, ..new("c-1", 1) };
    let without = renewals.subscribe(without, now).await;
    let other = renewals.subscribe(new("c-2", 7), now).await;
    world.eventually("SELECT count(*) = 3 FROM subscriptions_v1 WHERE due_at <= clock_timestamp()").await;
    let mut waiting = Waiting::new();
    assert!(renewals.look(&mut waiting).await);
    assert_eq!(types(&world.subscription(refused).await), ["created"]);
    for id in [without, other] {
        assert_eq!(types(&world.subscription(id).await), ["created", "period.started"]);
    }
    // Nothing is asked of it again at once.
    assert!(!renewals.look(&mut waiting).await);

    renewals.end(refused).await;
    world.eventually("SELECT count(*) = 0 FROM subscriptions_v1 WHERE due_at <= clock_timestamp()").await;
    assert!(!renewals.look(&mut waiting).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_that_do_not_follow_cost_nothing_twice(pool: PgPool) {
    let world = World::new(pool).await;
    let (renewals, now) = (world.renewals(), world.now().await);
    let id = renewals.subscribe(until(now + TimeDelta::milliseconds(200), "c-1"), now).await;
    world.eventually("SELECT count(*) = 1 FROM subscriptions_v1 WHERE due_at <= clock_timestamp()").await;
    // Nobody can write rows now.
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE subscriptions_v1 IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    assert!(renewals.look(&mut Waiting::new()).await);
    assert!(!renewals.look(&mut Waiting::new()).await);
    let last = world.subscription(id).await.pop().unwrap();
    assert_eq!(last.decode::<Event>().unwrap().event, Event::Expired(domain::subscription::Expired {}));
    assert_eq!(last.version, 3);
    lock.rollback().await.unwrap();
    world.shown().await;
    let row = subscriptions::find(&world.pool, id).await.unwrap().unwrap();
    assert_eq!((row.status.as_str(), row.due_at), (Status::Expired.as_str(), None));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_account_that_has_had_its_time_is_left_out_and_others_go_on(pool: PgPool) {
    let world = World::new(pool).await;
    let renewals = world.renewals();
    renewals.renewing(&world, "c-1", 150).await;
    let rows = renewals.renewing(&world, "c-2", 1).await;
    assert_eq!(rows.len(), 151);
    let (now, last) = (world.now().await, rows[150].subscription_id);
    let nearly = AN_ACCOUNT.saturating_sub(Duration::from_nanos(1));
    let mut taken = HashMap::from([("c-1".to_owned(), nearly)]);
    let done = |outcomes: Vec<(DueRow, Outcome)>| -> Vec<Uuid> {
        assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Done(_))), "{outcomes:?}");
        outcomes.into_iter().map(|(row, _)| row.subscription_id).collect()
    };
    // The append that is under way is brought to its end.
    let first = done(renewals.advance(rows[..150].to_vec(), now, &mut taken).await);
    assert_eq!(first.len(), 128);
    let left: Vec<DueRow> = rows.into_iter().filter(|row| !first.contains(&row.subscription_id)).collect();
    assert_eq!(done(renewals.advance(left.clone(), now, &mut taken).await), [last]);
    // The next round has time again.
    assert_eq!(done(renewals.advance(left[..22].to_vec(), now, &mut HashMap::new()).await).len(), 22);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_that_is_in_the_way_of_many_costs_them_a_few_appends(pool: PgPool) {
    let world = World::new(pool).await;
    let renewals = world.renewals();
    let rows = renewals.renewing(&world, "c-1", 64).await;
    let now = world.now().await;
    let line = renewals.line(&rows, now).await;
    renewals.end(rows[20].subscription_id).await;
    let outcomes = renewals.carry_out(&line, now, Instant::now() + SOON).await;
    let appends: HashSet<Position> = outcomes
        .iter()
        .filter_map(|(_, it)| if let Outcome::Done(last) = it { Some(*last) } else { None })
        .collect();
    // 32, 16, 8, 4, 2 and 1.
    assert_eq!((outcomes.len(), appends.len()), (64, 6));
    for (row, outcome) in outcomes {
        assert_eq!(matches!(outcome, Outcome::Overtaken), row == rows[20], "{outcome:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_time_one_comes_to_its_end_all_the_same(pool: PgPool) {
    let world = World::new(pool).await;
    let renewals = world.renewals();
    let rows = renewals.renewing(&world, "c-1", 8).await;
    let now = world.now().await;
    let line = renewals.line(&rows, now).await;
    renewals.end(rows[5].subscription_id).await;
    let outcomes = renewals.carry_out(&line, now, Instant::now()).await;
    assert!(matches!(outcomes[..], [(row, Outcome::Done(_))] if row == rows[0]), "{outcomes:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn pages_of_one_instant_hold_each_row_once(pool: PgPool) {
    let world = World::new(pool).await;
    let rows = world.renewals().renewing(&world, "c-1", 10).await;
    assert!(rows.iter().all(|row| row.due_at == rows[0].due_at));
    let (now, mut paged) = (world.now().await, Vec::new());
    while let page = subscriptions::due_by(&world.pool, now, paged.last(), 3).await.unwrap()
        && !page.is_empty()
    {
        paged.extend(page);
    }
    assert_eq!(paged, rows);
}
