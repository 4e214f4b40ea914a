//! Whether the time that a login takes to fail tells why it fails.
//!
//! Logins that fail for different reasons are sent in turn, in a new order each time, to the program
//! itself. One reason comes twice: how much its two runs differ is what chance alone makes of it. Each
//! comes from an address of its own, so that none is sent away for coming too often.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::phc};
use bench::{Failure, median, ms};
use clap::Parser;
use domain::Aggregate;
use domain::access::{Access, Command as AccessCommand};
use domain::password::PasswordHash;
use event_store::postgres::PostgresStore;
use event_store::{Appender, Commands, IfMatch, Metadata, Request, StreamId, SystemClock, UuidV7};
use futures::future::try_join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Measure how long logins take to fail.
#[derive(Parser)]
struct Options {
    /// Logins for each reason
    #[arg(long, default_value_t = 2_000)]
    samples: usize,
    /// How many are under way at once
    #[arg(long, default_value_t = 4)]
    lanes: usize,
    /// The program
    #[arg(long, default_value = "target/release/annuaire")]
    annuaire: PathBuf,
}

/// Why a login fails; the first two are the same.
const REASONS: [&str; 6] =
    ["unknown user", "unknown user again", "wrong password", "suspended", "no password", "old parameters"];
const PASSWORD: &str = "corridor-vers-la-mer";
/// So many users for each reason: none may be tried more than ten times a minute.
const USERS: usize = 200;

struct Target {
    client: Client,
    base: String,
    addresses: AtomicU32,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    bench::with_postgres(async |url| {
        let folder = tempfile::tempdir()?;
        let (mut process, base) = start(&options.annuaire, folder.path(), &url).await?;
        let client = Client::builder().timeout(Duration::from_secs(20)).build()?;
        let target = Target { client, base, addresses: AtomicU32::new(0) };
        target.people(&url).await?;
        let mut times = vec![Vec::with_capacity(options.samples); REASONS.len()];
        let lane = options.samples.div_ceil(options.lanes);
        for of_lane in try_join_all((0..options.lanes).map(|number| target.lane(number, lane))).await? {
            for (all, some) in times.iter_mut().zip(of_lane) {
                all.extend(some);
            }
        }
        tell(&times);
        process.kill().await?;
        Ok(())
    })
    .await
}

async fn start(program: &Path, folder: &Path, database: &str) -> Result<(Child, String), Failure> {
    let mut command = Command::new(program.canonicalize()?);
    command.args(["serve", "--roles", "api,projections"]).current_dir(folder).kill_on_drop(true);
    command.env("DATABASE_URL", database).env("AUTH_USER_SERVICE_PORT", "0").env("RUST_LOG", "error");
    command.env("TRUST_PROXY", "127.0.0.0/8").stdout(Stdio::piped());
    let mut process = command.spawn()?;
    let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(rest) = line.trim().strip_prefix("HTTP") {
            let base = rest.split_whitespace().next().ok_or("no address")?.to_owned();
            return Ok((process, base));
        }
    }
    Err("the program ended".into())
}

impl Target {
    /// Users for each reason that has some.
    async fn people(&self, url: &str) -> Result<(), Failure> {
        let store = std::sync::Arc::new(PostgresStore::connect(url.parse()?).await?);
        let access: Commands<Access> =
            Commands::new(store.clone(), Appender::start(store, SystemClock, UuidV7));
        let old = old_hash()?;
        for reason in 2..REASONS.len() {
            for number in 0..USERS {
                let id = format!("r{reason}-{number}");
                let mut user = json!({ "id": id, "matricule": format!("M-{id}"), "nom": "Dupont" });
                if reason == 2 || reason == 3 {
                    user["password"] = PASSWORD.into();
                }
                self.send("POST", "/", &user, StatusCode::CREATED).await?;
                if reason == 3 {
                    let status = json!({ "status": "suspended" });
                    self.send("PUT", &format!("/{id}/status"), &status, StatusCode::OK).await?;
                }
                if reason == 5 {
                    access.execute(set(&id, old.clone())).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        status: StatusCode,
    ) -> Result<String, Failure> {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + self.addresses.fetch_add(1, Ordering::Relaxed));
        let request = self.client.request(method.parse()?, format!("{}{path}", self.base)).json(body);
        let answer = request.header("x-forwarded-for", address.to_string()).send().await?;
        let found = answer.status();
        let text = answer.text().await?;
        if found == status { Ok(text) } else { Err(format!("{found}: {text}").into()) }
    }

    /// So many logins for each reason, in turn.
    async fn lane(&self, lane: usize, samples: usize) -> Result<Vec<Vec<Duration>>, Failure> {
        let mut times = vec![Vec::with_capacity(samples); REASONS.len()];
        let mut order: Vec<usize> = (0..REASONS.len()).collect();
        let mut body: Option<String> = None;
        for number in 0..samples {
            fastrand::shuffle(&mut order);
            for &reason in &order {
                let user = (lane * samples + number) % USERS;
                let name = if reason < 2 {
                    format!("nobody-{}", fastrand::u64(..))
                } else {
                    format!("r{reason}-{user}")
                };
                let login = json!({ "matricule": name, "password": "another-password" });
                let begun = Instant::now();
                let answer = self.send("POST", "/login", &login, StatusCode::UNAUTHORIZED).await?;
                times[reason].push(begun.elapsed());
                if body.get_or_insert_with(|| answer.clone()) != &answer {
                    return Err(format!("{} is answered otherwise: {answer}", REASONS[reason]).into());
                }
            }
        }
        Ok(times)
    }
}

fn set(id: &str, hash: PasswordHash) -> Request<AccessCommand> {
    Request {
        stream: StreamId::new(Access::CATEGORY, id),
        command: AccessCommand::SetPassword(hash),
        new_stream: true,
        if_match: IfMatch::Any,
        found_by: None,
        key: None,
        metadata: Metadata::default(),
    }
}

/// A hash that is made and checked several times as fast.
fn old_hash() -> Result<PasswordHash, Failure> {
    let params = Params::new(4_096, 1, 1, None).map_err(|e| e.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: phc::PasswordHash = argon2.hash_password(PASSWORD.as_bytes()).map_err(|e| e.to_string())?;
    Ok(PasswordHash::new(hash.to_string()))
}

fn tell(times: &[Vec<Duration>]) {
    let in_ms: Vec<Vec<f64>> = times.iter().map(|all| all.iter().copied().map(ms).collect()).collect();
    println!("{} logins for each reason; milliseconds", times[0].len());
    for (reason, all) in REASONS.iter().zip(&in_ms) {
        println!("  {reason:<20} median {:>8.3}", median(all.clone()));
    }
    println!("  difference of medians, and how likely it is by chance (Mann and Whitney):");
    for one in 0..REASONS.len() {
        for other in one + 1..REASONS.len() {
            let difference = median(in_ms[one].clone()) - median(in_ms[other].clone());
            let chance = by_chance(&in_ms[one], &in_ms[other]);
            let name = format!("{} / {}", REASONS[one], REASONS[other]);
            println!("  {name:<42} {difference:>8.3} ms   p {chance:.3}");
        }
    }
}

/// The two-sided p of the test of Mann and Whitney, by its approximation for many samples.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn by_chance(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = one.iter().map(|it| (*it, true)).collect();
    all.extend(other.iter().map(|it| (*it, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Times are so fine that none is the same as another.
    let ranks: f64 =
        all.iter().enumerate().filter(|(_, (_, of_one))| *of_one).map(|(at, _)| at as f64 + 1.0).sum();
    let (ones, others) = (one.len() as f64, other.len() as f64);
    let above = ranks - ones * (ones + 1.0) / 2.0;
    let spread = (ones * others * (ones + others + 1.0) / 12.0).sqrt();
    let deviations = (above - ones * others / 2.0).abs() / spread;
    // Abramowitz and Stegun, 7.1.26.
    let x = deviations / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    series.iter().rev().fold(0.0, |sum, it| (sum + it) * t) * (-x * x).exp()
}
