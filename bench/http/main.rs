//! How fast the service answers over HTTP, beside `pgbench` doing the least that has to be done: one
//! INSERT a commit for a command, one SELECT by key for a query. And beside a bare axum server that
//! answers as much without looking at anything.
//!
//! The service is the program itself, with its read model and its profile cache kept up to date while
//! it answers (`--roles api,projections`); it, the load and the servers share the machine.

mod load;
mod service;

use bench::fill::Streams;
use bench::{Failure, reference};
use clap::Parser;
use sqlx::PgPool;

use load::{Load, Request};
use service::{Floor, Service};

/// Compare HTTP requests with pgbench.
#[derive(Parser)]
struct Options {
    /// Rounds; the median of their ratios is the figure
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Keep-alive connections, and clients of pgbench
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// The program
    #[arg(long, default_value = "target/release/annuaire")]
    annuaire: std::path::PathBuf,
    /// For the process this one starts
    #[arg(long, hide = true)]
    floor: bool,
}

/// Users that are read and changed.
const USERS: i64 = 1_000;

#[derive(Clone, Copy)]
enum Work {
    Create { wait: bool },
    Change { wait: bool },
    Get,
}

impl Work {
    const ALL: [Self; 5] = [
        Self::Create { wait: false },
        Self::Change { wait: false },
        Self::Create { wait: true },
        Self::Change { wait: true },
        Self::Get,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Create { wait: false } => "POST /, respond-async",
            Self::Change { wait: false } => "PUT /:id, respond-async",
            Self::Create { wait: true } => "POST /",
            Self::Change { wait: true } => "PUT /:id",
            Self::Get => "GET /:id",
        }
    }

    fn request(self) -> Request {
        let id = Streams::id(fastrand::i64(0..USERS));
        match self {
            Self::Create { wait } => Request::create(None, wait),
            Self::Change { wait } => Request::change(&id, wait),
            Self::Get => Request::get(&id),
        }
    }

    fn script(self) -> String {
        match self {
            Self::Create { .. } => reference::create(),
            Self::Change { .. } => reference::update(1_000),
            Self::Get => format!(
                "\\set r random(0, {})\nSELECT * FROM users_v1 \
                 WHERE id = '0192f3c0-0000-7000-8000-' || lpad((:r)::text, 12, '0');\n",
                USERS - 1
            ),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if options.floor {
        return service::serve_floor().await;
    }
    bench::with_postgres(async |url| compare(&options, &url).await).await
}

async fn compare(options: &Options, url: &str) -> Result<(), Failure> {
    let pool = PgPool::connect(url).await?;
    let service = Service::start(&options.annuaire, url).await?;
    let floor = Floor::start().await?;
    let load = Load { connections: options.connections, seconds: options.seconds };
    for number in 0..USERS {
        load::once(&service.address, &Request::create(Some(&Streams::id(number)), true)).await?;
    }
    println!(
        "{} connections, {} rounds of {} s; requests a second",
        load.connections, options.rounds, load.seconds
    );
    for work in Work::ALL {
        println!("\n{}", work.name());
        bench::rounds(options.rounds, async || {
            let before = reference::rows(&pool, "events").await?;
            let ours = load.run(&service.address, move || work.request()).await?;
            let stored = reference::rows(&pool, "events").await? - before;
            let expected = if matches!(work, Work::Get) { 0 } else { ours.answered };
            if stored != expected {
                return Err(format!("{expected} acknowledged, {stored} stored").into());
            }
            let (clients, seconds) = (options.connections, options.seconds);
            let its = reference::pgbench(url, &work.script(), clients, seconds).await?;
            let bare = load.run(&floor.address, move || work.request()).await?;
            let line = format!("ours {ours}   pgbench {its:>6.0}   bare axum {:>6.0}", bare.rate);
            Ok((line, ours.rate / its))
        })
        .await?;
    }
    service.stop().await?;
    pool.close().await;
    Ok(())
}
