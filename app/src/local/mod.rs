//! Private servers for development and tests: processes of our own that live in one folder and
//! end with the program.

mod account;
mod broker;
mod daemon;
mod folder;
mod installation;
mod leftover;
mod port;
mod postgres;
mod process;
mod redis;
mod turn;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::{fmt, io};

pub use rustix::process::Signal;

pub use self::broker::Broker;
pub use self::daemon::Daemon;
pub use self::port::free_port;
pub use self::postgres::{Options, Postgres};
pub use self::process::{exit_code, terminate};
pub use self::redis::{Redis, RedisOptions};
pub(crate) use self::turn::when_free;

/// What messages and files call a server.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name for people.
    pub name: &'static str,
    /// The program.
    pub program: &'static str,
    /// How the names of its files begin.
    pub file: &'static str,
    /// The setting that names a server which others run.
    pub variable: &'static str,
    /// How to install it, system by system.
    pub install: &'static str,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Why a private server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No program to start.
    #[error(
        "{kind} is not installed ({looked_for}). {}. Or set {} to a server that runs already",
        .kind.install, .kind.variable
    )]
    NotInstalled {
        /// Which one.
        kind: Kind,
        /// What was looked for in vain.
        looked_for: String,
    },
    /// Another process of ours has the folder.
    #[error("another annuaire uses the {kind} in {}: stop it, or set {}", .dir.display(), .kind.variable)]
    InUse {
        /// Which one.
        kind: Kind,
        /// The folder.
        dir: PathBuf,
    },
    /// A server left by a program that was killed does not end.
    #[error("a {kind} left over in {} did not stop within 20 s", .dir.display())]
    LeftOver {
        /// Which one.
        kind: Kind,
        /// The folder.
        dir: PathBuf,
    },
    /// Started by root, without a user who may run it.
    #[error("private servers don't run as root, and there is neither a user postgres nor a user nobody")]
    NoUser,
    /// The folder for the socket belongs to someone else.
    #[error("{} must be a folder of this user that no one else can open; remove it", .0.display())]
    UnsafeFolder(PathBuf),
    /// A program failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// It runs, but does not answer.
    #[error("{kind} did not answer within {seconds} s; see {}", .log.display())]
    Silent {
        /// Which one.
        kind: Kind,
        /// How long we waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// It answers, but not as it should.
    #[error("the private PostgreSQL refuses")]
    Sql(#[from] sqlx::Error),
    /// The broker in this process's memory.
    #[error("the embedded broker: {0}")]
    Broker(String),
    /// The file system or the operating system refuses.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// The cause.
        source: io::Error,
    },
}

impl LocalError {
    /// A program ended that should not have, or not so, and this was in its log.
    #[must_use]
    pub fn ended(program: &'static str, status: Option<ExitStatus>, log: &str) -> Self {
        let lines: Vec<&str> = log.lines().collect();
        let output = lines[lines.len().saturating_sub(5)..].join(" | ");
        let status = status.map_or_else(|| "unknown end".to_owned(), |it| it.to_string());
        Self::Program { program, status, output }
    }
}

/// Says what was being done when the operating system refused.
trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, LocalError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, LocalError> {
        self.map_err(|source| LocalError::Io { doing: doing(), source })
    }
}
