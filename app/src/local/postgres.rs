//! A private `PostgreSQL`, reachable through a socket in a folder that only its owner can open.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::account::Account;
use super::folder::{lock, log_file, make_private, open, redirect};
use super::installation::Installation;
use super::process::Process;
use super::{Doing, Kind, LocalError, leftover};

pub(super) const POSTGRES: Kind = Kind {
    name: "PostgreSQL",
    program: "postgres",
    file: "postgres",
    variable: "DATABASE_URL",
    install: "Debian, Ubuntu: apt-get install postgresql. Fedora, RHEL: dnf install postgresql-server. \
              macOS: brew install postgresql. Alpine: apk add postgresql",
};
const NAME: &str = "annuaire";
const PORT: u16 = 5432;
/// Recovery after a crash may take a while; a server that ended is noticed at once.
const START: Duration = Duration::from_mins(2);
const STOP: Duration = Duration::from_secs(10);
/// The kernel allows about 104 to 108, with the file's name.
const SOCKET_PATH: usize = 100;

/// What a caller may choose.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many connections at most.
    pub max_connections: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_connections: 100 }
    }
}

/// A private `PostgreSQL`. Stop it with [`Postgres::stop`]; dropping it does the same, in a hurry.
#[derive(Debug)]
pub struct Postgres {
    folders: Folders,
    account: Account,
    installation: Installation,
    options: Options,
    process: Option<Process>,
    // Held until the server has ended; the operating system frees it if we are killed.
    _lock: File,
}

impl Postgres {
    /// Starts the server of this folder, making it at the first start.
    pub async fn start(dir: &Path) -> Result<Self, LocalError> {
        Self::start_with(dir, Options::default()).await
    }

    /// The same, with a choice.
    pub async fn start_with(dir: &Path, options: Options) -> Result<Self, LocalError> {
        let dir = open(dir)?;
        let lock = lock(&dir, "lock", POSTGRES)?;
        let account = Account::for_servers()?;
        let folders = Folders::under(&dir);
        let installation = Installation::find(&folders.data)?;
        let mut server = Self { folders, account, installation, options, process: None, _lock: lock };
        server.resume().await?;
        Ok(server)
    }

    /// Whether this folder has the data of one.
    #[must_use]
    pub fn is_made(dir: &Path) -> bool {
        Folders::under(dir).data.exists()
    }

    /// The turn of a program that may start the server for a short time only, until it closes the file.
    pub(crate) fn turn(dir: &Path) -> Result<File, LocalError> {
        lock(&open(dir)?, "turn.lock", POSTGRES)
    }

    /// How to connect to the server of this folder, if one runs there, whoever started it.
    pub async fn running(dir: &Path) -> Option<PgConnectOptions> {
        let folders = Folders::under(&dir.canonicalize().ok()?);
        // In a temporary folder it may be someone else's.
        Account::for_servers().ok().filter(|account| folders.socket_is_of(*account))?;
        let options = folders.connect_options(NAME);
        let mut connection = options.connect().await.ok()?;
        let cluster: Result<String, _> =
            sqlx::query_scalar("SHOW cluster_name").fetch_one(&mut connection).await;
        // The answer is all that was wanted.
        let _ = connection.close().await;
        (cluster.ok()? == folders.cluster).then_some(options)
    }

    /// Where to connect; the same after every start on this folder.
    #[must_use]
    pub fn url(&self) -> String {
        let host = percent_encode(self.folders.socket.as_os_str().as_bytes(), NON_ALPHANUMERIC);
        // Port and TLS are named, lest variables such as PGPORT or PGSSLMODE decide.
        format!("postgres://{NAME}@localhost:{PORT}/{NAME}?host={host}&sslmode=disable")
    }

    /// How to connect there, without the way through the URL.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.folders.connect_options(NAME)
    }

    /// Waits until the server ends by itself, which it never should.
    pub async fn ended(&self) -> Option<ExitStatus> {
        self.process.as_ref()?.ended().await
    }

    /// Stops the server and frees the folder.
    pub async fn stop(mut self) {
        self.halt().await;
    }

    /// Stops the server, ending its connections, but keeps the folder; [`Postgres::resume`] starts
    /// it again.
    pub async fn halt(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(STOP).await;
            self.folders.remove_socket();
        }
    }

    /// Kills the server as a crash of the machine would, but for what the disk had not got yet.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL);
            process.ended().await;
        }
    }

    /// Stops the server and starts it again.
    pub async fn restart(&mut self) -> Result<(), LocalError> {
        self.halt().await;
        self.resume().await
    }

    /// Starts the server after [`Postgres::halt`] or [`Postgres::kill`].
    pub async fn resume(&mut self) -> Result<(), LocalError> {
        if self.process.as_ref().is_some_and(|it| it.status().is_none()) {
            return Ok(());
        }
        leftover::stop(&self.folders.data, &self.folders.cluster).await?;
        if !self.folders.data.exists() {
            self.make().await?;
        }
        self.folders.make_socket(self.account)?;
        self.process = Some(Process::start("postgres", self.server()?).await?);
        self.answers().await?;
        self.make_database().await
    }

    async fn make(&self) -> Result<(), LocalError> {
        // A cluster half made by a program that was killed must never be taken for one.
        let new = self.folders.data.with_extension("new");
        // UTF-8 where the machine has it without a language; plain C knows ASCII letters only.
        for locale in ["C.UTF-8", "C"] {
            if new.exists() {
                std::fs::remove_dir_all(&new).doing(|| format!("can't remove {}", new.display()))?;
            }
            make_private(&new, self.account)?;
            let mut initdb = self.account.command(&self.installation.program("initdb"), &new, "INT");
            initdb.arg("--pgdata").arg(&new).args(["--encoding=UTF8", "--data-checksums", "--auth=trust"]);
            initdb.arg(format!("--locale={locale}")).arg(format!("--username={NAME}"));
            let output = log_file(&self.folders.dir.join("initdb.log"), false)?;
            redirect(&mut initdb, &output)?;
            let status = Process::start("initdb", initdb).await?.ended().await;
            let text = std::fs::read_to_string(self.folders.dir.join("initdb.log")).unwrap_or_default();
            if status.is_some_and(|it| it.success()) {
                return std::fs::rename(&new, &self.folders.data)
                    .doing(|| format!("can't rename {}", new.display()));
            }
            if locale == "C" || !text.contains("invalid locale") {
                return Err(LocalError::ended("initdb", status, &text));
            }
        }
        Ok(())
    }

    fn server(&self) -> Result<Command, LocalError> {
        let Folders { data, socket, cluster, .. } = &self.folders;
        let mut server = self.account.command(&self.installation.program("postgres"), data, "INT");
        server.arg("-D").arg(data);
        // The value is a list, in which a comma or a space would part two folders.
        let folder = socket.to_string_lossy().replace('"', "\"\"");
        for setting in [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories=\"{folder}\""),
            "unix_socket_permissions=0700".to_owned(),
            format!("port={PORT}"),
            // Stands in each process's title, by which one that is left over is recognised.
            format!("cluster_name={cluster}"),
            format!("max_connections={}", self.options.max_connections),
            "fsync=on".to_owned(),
            "full_page_writes=on".to_owned(),
            "synchronous_commit=on".to_owned(),
            "log_checkpoints=off".to_owned(),
            format!("shared_buffers={}MB", shared_buffers()),
            "logging_collector=off".to_owned(),
        ] {
            server.args(["-c", &setting]);
        }
        let log = log_file(&self.folders.dir.join("postgres.log"), true)?;
        redirect(&mut server, &log)?;
        Ok(server)
    }

    fn maintenance(&self) -> PgConnectOptions {
        self.folders.connect_options("postgres").disable_statement_logging()
    }

    async fn answers(&self) -> Result<(), LocalError> {
        let begin = Instant::now();
        let log = self.folders.dir.join("postgres.log");
        while begin.elapsed() < START {
            if let Some(process) = &self.process
                && process.status().is_some()
            {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(LocalError::ended("postgres", process.status(), &text));
            }
            if let Ok(connection) = self.maintenance().connect().await {
                return Ok(connection.close().await?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(LocalError::Silent { kind: POSTGRES, seconds: START.as_secs(), log })
    }

    async fn make_database(&self) -> Result<(), LocalError> {
        let mut connection = self.maintenance().connect().await?;
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(NAME)
            .fetch_one(&mut connection)
            .await?;
        if !there {
            sqlx::query("CREATE DATABASE annuaire").execute(&mut connection).await?;
        }
        Ok(connection.close().await?)
    }
}

/// An eighth of the memory, so that a log is read from there and not from the system's cache, which costs
/// twice as much; it is taken as it is needed.
fn shared_buffers() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let megabytes = total.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).map_or(0, |total| total / 1024);
    (megabytes / 8).clamp(128, 1024)
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop_blocking(STOP);
            self.folders.remove_socket();
        }
    }
}

#[derive(Debug)]
struct Folders {
    dir: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    cluster: String,
}

impl Folders {
    fn under(dir: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        dir.hash(&mut hasher);
        let cluster = format!("{NAME}-{:016x}", hasher.finish());
        let mut socket = dir.join("socket");
        let file = socket.join(format!(".s.PGSQL.{PORT}"));
        if file.as_os_str().len() > SOCKET_PATH {
            socket = std::env::temp_dir().join(&cluster);
        }
        Self { dir: dir.to_path_buf(), data: dir.join("postgres"), socket, cluster }
    }

    fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket)
            .port(PORT)
            .username(NAME)
            .database(database)
            .ssl_mode(sqlx::postgres::PgSslMode::Disable)
    }

    fn make_socket(&self, account: Account) -> Result<(), LocalError> {
        match self.socket.symlink_metadata() {
            Err(_) => make_private(&self.socket, account),
            // In a temporary folder anyone may have been here before.
            Ok(_) if self.socket_is_of(account) => Ok(()),
            Ok(_) => Err(LocalError::UnsafeFolder(self.socket.clone())),
        }
    }

    fn socket_is_of(&self, account: Account) -> bool {
        self.socket.symlink_metadata().is_ok_and(|found| {
            found.is_dir() && found.uid() == account.uid() && found.mode() & 0o777 == 0o700
        })
    }

    // Of use in the temporary folder; fails, rightly, where the server left something.
    fn remove_socket(&self) {
        let _ = std::fs::remove_dir(&self.socket);
    }
}
