//! PostgreSQL's disk is full, down to the last byte, and then is not any more.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annuaire::local::Postgres;
use sqlx::{ConnectOptions, PgPool};

use crate::outage::{Seen, client, create};
use crate::server::{Server, assert_read_model_follows, eventually};

const CLIENTS: usize = 8;
/// A cluster with an empty log takes half of it.
const MEGABYTES: u32 = 112;
/// 2 s until its turn and 5 s until the outcome is known are what a command may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Recovery, on a machine that has other things to do.
const RIGHT_WITHIN: Duration = Duration::from_mins(1);

/// A disk in memory.
struct SmallDisk {
    // Removed after it is unmounted.
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let size = format!("size={MEGABYTES}m,mode=0711");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { folder }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes what room there is.
    fn fill(&self) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.ballast()).unwrap();
        for block in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; block]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Writes to PostgreSQL's own log until that wants more room.
async fn want_room(postgres: &Postgres) {
    let Ok(mut connection) = postgres.connect_options().connect().await else { return };
    let write = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))";
    while sqlx::query(write).execute(&mut connection).await.is_ok() {}
}

#[tokio::test]
async fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            // Past the test's captured output, which nobody sees of a test that passes.
            let told = "SKIPPED a_full_disk_costs_nothing_that_was_acknowledged: can't mount a small disk";
            writeln!(std::io::stderr(), "{told}: {reason}").unwrap();
            return;
        }
    };
    let mut postgres = Postgres::start(disk.path()).await.unwrap();
    let url = postgres.url();
    let variables = [("DATABASE_URL", &*url), ("AUTO_MIGRATE", "true"), ("ROLES", "api,projections")];
    let server = Arc::new(Server::start(&variables).await);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(client(server.clone(), format!("c{n}"), stop.clone()))).collect();
    let mut right = Vec::new();
    // At first tables can't grow, but there is room left in the files of PostgreSQL's own log.
    for log_too in [false, true] {
        eventually("commands are carried out", async || create(&server).await == 201).await;
        disk.fill();
        eventually("commands are refused", async || {
            if log_too {
                want_room(&postgres).await;
            }
            create(&server).await == 503
        })
        .await;
        // Not for a moment only.
        assert_eq!(create(&server).await, 503);
        for path in ["/nobody", "/all"] {
            let status = server.get(path).send().await.unwrap().status().as_u16();
            assert!([200, 404, 503].contains(&status), "{path}: {status}");
        }
        assert_eq!(server.get("/health/live").send().await.unwrap().status(), 200);
        let state = if ended(&postgres).await { "has shut down" } else { "still runs" };

        disk.make_room();
        let room = Instant::now();
        let right_again = async {
            while create(&server).await != 201 {
                // Where it has shut down, as an operator does.
                let _ = postgres.resume().await;
            }
        };
        assert!(tokio::time::timeout(RIGHT_WITHIN, right_again).await.is_ok(), "{}", server.log());
        let right_from = Instant::now();
        for _ in 0..20 {
            assert_eq!(create(&server).await, 201);
        }
        right.push((right_from, Instant::now()));
        println!("PostgreSQL {state}; right again {:?} after there was room", right_from - room);
    }
    stop.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for client in clients {
        seen.extend(client.await.unwrap());
    }
    let pool = PgPool::connect(&url).await.unwrap();
    assert_nothing_is_lost(&seen, &right, &pool).await;
    assert_read_model_follows(&pool).await;
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("25P02"), "{log}");
    pool.close().await;
    drop(server);
    postgres.stop().await;
}

async fn ended(postgres: &Postgres) -> bool {
    tokio::time::timeout(Duration::ZERO, postgres.ended()).await.is_ok()
}

async fn assert_nothing_is_lost(seen: &[Seen], right: &[(Instant, Instant)], pool: &PgPool) {
    let stored: Vec<(String, i64)> =
        sqlx::query_as("SELECT convert_from(data, 'UTF8')::jsonb ->> 'nom', count(*) FROM events GROUP BY 1")
            .fetch_all(pool)
            .await
            .unwrap();
    let stored: HashMap<_, _> = stored.into_iter().collect();
    let (mut acknowledged, mut refused, mut longest) = (0, 0, Duration::ZERO);
    for Seen { name, sent, answered, status } in seen {
        longest = longest.max(*answered - *sent);
        let times = stored.get(name).copied().unwrap_or(0);
        if *status == 201 {
            acknowledged += 1;
            assert_eq!(times, 1, "{name} was acknowledged");
        } else {
            refused += 1;
            assert!(times <= 1, "{name} is there {times} times");
            let too_late = right.iter().any(|(from, to)| (*from..*to).contains(sent));
            assert!(!too_late, "{name} was refused after there was room again");
        }
    }
    println!("{acknowledged} acknowledged and all there, {refused} refused; the longest took {longest:?}");
    assert!(acknowledged > 0 && refused > 0, "the load was no load");
    assert!(longest < ANSWERED_WITHIN, "{longest:?}");
}
