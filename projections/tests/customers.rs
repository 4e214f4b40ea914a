//! The read models of customers, their subscriptions and their tokens, over a real log.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::customer::{self, AccountingKind, Customer, Entry};
use domain::subscription::{self, Subscription};
use domain::token_account::{self, Movement, TokenAccount};
use domain::values::Details;
use event_store::postgres::PostgresStore;
use event_store::{
    Appender, Commands, EventStore, IdSource, Loaded, MIGRATOR, Metadata, Position, Request, StreamId,
    SystemClock, UuidV7, Version,
};
use projections::customers::{self, CustomerRow, Customers, Filter};
use projections::rebuild::Rebuild;
use projections::subscriptions::{self, SubscriptionRow};
use projections::tokens::{self, TokenAccountRow, TokenEntryRow};
use projections::{ApplyError, Projection};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

struct World {
    store: Arc<PostgresStore>,
    customers: Commands<Customer>,
    subscriptions: Commands<Subscription>,
    accounts: Commands<TokenAccount>,
    pool: PgPool,
}

/// All rows there are.
#[derive(Debug, Default, PartialEq)]
struct Rows {
    customers: Vec<CustomerRow>,
    subscriptions: Vec<SubscriptionRow>,
    accounts: Vec<TokenAccountRow>,
    entries: Vec<TokenEntryRow>,
}

impl World {
    async fn new(pool: PgPool) -> Self {
        let store = Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
        let appender = Appender::start(store.clone(), SystemClock, UuidV7);
        Self {
            customers: Commands::new(store.clone(), appender.clone()),
            subscriptions: Commands::new(store.clone(), appender.clone()),
            accounts: Commands::new(store.clone(), appender),
            store,
            pool,
        }
    }

    async fn customer(&self, id: &str, command: customer::Command) {
        run(&self.customers, id, command).await;
    }

    async fn subscription(&self, id: Uuid, command: subscription::Command) {
        run(&self.subscriptions, &id.to_string(), command).await;
    }

    async fn tokens(&self, customer: &str, command: token_account::Command) {
        run(&self.accounts, customer, command).await;
    }

    /// All that ends with a customer.
    async fn delete(&self, id: &str, subscriptions: &[Uuid]) {
        let all = subscriptions.iter().copied().collect();
        self.customer(id, customer::Command::Delete { subscriptions: all }).await;
        for id in subscriptions {
            self.subscription(*id, subscription::Command::End { reason: None }).await;
        }
        self.tokens(id, token_account::Command::Close(serde_json::from_value(json!(id)).unwrap())).await;
    }

    /// Applies the whole log in batches of this size, each so many times.
    async fn apply(&self, size: usize, times: usize) -> Result<(), ApplyError> {
        let events = self.store.read_all(Position::START, 100_000).await.unwrap();
        let mut connection = self.pool.acquire().await?;
        for batch in events.chunks(size) {
            for _ in 0..times {
                Customers::apply(&mut connection, batch).await?;
            }
        }
        Ok(())
    }

    async fn clear(&self) {
        let all = "TRUNCATE customers_v1, subscriptions_v1, token_accounts_v1, token_entries_v1";
        sqlx::query(all).execute(&self.pool).await.unwrap();
    }

    async fn rows(&self) -> Rows {
        let pool = &self.pool;
        Rows {
            customers: customers::page(pool, &Filter::default(), None, 10_000).await.unwrap(),
            subscriptions: sqlx::query_as!(
                SubscriptionRow,
                "SELECT * FROM subscriptions_v1 ORDER BY subscription_id"
            )
            .fetch_all(pool)
            .await
            .unwrap(),
            accounts: sqlx::query_as!(
                TokenAccountRow,
                "SELECT * FROM token_accounts_v1 ORDER BY customer_id"
            )
            .fetch_all(pool)
            .await
            .unwrap(),
            entries: sqlx::query_as!(
                TokenEntryRow,
                "SELECT * FROM token_entries_v1 ORDER BY customer_id, version"
            )
            .fetch_all(pool)
            .await
            .unwrap(),
        }
    }

    /// What the rules say there is after the events in the log.
    async fn fold(&self) -> Rows {
        let mut rows = Rows::default();
        let mut streams = BTreeMap::new();
        for event in self.store.read_all(Position::START, 100_000).await.unwrap() {
            streams.entry(event.stream.clone()).or_insert_with(Vec::new).push(event);
        }
        for (stream, events) in &streams {
            match stream.category() {
                Customer::CATEGORY => {
                    let loaded = self.customers.load(stream, Version::MAX).await.unwrap();
                    rows.customers.extend(CustomerRow::of(&loaded));
                }
                TokenAccount::CATEGORY => {
                    let loaded = self.accounts.load(stream, Version::MAX).await.unwrap();
                    if let TokenAccount::Open(totals) = *loaded.state {
                        rows.accounts.push(account(stream.id(), totals, &loaded));
                    }
                    rows.entries.extend(events.iter().filter_map(|event| entry(&event.decode().unwrap())));
                }
                _ => {}
            }
        }
        for stream in streams.keys().filter(|it| it.category() == Subscription::CATEGORY) {
            let loaded = self.subscriptions.load(stream, Version::MAX).await.unwrap();
            let row = SubscriptionRow::of(&loaded).unwrap();
            rows.subscriptions
                .extend(rows.customers.iter().any(|it| it.id == row.customer_id).then_some(row));
        }
        rows.subscriptions.sort_by_key(|row| row.subscription_id);
        rows
    }
}

async fn run<A: Aggregate>(commands: &Commands<A>, id: &str, command: A::Command) {
    let request = Request::on(StreamId::new(A::CATEGORY, id), command, Metadata::default());
    // A refusal is as good: it appends nothing.
    let _ = commands.execute(request).await;
}

fn account(id: &str, totals: token_account::Totals, loaded: &Loaded<TokenAccount>) -> TokenAccountRow {
    let number = |it: u64| i64::try_from(it).unwrap();
    TokenAccountRow {
        customer_id: id.to_owned(),
        purchased: number(totals.purchased),
        used: number(totals.used),
        allocated: number(totals.allocated),
        updated_at: loaded.updated_at.unwrap(),
        version: loaded.version,
    }
}

fn entry(event: &event_store::Recorded<token_account::Event>) -> Option<TokenEntryRow> {
    event.event.movement()?;
    let json = serde_json::to_value(&event.event).unwrap();
    let (name, moved) = json.as_object().unwrap().iter().next().unwrap();
    let (movement, totals) = (&moved["movement"], &moved["totals"]);
    let text = |field: &str| movement[field].as_str().map(ToOwned::to_owned);
    Some(TokenEntryRow {
        customer_id: event.stream.id().to_owned(),
        version: event.version,
        at: event.recorded_at,
        kind: name.trim_start_matches("token_account.").to_owned(),
        amount: movement["amount"].as_i64().unwrap(),
        service: text("service"),
        reason: text("reason"),
        request_id: text("requestId"),
        subscription_id: text("subscriptionId").map(|id| id.parse().unwrap()),
        purchased: totals["purchased"].as_i64().unwrap(),
        used: totals["used"].as_i64().unwrap(),
        allocated: totals["allocated"].as_i64().unwrap(),
        position: event.position.get(),
    })
}

fn create(id: &str, fields: &Value) -> customer::Command {
    let mut new = json!({ "id": id, "customerType": "sme", "name": "Dupont SARL" });
    new.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    customer::Command::Create(Box::new(serde_json::from_value(new).unwrap()))
}

fn change(fields: Value) -> customer::Command {
    customer::Command::Change(Box::new(serde_json::from_value(fields).unwrap()))
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// One that begins and ends at these times; commands are given at the first of 2026.
fn subscribe(
    id: Uuid,
    customer: &str,
    starts_at: &str,
    ends_at: &str,
    fields: &Value,
) -> subscription::Command {
    let mut new = json!({
        "subscriptionId": id, "customerId": customer, "planId": "basic", "startsAt": starts_at, "endsAt": ends_at
    });
    new.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let now = time("2026-01-01T00:00:00Z");
    subscription::Command::Create { new: Box::new(serde_json::from_value(new).unwrap()), now }
}

fn movement(customer: &str, fields: &Value) -> Movement {
    let mut movement = json!({ "customerId": customer, "amount": 5 });
    movement.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(movement).unwrap()
}

/// Some fields of a customer with some value, or cleared.
fn any_fields() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        "[a-z]{1,5}".prop_map(|v| json!({ "name": v, "customerType": "institution" })),
        proptest::option::of("[a-z é]{1,9}").prop_map(|v| json!({ "phone": v, "address": v, "city": v })),
        proptest::option::of("[a-z]{1,9}").prop_map(|v| json!({ "country": v, "taxId": v, "email": v })),
        any::<Option<f64>>()
            .prop_map(|v| json!({ "billingInfo": v.map(|n| json!({ "n": n, "é": [null] })) })),
        any::<Option<bool>>().prop_map(|v| {
            json!({ "paymentMethod": v.map(|named| if named { json!("cash") } else { json!({ "a": 1 }) }) })
        }),
        any::<Option<u8>>()
            .prop_map(|v| json!({ "preferences": v.map(|n| json!({ "n": n })), "profile": {} })),
    ];
    proptest::collection::vec(field, 1..3).prop_map(|fields| {
        let merged = fields.iter().flat_map(|field| field.as_object().unwrap().clone());
        merged.collect::<serde_json::Map<_, _>>().into()
    })
}

/// Something that happens to a customer, its subscription or its tokens; `n` chooses what exactly.
async fn step(world: &World, what: u8, n: u32, fields: Value, customer: &str, subscription: Uuid) {
    let text = |raw: &str| domain::values::Text::parse(raw).unwrap();
    let admin_id = || "admin".to_owned();
    let days = |n: u32| time("2026-01-01T00:00:00.123456789Z") + chrono::TimeDelta::days(n.into());
    match what {
        0 | 1 => {
            let present = fields.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
            let present: serde_json::Map<_, _> = present.map(|(k, v)| (k.clone(), v.clone())).collect();
            world.customer(customer, create(customer, &Value::Object(present))).await;
            world.customer(customer, customer::Command::Subscribe(subscription)).await;
            let more = json!({ "autoRenew": n.is_multiple_of(2), "tokensPerPeriod": (n > 9).then_some(n) });
            // More digits than a column has.
            let (start, end) = ("2026-01-02T00:00:00.123456789Z", "2026-01-05T00:00:00.987654321Z");
            world.subscription(subscription, subscribe(subscription, customer, start, end, &more)).await;
        }
        2 => world.customer(customer, change(fields)).await,
        3 => {
            let details = Details::parse(fields).unwrap();
            let entry = Entry {
                kind: AccountingKind::PaymentRecord,
                data: details.clone(),
                service: None,
                request_id: text(&format!("r-{n}")),
            };
            world.customer(customer, customer::Command::Record(entry.into())).await;
            world.customer(customer, customer::Command::MergeProfile(details)).await;
        }
        4 => {
            let validate = customer::Command::Validate { admin_id: admin_id(), notes: None };
            world.customer(customer, validate).await;
            if n.is_multiple_of(2) {
                let suspend = customer::Command::Suspend { admin_id: admin_id(), reason: text("non") };
                world.customer(customer, suspend).await;
            }
        }
        5 | 6 => world.subscription(subscription, subscription::Command::Advance { to: days(n) }).await,
        7 => world.subscription(subscription, subscription::Command::Renew { ends_at: None }).await,
        8 => {
            let changes =
                json!({ "planId": "pro", "endsAt": days(60), "tokensPerPeriod": (n > 9).then_some(n) });
            let changes = serde_json::from_value(changes).unwrap();
            world.subscription(subscription, subscription::Command::Change(Box::new(changes))).await;
        }
        9 => world.subscription(subscription, subscription::Command::Cancel { reason: None }).await,
        10 => {
            let bought = json!({ "amount": 20, "reason": "promo", "subscriptionId": subscription });
            world
                .tokens(customer, token_account::Command::Purchase(movement(customer, &bought).into()))
                .await;
            world
                .tokens(customer, token_account::Command::Allocate(movement(customer, &json!({})).into()))
                .await;
        }
        11 | 12 => {
            let used = json!({ "amount": n, "requestId": format!("r-{n}"), "service": "adha-ai" });
            world.tokens(customer, token_account::Command::Use(movement(customer, &used).into())).await;
        }
        _ => world.delete(customer, &[subscription]).await,
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_are_the_fold_of_the_log_however_it_is_cut_and_if_it_comes_twice(pool: PgPool) {
    let world = World::new(pool).await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
        let steps = (0..14_u8, 1..40_u32, any_fields(), 0..3_usize);
        TestRunner::new(config)
            .run(&proptest::collection::vec(steps, 1..40), |steps| {
                let of = |_| (UuidV7.next().to_string(), UuidV7.next());
                let all: Vec<(String, Uuid)> = (0..3).map(of).collect();
                runtime.block_on(async {
                    for (what, n, fields, who) in steps {
                        let (customer, subscription) = &all[who];
                        step(&world, what, n, fields, customer, *subscription).await;
                    }
                    let fold = world.fold().await;
                    for (size, times) in [(1, 2), (3, 1), (7, 2), (100_000, 2)] {
                        world.clear().await;
                        world.apply(size, times).await.unwrap();
                        prop_assert_eq!(&world.rows().await, &fold, "in batches of {}", size);
                    }
                    let options = (*world.pool.connect_options()).clone();
                    let rebuild = Rebuild::<Customers>::new(world.store.clone(), options, 0);
                    let made = rebuild.run(&|_| ()).await.unwrap();
                    prop_assert_eq!((made.compared.unwrap().differing, &world.rows().await), (0, &fold));
                    Ok(())
                })
            })
            .unwrap();
    })
    .await
    .unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_runner_keeps_the_rows_and_of_who_is_gone_only_what_moved_tokens(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    let options = (*pool.connect_options()).clone();
    let runner = projections::runner::<Customers>(world.store.clone(), options, pool.clone());
    let (progress, stop) = (runner.progress(), CancellationToken::new());
    let running = tokio::spawn(runner.run(stop.clone()));
    let id = UuidV7.next();
    world.customer("c-1", create("c-1", &json!({}))).await;
    world.customer("c-1", customer::Command::Subscribe(id)).await;
    let start = "2026-01-02T00:00:00Z";
    world.subscription(id, subscribe(id, "c-1", start, "2026-02-01T00:00:00Z", &json!({}))).await;
    world.tokens("c-1", token_account::Command::Purchase(movement("c-1", &json!({})).into())).await;
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    assert_eq!(customers::find(&pool, "c-1").await.unwrap().unwrap().version, 2);
    let row = subscriptions::find(&pool, id).await.unwrap().unwrap();
    assert_eq!((row.status.as_str(), row.due_at), ("active", Some(time(start))));
    assert_eq!(tokens::account(&pool, "c-1").await.unwrap().unwrap().balance(), 5);

    world.delete("c-1", &[id]).await;
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    let left = world.rows().await;
    // What moved its tokens stays: there may be millions, and no route asks for it.
    assert_eq!(left.entries.len(), 1);
    assert_eq!(Rows { entries: Vec::new(), ..left }, Rows::default());
    stop.cancel();
    running.await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_start_of_any_time_stops_nothing(pool: PgPool) {
    let world = World::new(pool).await;
    world.customer("c-1", create("c-1", &json!({}))).await;
    for start in ["-9999-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "1999-12-31T23:59:59.999999999Z"] {
        let id = UuidV7.next();
        let end = "9999-12-31T23:59:59.999999999Z";
        world.subscription(id, subscribe(id, "c-1", start, end, &json!({}))).await;
    }
    world.apply(1, 2).await.unwrap();
    let rows = world.rows().await;
    assert_eq!(rows.subscriptions.len(), 3);
    assert_eq!(rows, world.fold().await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn customers_are_listed_and_counted(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    world.customer("a", create("a", &json!({ "name": "Été SA", "customerType": "institution" }))).await;
    world.customer("b", create("b", &json!({ "email": "x_y@example.com", "city": "Goma" }))).await;
    world.customer("c", create("c", &json!({ "phone": "100%", "taxId": "T1" }))).await;
    world.customer("c", customer::Command::Validate { admin_id: "x".to_owned(), notes: None }).await;
    world.apply(2, 1).await.unwrap();
    let found = async |filter: Filter, after: Option<&str>| {
        let rows = customers::page(&pool, &filter, after, 2).await.unwrap();
        let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        (ids.concat(), customers::count(&pool, &filter).await.unwrap())
    };
    let q = |q: &str| Filter { q: Some(q.to_owned()), ..Filter::default() };
    assert_eq!(found(Filter::default(), None).await, ("ab".to_owned(), (3, true)));
    assert_eq!(found(Filter::default(), Some("b")).await, ("c".to_owned(), (3, true)));
    for (text, ids, count) in [
        ("été", "a", 1),
        ("ETE sa", "a", 1),
        ("x_y", "b", 1),
        ("xzy", "", 0),
        ("%", "c", 1),
        ("goma", "b", 1),
    ] {
        assert_eq!(found(q(text), None).await, (ids.to_owned(), (count, true)), "{text}");
    }
    let validated = Filter { status: Some("validated".to_owned()), ..Filter::default() };
    assert_eq!(found(validated, None).await, ("c".to_owned(), (1, true)));
    let institutions = Filter { customer_type: Some("institution".to_owned()), ..Filter::default() };
    assert_eq!(found(institutions, None).await, ("a".to_owned(), (1, true)));
    assert_eq!(customers::find(&pool, "d").await.unwrap(), None);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn subscriptions_of_a_customer_are_listed(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    world.customer("c-1", create("c-1", &json!({}))).await;
    let ids: Vec<Uuid> = (0..3).map(|_| UuidV7.next()).collect();
    for id in &ids {
        let (start, end) = ("2026-01-02T00:00:00Z", "2026-02-01T00:00:00Z");
        world.subscription(*id, subscribe(*id, "c-1", start, end, &json!({}))).await;
    }
    world.subscription(ids[1], subscription::Command::Cancel { reason: None }).await;
    world.apply(100, 1).await.unwrap();
    let listed = async |status: Option<&str>, after: Option<Uuid>, limit| {
        let rows = subscriptions::of_customer(&pool, "c-1", status, after, limit).await.unwrap();
        rows.into_iter().map(|row| row.subscription_id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, None, 2).await, ids[..2]);
    assert_eq!(listed(None, Some(ids[1]), 2).await, ids[2..]);
    assert_eq!(listed(Some("cancelled"), None, 2).await, ids[1..2]);
    assert_eq!(subscriptions::find(&pool, ids[1]).await.unwrap().unwrap().due_at, None);
    assert_eq!(subscriptions::of_customer(&pool, "c-2", None, None, 9).await.unwrap(), []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_account_is_told_as_it_was_at_any_time_and_what_moved_it(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    for (command, fields) in [
        (token_account::Command::Purchase as fn(_) -> _, json!({ "amount": 10 })),
        (token_account::Command::Use, json!({ "amount": 4, "requestId": "r 1" })),
        (token_account::Command::Allocate, json!({ "amount": 2 })),
    ] {
        world.tokens("c-1", command(movement("c-1", &fields).into())).await;
    }
    world.apply(100, 1).await.unwrap();
    let entries = tokens::entries(&pool, "c-1", None, 9).await.unwrap();
    assert_eq!(entries.iter().map(|it| it.version).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(tokens::entries(&pool, "c-1", Some(3), 1).await.unwrap(), entries[1..2]);
    for (entry, balance) in entries.iter().zip([8, 6, 10]) {
        let then = tokens::account_at(&pool, "c-1", entry.at).await.unwrap().unwrap();
        // Those of one moment are told by the last of them.
        let last = entries.iter().find(|it| it.at == entry.at).unwrap();
        assert_eq!(then.version, last.version);
        assert!(then.version > entry.version || then.balance() == balance);
    }
    let before = entries[2].at - chrono::TimeDelta::microseconds(1);
    assert_eq!(tokens::account_at(&pool, "c-1", before).await.unwrap(), None);
    let now = tokens::account(&pool, "c-1").await.unwrap().unwrap();
    assert_eq!((now.purchased, now.used, now.allocated, now.version), (10, 4, 2, 3));
    let request = tokens::entry_of_request(&pool, "c-1", "r 1").await.unwrap().unwrap();
    assert_eq!((request.kind.as_str(), request.amount, request.version), ("used", 4, 2));
    assert_eq!(tokens::entry_of_request(&pool, "c-2", "r 1").await.unwrap(), None);
}
