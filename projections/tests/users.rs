//! The read model of users, kept by its runner over a real log.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

#[path = "users/rebuilds.rs"]
mod rebuilds;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::Aggregate;
use domain::user::{Changes, Command, Device, NewUser, Status, User};
use domain::values::{Preferences, RoleName, Text};
use event_store::postgres::PostgresStore;
use event_store::reader::{Progress, State, Trouble};
use event_store::{
    Appender, Commands, EventStore, IdSource, MIGRATOR, Metadata, NewEvent, Position, Proposal, Request,
    StoredEvent, StreamId, SystemClock, UuidV7, Version,
};
use projections::Projection;
use projections::rebuild::{Rebuild, Step};
use projections::sessions::{self, NewSession};
use projections::users::{self, Filter, Finder, UserRow, Users};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

struct World {
    store: Arc<PostgresStore>,
    commands: Commands<User>,
    pool: PgPool,
}

impl World {
    async fn new(pool: PgPool) -> Self {
        let store = Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
        let appender = Appender::start(store.clone(), SystemClock, UuidV7);
        Self { commands: Commands::new(store.clone(), appender), store, pool }
    }

    async fn run(&self, id: &str, command: Command) {
        let request = Request::on(StreamId::new(User::CATEGORY, id), command, Metadata::default());
        // A refusal is as good: it appends nothing.
        let _ = self.commands.execute(request).await;
    }

    fn rebuild(&self, memory: usize) -> Rebuild<Users> {
        Rebuild::new(self.store.clone(), (*self.pool.connect_options()).clone(), memory)
    }

    fn start_runner(&self) -> (Progress, CancellationToken) {
        let options = (*self.pool.connect_options()).clone();
        let runner = projections::runner::<Users>(self.store.clone(), options, self.pool.clone());
        let (progress, stop) = (runner.progress(), CancellationToken::new());
        tokio::spawn(runner.run(stop.clone()));
        (progress, stop)
    }

    async fn rows(&self) -> Vec<UserRow> {
        users::page(&self.pool, &Filter::default(), None, 10_000).await.unwrap()
    }

    /// What the rules say each user is after the events in the log.
    async fn fold(&self, ids: &[String]) -> Vec<UserRow> {
        let mut rows = Vec::new();
        for id in ids {
            let loaded = self.commands.load(&StreamId::new(User::CATEGORY, id), Version::MAX).await.unwrap();
            if let User::Living(profile) = &*loaded.state {
                let (created, updated) = (loaded.created_at.unwrap(), loaded.updated_at.unwrap());
                rows.push(UserRow::of(profile, loaded.version, created, updated));
            }
        }
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls stay short")]
fn create(id: &str, fields: serde_json::Value) -> Command {
    let mut new = json!({ "id": id, "nom": "Dupont" });
    new.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Command::Create(Box::new(serde_json::from_value::<NewUser>(new).unwrap()))
}

/// A status, a role or a device, as the fields happen to be.
fn status_role_or_device(fields: &serde_json::Value) -> Command {
    let role = |name: &str| RoleName::parse(name).unwrap();
    match fields.to_string().len() % 10 {
        0 => Command::ChangeStatus { to: Status::Suspended, reason: None },
        1 => Command::ChangeStatus { to: Status::Active, reason: Text::parse("assez").ok() },
        2 => Command::RemoveRole(role("admin")),
        3 => Command::RemoveRole(role("B")),
        4 | 5 => Command::AssignRole(role("admin")),
        6 => Command::AssignRole(role("B")),
        7 => Command::AssignRole(role("a")),
        8 => Command::ReplaceRole(role("MANAGER")),
        _ => Command::RegisterDevice(Device {
            device_id: Text::parse("d").unwrap(),
            device: Preferences::parse(fields.clone()).unwrap(),
        }),
    }
}

fn change(fields: serde_json::Value) -> Command {
    Command::Change(Box::new(serde_json::from_value::<Changes>(fields).unwrap()))
}

/// Some field with some value, or cleared.
fn any_fields() -> impl Strategy<Value = serde_json::Value> {
    let field = prop_oneof![
        "[a-z]{1,5}".prop_map(|v| json!({ "nom": v })),
        proptest::option::of("[a-z é]{1,9}").prop_map(|v| json!({ "prenom": v, "telephone": v })),
        proptest::option::of("[a-z]{1,9}").prop_map(|v| json!({ "ministere": v, "username": v })),
        proptest::option::of("[a-z]{1,9}")
            .prop_map(|v| json!({ "email": v.map(|v| format!("{v}@example.com")), "sexe": "M" })),
        proptest::option::of("[a-z]{1,9}")
            .prop_map(|v| json!({ "avatar": v.map(|v| format!("https://x.org/{v}")) })),
        any::<Option<(f64, bool)>>().prop_map(
            |v| json!({ "preferences": v.map(|(n, b)| json!({ "n": n, "deep": [b, { "é": null }] })) })
        ),
        any::<bool>().prop_map(
            |v| json!({ "isCompanyOwner": v, "userType": if v { json!("SME") } else { json!(null) } })
        ),
        "[A-C]".prop_map(|v| json!({ "matricule": v })),
    ];
    proptest::collection::vec(field, 1..3).prop_map(|fields| {
        let merged = fields.iter().flat_map(|field| field.as_object().unwrap().clone());
        merged.collect::<serde_json::Map<_, _>>().into()
    })
}

/// What there is of the table but for its rows, each as `PostgreSQL` would make it.
async fn form(pool: &PgPool) -> Vec<String> {
    let form = "
        SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'users_v1'::regclass
        UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid = 'users_v1'::regclass
        UNION ALL SELECT concat_ws(' ', attnum, attname, atttypid::regtype, attnotnull, attstorage, attcollation)
            FROM pg_attribute WHERE attrelid = 'users_v1'::regclass AND attnum > 0
        UNION ALL SELECT concat_ws(' ', relname, relnamespace::regnamespace, relowner::regrole, relpersistence,
            reloptions, relacl) FROM pg_class WHERE oid = 'users_v1'::regclass
        ORDER BY 1";
    sqlx::query_scalar(form).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn rows_are_the_fold_of_the_log_whatever_happens_and_so_they_are_made_again(pool: PgPool) {
    let world = Arc::new(World::new(pool).await);
    let (progress, _stop) = world.start_runner();
    some_histories(&world, progress.clone()).await;
    let (rows, before) = (world.rows().await, form(&world.pool).await);
    assert!(rows.len() > 20, "{} rows", rows.len());

    sqlx::query("GRANT SELECT ON users_v1 TO PUBLIC").execute(&world.pool).await.unwrap();
    let granted = form(&world.pool).await;
    assert_ne!(granted, before);
    // Memory for a few rows at a time.
    let steps = Mutex::new(Vec::new());
    let made = world.rebuild(8 << 10).run(&|step| steps.lock().unwrap().push(step)).await.unwrap();
    let compared = made.compared.unwrap();
    assert_eq!((compared.differing, compared.differences.len()), (0, 0));
    assert_eq!((compared.rows, &world.rows().await), (i64::try_from(rows.len()).unwrap(), &rows));
    assert_eq!(form(&world.pool).await, granted);
    let ranges = steps.into_inner().unwrap().into_iter().filter_map(|step| match step {
        Step::Reading { range, .. } => Some(range),
        Step::Resumed
        | Step::Indexing
        | Step::CatchingUp { .. }
        | Step::Waiting
        | Step::Swapped
        | Step::Comparing => None,
    });
    assert!(ranges.max().unwrap() > 2, "it was too much for one range");

    // Live goes on, from where it took over.
    let (some, other) = (&rows[0].id, &rows[1].id);
    world.run(some, change(json!({ "nom": "Behind" }))).await;
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    let wrong = "UPDATE users_v1 SET nom = 'wrong' WHERE id = $1";
    sqlx::query(wrong).bind(other).execute(&world.pool).await.unwrap();
    let back = world.rebuild(0).roll_back(&|_| ()).await.unwrap();
    let compared = back.compared.unwrap();
    let keys: Vec<_> = compared.differences.iter().map(|it| &it.key).collect();
    assert_eq!((compared.differing, keys), (1, vec![other]), "what was put back had caught up");
    assert_eq!(world.rows().await, world.fold(&ids(&rows)).await);
    let again = world.rebuild(0).roll_back(&|_| ()).await.unwrap();
    assert_eq!(again.compared.unwrap().differing, 1, "and forth");
}

fn ids(rows: &[UserRow]) -> Vec<String> {
    rows.iter().map(|row| row.id.clone()).collect()
}

async fn some_histories(world: &Arc<World>, progress: Progress) {
    let (world, runtime) = (world.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let mut runner =
            TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let steps = proptest::collection::vec((0..3usize, 0..8u8, any_fields()), 1..24);
        let all_ids = std::cell::RefCell::new(Vec::new());
        runner
            .run(&steps, |steps| {
                let ids: Vec<String> = (0..3).map(|_| UuidV7.next().to_string()).collect();
                all_ids.borrow_mut().extend(ids.clone());
                let ids_so_far = all_ids.borrow().clone();
                runtime.block_on(async {
                    for (user, what, fields) in steps {
                        let command = match what {
                            0..2 => create(&ids[user], serde_json::Value::Object(present(&fields))),
                            2..6 => change(fields),
                            6 => status_role_or_device(&fields),
                            _ => Command::Delete,
                        };
                        world.run(&ids[user], command).await;
                    }
                    let head = world.store.head().await.unwrap();
                    prop_assert!(progress.reaches(head, SOON).await);
                    prop_assert_eq!(world.rows().await, world.fold(&ids_so_far).await);
                    Ok(())
                })
            })
            .unwrap();
    })
    .await
    .unwrap();
}

/// The fields that are not null: a creation knows no clearing.
fn present(fields: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    fields.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn applying_events_twice_changes_nothing(pool: PgPool) {
    let world = World::new(pool).await;
    world.run("a", create("a", json!({ "matricule": "M1", "email": "a@example.com" }))).await;
    world.run("a", change(json!({ "nom": "Martin", "email": "b@example.com" }))).await;
    world.run("b", create("b", json!({}))).await;
    world.run("b", Command::Delete).await;
    let events: Vec<StoredEvent> = world.store.read_all(Position::START, 100).await.unwrap();
    let mut connection = world.pool.acquire().await.unwrap();
    for size in [1, 2, 4] {
        for batch in events.chunks(size) {
            Users::apply(&mut connection, batch).await.unwrap();
            Users::apply(&mut connection, batch).await.unwrap();
        }
        assert_eq!(world.rows().await, world.fold(&["a".into(), "b".into()]).await, "in batches of {size}");
        sqlx::query("TRUNCATE users_v1").execute(&world.pool).await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_leader_that_was_replaced_writes_nothing_more(pool: PgPool) {
    let world = World::new(pool).await;
    let (progress, _stop) = world.start_runner();
    world.run("a", create("a", json!({}))).await;
    assert!(progress.reaches(Position::new(1), SOON).await);
    // Another took over without this one having noticed.
    sqlx::query("UPDATE checkpoints SET epoch = epoch + 1").execute(&world.pool).await.unwrap();
    sqlx::query("UPDATE users_v1 SET nom = 'written by the new leader'").execute(&world.pool).await.unwrap();
    world.run("a", change(json!({ "nom": "x" }))).await;
    // It gives up its turn, takes a new epoch, and goes on from the checkpoint.
    assert!(progress.reaches(Position::new(2), SOON).await);
    let epoch: i64 =
        sqlx::query_scalar("SELECT epoch FROM checkpoints").fetch_one(&world.pool).await.unwrap();
    assert_eq!(epoch, 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_of_two_runners_leads_and_the_other_takes_over(pool: PgPool) {
    let world = World::new(pool).await;
    let (first, stop_first) = world.start_runner();
    world.run("a", create("a", json!({}))).await;
    assert!(first.reaches(Position::new(1), SOON).await);
    let (second, _stop) = world.start_runner();
    assert!(second.reaches(Position::new(1), SOON).await, "it sees how far the leader is");
    assert_eq!((first.state(), second.state()), (State::Leading, State::Standby));
    stop_first.cancel();
    world.run("a", change(json!({ "nom": "x" }))).await;
    assert!(second.reaches(Position::new(2), SOON).await);
    assert_eq!(second.state(), State::Leading);
    assert_eq!(world.rows().await, world.fold(&["a".into()]).await);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_cannot_be_read_stops_the_projection_at_it(pool: PgPool) {
    let world = World::new(pool).await;
    for n in 0..20 {
        world.run(&format!("u{n}"), create(&format!("u{n}"), json!({}))).await;
    }
    world.run("a", create("a", json!({}))).await;
    let of_tomorrow = NewEvent {
        id: UuidV7.next(),
        type_name: "user.teleported".into(),
        schema_version: 1,
        data: b"{}".to_vec(),
        meta: b"{}".to_vec(),
    };
    let proposal = Proposal {
        stream: StreamId::new(User::CATEGORY, "a"),
        base: 1,
        expected: 1,
        known: false,
        events: vec![of_tomorrow],
        take: vec![],
        release: vec![],
        key: None,
        keep_key: false,
        with_previous: false,
    };
    world.store.append(&[proposal]).await.unwrap();
    // All of them in its first batch.
    let (progress, _stop) = world.start_runner();
    let stopped = tokio::time::timeout(SOON, async {
        loop {
            if let State::Stopped(Trouble { reason: why, .. }) = progress.state() {
                return why;
            }
            tokio::task::yield_now().await;
        }
    });
    let why = stopped.await.unwrap();
    assert!(why.contains("position 22") && why.contains("user.teleported"), "{why}");
    assert!(!progress.reaches(Position::new(22), Duration::from_millis(50)).await);
    assert_eq!(world.rows().await.len(), 21, "what came before it is there");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn lists_are_filtered_paged_and_counted(pool: PgPool) {
    let world = World::new(pool).await;
    for n in 0..5 {
        let fields = json!({ "matricule": format!("M{n}"), "prenom": "50%_x", "ministere": if n % 2 == 0 { "IT" } else { "Santé" } });
        world.run(&format!("u{n}"), create(&format!("u{n}"), fields)).await;
    }
    world.run("u4", change(json!({ "username": "Éloïse" }))).await;
    let (progress, _stop) = world.start_runner();
    assert!(progress.reaches(Position::new(6), SOON).await);
    let ids = |rows: Vec<UserRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let it = Filter { ministere: Some("IT".into()), ..Filter::default() };
    assert_eq!(ids(users::page(&world.pool, &it, Some("u0"), 1).await.unwrap()), ["u2"]);
    assert_eq!(users::count(&world.pool, &it).await.unwrap(), (3, true));
    for (q, found) in [
        ("m3", 1),
        ("0%_", 5),
        ("%3", 0),
        ("%", 5),
        ("dupont", 5),
        ("\\", 0),
        ("50%_x dup", 5),
        ("SANTÉ", 0),
        ("éloïse", 1),
        ("ÉLOÏSE", 1),
        ("eloise", 1),
        ("Dùpönt 50", 5),
        ("m 3", 0),
        ("É", 1),
        ("％", 5),
        ("x＿d", 0),
    ] {
        let filter = Filter { q: Some(q.into()), ..Filter::default() };
        assert_eq!(users::count(&world.pool, &filter).await.unwrap().0, found, "{q}");
    }
    let asked = ["M4".to_owned(), "nobody".into(), "u1".into(), "M4".into()];
    assert_eq!(ids(users::find_many(&world.pool, &asked).await.unwrap()), ["u4", "u1", "u4"]);
    let finder = Finder::new(world.pool.clone());
    let found = async |name| finder.find(name).await.unwrap().map(|user| user.id);
    let found = tokio::join!(found("M2"), found("nobody"), found("u1"), found("M2"));
    assert_eq!(found, (Some("u2".into()), None, Some("u1".into()), Some("u2".into())));
    assert!(users::find_by_matricule(&world.pool, "u2").await.unwrap().is_none());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn plans_made_on_an_empty_table_scan_nothing_once_it_is_full(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    for n in 0..200 {
        world.run(&format!("u{n}"), create(&format!("u{n}"), json!({}))).await;
    }
    let events = world.store.read_all(Position::START, 1_000).await.unwrap();
    assert_eq!(events.len(), 200);
    let options = event_store::postgres::probing((*pool.connect_options()).clone());
    let mut connection: PgConnection = PgConnection::connect_with(&options).await.unwrap();
    // Plans are kept from the sixth time on.
    for event in &events[..10] {
        Users::apply(&mut connection, std::slice::from_ref(event)).await.unwrap();
    }
    for chunk in events.chunks(100) {
        Users::apply(&mut connection, chunk).await.unwrap();
    }
    let mut transaction = connection.begin().await.unwrap();
    Users::apply(&mut transaction, &events).await.unwrap();
    let scans: i64 =
        sqlx::query_scalar("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'users_v1'")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
    assert_eq!(scans, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn users_are_looked_up_in_the_indexes_even_of_an_empty_table(pool: PgPool) {
    let options = event_store::postgres::probing((*pool.connect_options()).clone());
    // One connection: it counts for itself, and tells when it is asked to.
    let pool = event_store::postgres::pool(options, 1);
    let scans = async || -> i64 {
        sqlx::query("SELECT pg_stat_force_next_flush()").execute(&pool).await.unwrap();
        sqlx::query_scalar("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'users_v1'")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    let before = scans().await;
    // Plans are kept from the sixth time on.
    for _ in 0..10 {
        assert_eq!(users::find_many(&pool, &["u1".into(), "M-1".into()]).await.unwrap(), []);
    }
    assert_eq!(scans().await - before, 0);
}

/// As if who suspended the user had been killed before ending the sessions.
#[sqlx::test(migrator = "MIGRATOR")]
async fn who_is_shut_out_has_no_session_even_if_nobody_ended_it(pool: PgPool) {
    let world = World::new(pool.clone()).await;
    world.run("u-1", create("u-1", json!({}))).await;
    let session = |sid: u128, user_version| NewSession {
        sid: uuid::Uuid::from_u128(sid),
        user_id: "u-1",
        user_version,
        access_version: 1,
        token_hash: b"hash",
        ip_address: "127.0.0.1",
        user_agent: None,
    };
    assert!(sessions::begin(&pool, &session(1, 1)).await.unwrap());
    world.run("u-1", Command::ChangeStatus { to: Status::Suspended, reason: None }).await;
    world.run("u-1", Command::ChangeStatus { to: Status::Active, reason: None }).await;
    // Another process has seen that the user is active again, before the read model has.
    assert!(sessions::begin(&pool, &session(3, 3)).await.unwrap());

    let (progress, _stop) = world.start_runner();
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    let live = sessions::Sessions::new(pool.clone());
    assert_eq!(live.holder(uuid::Uuid::from_u128(1)).await.unwrap(), None);
    assert!(live.holder(uuid::Uuid::from_u128(3)).await.unwrap().is_some());
    // A login that looked at the user's status before the suspension comes too late.
    assert!(!sessions::begin(&pool, &session(4, 1)).await.unwrap());
}
