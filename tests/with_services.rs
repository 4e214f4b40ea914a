//! `with-services CMD ARGS…`: runs a command with private servers in `DATABASE_URL`, `REDIS_URL`
//! and `KAFKA_BROKERS`, and ends as the command does.
//!
//! The user of `DATABASE_URL` may create databases, as tests with a database each need.

use std::error::Error;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annuaire::local::{LocalError, Options, Postgres, Redis, RedisOptions, exit_code, terminate};
use clap::{Parser, ValueEnum};
use futures::future::OptionFuture;
use journeys::Kafka;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a command with private servers, and ends as the command does.
#[derive(Parser)]
#[command(name = "with-services")]
struct Arguments {
    /// Start only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Service>,
    /// Kafka's port; 0 is any free one
    #[arg(long, default_value_t = 0)]
    kafka_port: u16,
    /// Keep the servers' data in this folder
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Service {
    Postgres,
    Redis,
    Kafka,
}

#[tokio::main]
async fn main() -> ExitCode {
    run(Arguments::parse()).await.unwrap_or_else(|error| {
        eprint!("with-services: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprint!(": {error}");
            cause = error.source();
        }
        eprintln!();
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Ok(ExitCode::from(2));
    };
    // Caught from here on, so that no signal ends us before the servers have ended.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut requests = signal(SignalKind::terminate())?;
    let (dir, _temporary) = if let Some(dir) = &arguments.dir {
        (dir.clone(), None)
    } else {
        // Started by root, the servers run as another user, who must be able to pass.
        let passable = Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("annuaire-").permissions(passable).tempdir()?;
        (folder.path().to_owned(), Some(folder))
    };
    let services = tokio::select! {
        services = Services::start(&arguments, &dir) => services?,
        _ = interrupts.recv() => return Ok(ExitCode::from(130)),
        _ = requests.recv() => return Ok(ExitCode::from(143)),
    };
    let mut command = Command::new(program);
    command.args(rest).envs(services.variables());
    let ended = attend(&mut command, &mut interrupts, &mut requests).await;
    services.stop().await;
    Ok(ended?)
}

struct Services {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    kafka: Option<Kafka>,
}

impl Services {
    async fn start(arguments: &Arguments, dir: &Path) -> Result<Self, LocalError> {
        let wanted = |service| arguments.only.is_empty() || arguments.only.contains(&service);
        // Each test has a database and a pool of its own, and some have three processes, each with dozens of connections.
        let options = Options { max_connections: 1_000 };
        let any_port = RedisOptions { port: Some(0) };
        let (postgres, redis, kafka) = tokio::try_join!(
            if_wanted(wanted(Service::Postgres), Postgres::start_with(dir, options)),
            if_wanted(wanted(Service::Redis), Redis::start_with(dir, any_port)),
            if_wanted(wanted(Service::Kafka), Kafka::start(dir, arguments.kafka_port)),
        )?;
        Ok(Self { postgres, redis, kafka })
    }

    fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { postgres, redis, kafka } = self;
        [
            postgres.as_ref().map(|server| ("DATABASE_URL", server.url())),
            redis.as_ref().map(|server| ("REDIS_URL", server.url())),
            kafka.as_ref().map(|server| ("KAFKA_BROKERS", server.bootstrap())),
        ]
        .into_iter()
        .flatten()
    }

    async fn stop(self) {
        let Self { postgres, redis, kafka } = self;
        tokio::join!(
            OptionFuture::from(postgres.map(Postgres::stop)),
            OptionFuture::from(redis.map(Redis::stop)),
            OptionFuture::from(kafka.map(Kafka::stop)),
        );
    }
}

async fn if_wanted<T>(
    wanted: bool,
    start: impl Future<Output = Result<T, LocalError>>,
) -> Result<Option<T>, LocalError> {
    if wanted { start.await.map(Some) } else { Ok(None) }
}

async fn attend(
    command: &mut Command,
    interrupts: &mut Signal,
    requests: &mut Signal,
) -> std::io::Result<ExitCode> {
    let mut child = command.spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(ExitCode::from(exit_code(status?))),
            // A terminal has sent it to the command too.
            _ = interrupts.recv() => {}
            _ = requests.recv() => {
                if let Some(id) = child.id() {
                    terminate(id)?;
                }
            }
        }
    }
}
