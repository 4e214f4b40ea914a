//! Rebuilds that are broken off, meet each other, or find that something has changed meanwhile.

use std::sync::Mutex;

use event_store::reader::Failure;
use event_store::{EventStore, MIGRATOR};
use projections::rebuild::{Rebuild, Rebuilt, Step};
use projections::users::Users;
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};

use super::{SOON, World, change, create, form};

/// Runs a rebuild, or a rollback, until it is at a step, and breaks it off there.
async fn broken_off(made: impl AsyncFnOnce(&(dyn Fn(Step) + Sync)), at: impl Fn(Step) -> bool + Send + Sync) {
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let tell = |step| {
        if at(step)
            && let Some(told) = told.lock().unwrap().take()
        {
            told.send(()).unwrap();
        }
    };
    tokio::select! {
        () = made(&tell) => panic!("not broken off"),
        heard = heard => heard.unwrap(),
    }
}

/// Breaks a rebuild off when all is made and only its place is to be taken.
async fn broken_off_before_the_end(world: &World, rebuild: &Rebuild<Users>) {
    let reader = reads(&world.pool).await;
    let run = async |tell: &(dyn Fn(Step) + Sync)| drop(rebuild.run(tell).await.unwrap());
    broken_off(run, |step| step == Step::Waiting).await;
    reader.rollback().await.unwrap();
}

/// Keeps the tables where they are.
async fn reads(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM users_v1").execute(&mut *reader).await.unwrap();
    reader
}

async fn with_users(pool: PgPool, count: usize) -> World {
    let world = World::new(pool).await;
    for n in 0..count {
        world.run(&format!("u{n:02}"), create(&format!("u{n:02}"), json!({}))).await;
    }
    let (progress, stop) = world.start_runner();
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    stop.cancel();
    world
}

fn rows(made: &Rebuilt) -> i64 {
    made.compared.as_ref().unwrap().rows
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, Failure>, expected: &str) {
    let failure = result.unwrap_err();
    assert!(matches!(failure, Failure::Lasting { code, .. } if code == expected), "{failure}");
}

async fn execute(world: &World, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&world.pool).await.unwrap();
}

async fn count(world: &World, of: &'static str) -> i64 {
    sqlx::query_scalar(of).fetch_one(&world.pool).await.unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_rebuild_that_was_broken_off_goes_on_or_is_given_up(pool: PgPool) {
    let world = with_users(pool, 40).await;
    let rebuild = world.rebuild(8 << 10);
    let run = async |tell: &(dyn Fn(Step) + Sync)| drop(rebuild.run(tell).await.unwrap());
    let range = |wanted| move |step| matches!(step, Step::Reading { range, .. } if range == wanted);
    broken_off(run, range(3)).await;
    assert!(count(&world, "SELECT count(reached) FROM rebuilds").await > 0);
    assert!(count(&world, "SELECT count(*) FROM rebuild.users_v1").await > 0);
    assert_refused(world.rebuild(0).roll_back(&|_| ()).await, "rebuild_unfinished");
    let seen = Mutex::new(Vec::new());
    let made = rebuild.run(&|step| seen.lock().unwrap().push(step)).await.unwrap();
    assert_eq!((rows(&made), seen.into_inner().unwrap()[0]), (40, Step::Resumed));

    assert!(!rebuild.cancel().await.unwrap());
    broken_off(run, range(2)).await;
    assert!(rebuild.cancel().await.unwrap());
    let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'rebuild'::regnamespace AND relname LIKE 'users%'";
    assert_eq!((count(&world, left).await, world.rows().await.len()), (0, 40));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_rollback_that_was_broken_off_goes_on_or_is_taken_back(pool: PgPool) {
    let world = with_users(pool, 3).await;
    let rebuild = world.rebuild(1 << 20);
    execute(&world, "UPDATE users_v1 SET nom = 'Before' WHERE id = 'u01'").await;
    rebuild.run(&|_| ()).await.unwrap();
    let roll_back = async || {
        let reader = reads(&world.pool).await;
        let back = async |tell: &(dyn Fn(Step) + Sync)| drop(rebuild.roll_back(tell).await.unwrap());
        broken_off(back, |step| step == Step::Waiting).await;
        reader.rollback().await.unwrap();
    };
    roll_back().await;
    assert_refused(rebuild.run(&|_| ()).await, "rebuild_unfinished");
    assert_refused(rebuild.verify(true, &|_| ()).await, "rebuild_unfinished");
    assert!(rebuild.cancel().await.unwrap());
    assert_eq!(count(&world, "SELECT count(*) FROM previous.users_v1 WHERE nom = 'Before'").await, 1);

    roll_back().await;
    let back = rebuild.roll_back(&|_| ()).await.unwrap();
    assert_eq!(back.compared.unwrap().differing, 1);
    assert_eq!(count(&world, "SELECT count(*) FROM users_v1 WHERE nom = 'Before'").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_two_rebuilds_at_once_one_is_refused(pool: PgPool) {
    let world = with_users(pool, 1).await;
    let (one, other) = (world.rebuild(1 << 20), world.rebuild(1 << 20));
    let refused = Mutex::new(None);
    let told = |step| {
        if let Step::Indexing = step {
            *refused.lock().unwrap() = Some(aside(other.run(&|_| ())));
        }
    };
    assert_eq!(rows(&one.run(&told).await.unwrap()), 1);
    assert_refused(refused.into_inner().unwrap().unwrap(), "rebuild_under_way");
}

/// On a thread of its own, while the one that tells stands still.
fn aside<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let runs = || tokio::runtime::Runtime::new().unwrap().block_on(future);
        scope.spawn(runs).join().unwrap()
    })
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_another_has_taken_over_takes_nobodys_place(pool: PgPool) {
    let world = with_users(pool, 2).await;
    let options = (*world.pool.connect_options()).clone();
    let reader = Mutex::new(Some(reads(&world.pool).await));
    let told = |step| {
        if step == Step::Waiting
            && let Some(reader) = reader.lock().unwrap().take()
        {
            aside(async {
                let other = PgPool::connect_with(options.clone()).await.unwrap();
                let lost = "DELETE FROM rebuild.users_v1; UPDATE rebuild.checkpoints SET epoch = epoch + 1";
                sqlx::raw_sql(lost).execute(&other).await.unwrap();
                other.close().await;
            });
            drop(reader);
        }
    };
    let failure = world.rebuild(1 << 20).run(&told).await.unwrap_err();
    assert!(matches!(failure, Failure::Fenced), "{failure}");
    assert_eq!(world.rows().await.len(), 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_migration_adds_meanwhile_is_not_lost(pool: PgPool) {
    let world = with_users(pool, 2).await;
    let rebuild = world.rebuild(1 << 20);
    broken_off_before_the_end(&world, &rebuild).await;
    execute(&world, "CREATE INDEX users_v1_later ON users_v1 (nom)").await;
    let before = form(&world.pool).await;
    rebuild.run(&|_| ()).await.unwrap();
    assert_eq!(form(&world.pool).await, before);

    broken_off_before_the_end(&world, &rebuild).await;
    execute(&world, "ALTER TABLE users_v1 ADD COLUMN later text").await;
    assert_refused(rebuild.run(&|_| ()).await, "rebuild_outdated");
    assert!(rebuild.cancel().await.unwrap());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_another_program_has_begun_is_begun_anew(pool: PgPool) {
    let world = with_users(pool, 2).await;
    let rebuild = world.rebuild(1 << 20);
    broken_off_before_the_end(&world, &rebuild).await;
    execute(&world, "UPDATE rebuilds SET program = '0.0.0'; UPDATE rebuild.users_v1 SET nom = 'Otherwise'")
        .await;
    let steps = Mutex::new(Vec::new());
    let made = rebuild.run(&|step| steps.lock().unwrap().push(step)).await.unwrap();
    assert_ne!(steps.into_inner().unwrap()[0], Step::Resumed);
    assert_eq!((rows(&made), made.compared.unwrap().differing), (2, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_of_another_past_of_the_log_is_refused(pool: PgPool) {
    let world = with_users(pool, 2).await;
    let rebuild = world.rebuild(1 << 20);
    broken_off_before_the_end(&world, &rebuild).await;
    execute(&world, "UPDATE rebuild.checkpoints SET event_id = gen_random_uuid()").await;
    assert_refused(rebuild.run(&|_| ()).await, "log_diverged");
    assert!(rebuild.cancel().await.unwrap());
    assert_eq!(rows(&rebuild.run(&|_| ()).await.unwrap()), 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_is_passed_by_is_in_no_rows_that_are_made_again(pool: PgPool) {
    let world = with_users(pool, 2).await;
    world.run("u01", change(json!({ "nom": "Passed by" }))).await;
    let rebuild = world.rebuild(1 << 20);
    broken_off_before_the_end(&world, &rebuild).await;
    let skip =
        "INSERT INTO projection_skips (reader, position, event_id, stream, type, code, error, reason, who)
                SELECT 'users_v1', position, event_id, stream, type, 'refused', '', 'a test', 'me'
                FROM events WHERE position = 3";
    execute(&world, skip).await;
    assert_refused(rebuild.run(&|_| ()).await, "rebuild_outdated");
    assert!(rebuild.cancel().await.unwrap());
    let (progress, _stop) = world.start_runner();
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    let (position, compared) = rebuild.verify(false, &|_| ()).await.unwrap();
    assert_eq!((position.get(), compared.differing), (3, 0));
    let name: String =
        sqlx::query_scalar("SELECT nom FROM users_v1 WHERE id = 'u01'").fetch_one(&world.pool).await.unwrap();
    assert_eq!(name, "Dupont");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_table_on_which_something_hangs_stays_where_it_is(pool: PgPool) {
    let world = with_users(pool, 1).await;
    execute(&world, "CREATE VIEW names AS SELECT nom FROM users_v1").await;
    let failure = world.rebuild(1 << 20).run(&|_| ()).await.unwrap_err();
    assert!(failure.to_string().contains("the view names hangs on users_v1"), "{failure}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_has_yet_to_come_to_the_live_rows_is_no_difference(pool: PgPool) {
    let world = with_users(pool, 2).await;
    let (progress, _stop) = world.start_runner();
    assert!(progress.reaches(world.store.head().await.unwrap(), SOON).await);
    let mut slow = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE users_v1 IN SHARE MODE").execute(&mut *slow).await.unwrap();
    world.run("u00", change(json!({ "nom": "On its way" }))).await;
    let (told, made) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let tell = |step| {
        if let Step::Indexing = step
            && let Some(told) = told.lock().unwrap().take()
        {
            told.send(()).unwrap();
        }
    };
    let rebuild = world.rebuild(1 << 20);
    let go_on = async {
        made.await.unwrap();
        slow.rollback().await.unwrap();
    };
    let (made, ()) = tokio::join!(rebuild.run(&tell), go_on);
    let compared = made.unwrap().compared.unwrap();
    assert_eq!((compared.rows, compared.differing), (2, 0), "{:?}", compared.differences);
}
