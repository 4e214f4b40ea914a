//! `with-services CMD ARGS…`: runs a command with a fresh private `PostgreSQL` in `DATABASE_URL`,
//! and ends as the command does.
//!
//! The user of the URL may create databases, as tests with a database each need.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use annuaire::local::{Options, Postgres, exit_code, terminate};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
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

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-services CMD ARGS…");
        return Ok(ExitCode::from(2));
    };
    // Caught from here on, so that no signal ends us before the server has ended.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut requests = signal(SignalKind::terminate())?;
    // Started by root, the server runs as another user, who must be able to pass.
    let dir =
        tempfile::Builder::new().prefix("annuaire-").permissions(Permissions::from_mode(0o711)).tempdir()?;
    // Each test has a database and a pool of its own, and many run at once.
    let options = Options { max_connections: 300 };
    let server = tokio::select! {
        server = Postgres::start_with(dir.path(), options) => server?,
        _ = interrupts.recv() => return Ok(ExitCode::from(130)),
        _ = requests.recv() => return Ok(ExitCode::from(143)),
    };
    let ended = attend(
        Command::new(program).args(arguments).env("DATABASE_URL", server.url()),
        &mut interrupts,
        &mut requests,
    )
    .await;
    server.stop().await;
    Ok(ended?)
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
