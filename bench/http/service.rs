//! What is asked: the program, and a server that does nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header;
use axum::routing::any;
use bench::Failure;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const START_WITHIN: Duration = Duration::from_secs(30);

/// The program in a folder of its own, with a private Redis.
pub(crate) struct Service {
    pub(crate) address: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Service {
    pub(crate) async fn start(program: &Path, postgres: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(program.canonicalize()?);
        command.args(["serve", "--roles", "api,projections"]).current_dir(folder.path()).kill_on_drop(true);
        command.env("DATABASE_URL", postgres).env("AUTH_USER_SERVICE_PORT", port.to_string());
        command.env("HTTP_HOST", "127.0.0.1").env("RUST_LOG", "warn").stdout(Stdio::null());
        let process = command.spawn()?;
        let service = Self { address: format!("127.0.0.1:{port}"), process, _folder: folder };
        let begin = Instant::now();
        while crate::load::once(&service.address, &crate::Request::ready()).await.is_err() {
            if begin.elapsed() > START_WITHIN {
                return Err("the service does not get ready".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(service)
    }

    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let id = self.process.id().ok_or("the service has ended")?;
        Command::new("kill").arg(id.to_string()).status().await?;
        self.process.wait().await?;
        Ok(())
    }
}

/// A bare axum server in a process of its own.
pub(crate) struct Floor {
    pub(crate) address: String,
    _process: Child,
}

impl Floor {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("--floor").stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let lines = process.stdout.take().ok_or("no output")?;
        let address = BufReader::new(lines).lines().next_line().await?.ok_or("no address")?;
        Ok(Self { address, _process: process })
    }
}

/// Answers everything with a profile.
pub(crate) async fn serve_floor() -> Result<(), Failure> {
    const PROFILE: &str = r#"{"id":"0192f3c0-0000-7000-8000-000000000000","matricule":"M0192f3c0000070008000000000000000","nom":"Dupont","prenom":"Jean","ministere":"Santé","avatar":"https://example.com/avatars/dupont.png","sexe":"M","status":"active","roles":["user"],"emailVerified":false,"mfaEnabled":false,"isCompanyOwner":false,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z","version":1}"#;
    let answer =
        any(|_body: axum::body::Bytes| async { ([(header::CONTENT_TYPE, "application/json")], PROFILE) });
    let routes = Router::new().route("/", answer.clone()).route("/{id}", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}
