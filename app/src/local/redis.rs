//! A private Redis on a port of the loopback address.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::account::Account;
use super::daemon::Daemon;
use super::folder::make_private;
use super::port::{free_port, is_free};
use super::{Doing, Kind, LocalError, Signal};

const REDIS: Kind = Kind {
    name: "Redis",
    program: "redis-server",
    file: "redis",
    variable: "REDIS_URL",
    install: "Debian, Ubuntu: apt-get install redis-server. Fedora, RHEL: dnf install redis. \
              macOS: brew install redis. Alpine: apk add redis",
};
/// The one that clients try when they are not told.
const PORT: u16 = 6379;
/// A large file takes its time to load; a server that ended is noticed at once.
const START: Duration = Duration::from_mins(2);
const STOP: Duration = Duration::from_secs(10);
const TRIES: usize = 5;
/// Port and process of the server that was started last, for those who look for it.
const ADDRESS: &str = "redis.address";

/// What a caller may choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedisOptions {
    /// The port; 0 is any free one. `None`: 6379 if that is free, else any.
    pub port: Option<u16>,
}

/// A private Redis. Stop it with [`Redis::stop`]; dropping it does the same, in a hurry.
#[derive(Debug)]
pub struct Redis {
    daemon: Daemon,
    account: Account,
    program: PathBuf,
    data: PathBuf,
    port: u16,
}

impl Redis {
    /// Starts the server of this folder, making it at the first start.
    pub async fn start(dir: &Path) -> Result<Self, LocalError> {
        Self::start_with(dir, RedisOptions::default()).await
    }

    /// The same, with a choice.
    pub async fn start_with(dir: &Path, options: RedisOptions) -> Result<Self, LocalError> {
        let program = find()?;
        let account = Account::for_servers()?;
        // First, since a server that was left there may have the port.
        let daemon = Daemon::claim(REDIS, dir).await?;
        let data = daemon.dir().join("redis");
        let port = match options.port {
            None if is_free(PORT) => PORT,
            None | Some(0) => any_port()?,
            Some(port) => port,
        };
        let mut server = Self { daemon, account, program, data, port };
        let free_to_move = options.port.is_none_or(|port| port == 0);
        for _ in 0..TRIES {
            match server.resume().await {
                // Someone was faster.
                Err(LocalError::Program { .. }) if free_to_move && !is_free(server.port) => {
                    server.port = any_port()?;
                }
                other => return other.map(|()| server),
            }
        }
        server.resume().await.map(|()| server)
    }

    /// Where to connect to the server of this folder, if one runs there, whoever started it.
    pub async fn running(dir: &Path) -> Option<String> {
        let address = std::fs::read_to_string(dir.join(ADDRESS)).ok()?;
        let (port, id) = address.trim().split_once(' ')?;
        let (port, id) = (port.parse().ok()?, id.parse().ok()?);
        // The file may be older than the end of its server.
        let is_ours = tokio::time::timeout(Duration::from_secs(2), answers(port, id)).await;
        is_ours.unwrap_or(false).then(|| url(port))
    }

    /// Where to connect; the same for as long as this value lives.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Waits until the server ends by itself, which it never should.
    pub async fn ended(&self) -> Option<ExitStatus> {
        self.daemon.ended().await
    }

    /// Stops the server and frees the folder.
    pub async fn stop(mut self) {
        self.halt().await;
    }

    /// Stops the server, ending its connections, but keeps the folder; [`Redis::resume`] starts it
    /// again.
    pub async fn halt(&mut self) {
        self.daemon.halt(Signal::INT, STOP).await;
    }

    /// Kills the server as a crash of the machine would, but for what the disk had not got yet.
    pub async fn kill(&mut self) {
        self.daemon.kill().await;
    }

    /// Stops the server and starts it again.
    pub async fn restart(&mut self) -> Result<(), LocalError> {
        self.halt().await;
        self.resume().await
    }

    /// Starts the server after [`Redis::halt`] or [`Redis::kill`].
    pub async fn resume(&mut self) -> Result<(), LocalError> {
        if self.daemon.runs() {
            return Ok(());
        }
        if self.data.exists() {
            self.account.own(&self.data)?;
        } else {
            make_private(&self.data, self.account)?;
        }
        self.daemon.start(self.server()).await?;
        let id = self.daemon.id().unwrap_or_default();
        self.daemon.answers(START, async || answers(self.port, id).await).await?;
        let address = self.daemon.dir().join(ADDRESS);
        std::fs::write(&address, format!("{} {id}\n", self.port))
            .doing(|| format!("can't write {}", address.display()))
    }

    fn server(&self) -> Command {
        let mut server = self.account.command(&self.program, &self.data, "INT");
        server.arg("--dir").arg(&self.data).arg("--port").arg(self.port.to_string());
        for (setting, value) in [
            ("--bind", "127.0.0.1"),
            ("--protected-mode", "yes"),
            ("--daemonize", "no"),
            ("--logfile", ""),
            // Each write reaches the operating system before its answer, the disk within a second.
            ("--appendonly", "yes"),
            ("--appendfsync", "everysec"),
            ("--maxmemory-policy", "noeviction"),
            // It rewrites its log when that has doubled, which for a small one is all the time.
            ("--auto-aof-rewrite-min-size", "256mb"),
            // With snapshots it refuses to end where it can't write one, as in a folder that is gone.
            ("--save", ""),
        ] {
            server.args([setting, value]);
        }
        server
    }
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

fn any_port() -> Result<u16, LocalError> {
    free_port().doing(|| "can't find a free port".to_owned())
}

// Valkey is what some distributions have instead.
fn find() -> Result<PathBuf, LocalError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(usual).collect();
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
        .ok_or_else(|| LocalError::NotInstalled {
            kind: REDIS,
            looked_for: "no redis-server in PATH or the usual folders".to_owned(),
        })
}

/// Whether this very process answers; on its port it may be another Redis, and this one about to end.
async fn answers(port: u16, id: u32) -> bool {
    let ask = async {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        connection.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // While it loads its data it answers -LOADING.
    ask.await.is_ok_and(|answer| {
        answer.starts_with("+PONG") && answer.lines().any(|line| line == format!("process_id:{id}"))
    })
}
