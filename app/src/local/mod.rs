//! Private servers for development and tests: processes of our own that live in one folder and
//! end with the program.

mod account;
mod installation;
mod leftover;
mod postgres;
mod process;

use std::io;
use std::path::PathBuf;

pub use self::postgres::{Options, Postgres};
pub use self::process::{exit_code, terminate};

/// Why a private server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No program to start.
    #[error(
        "PostgreSQL is not installed ({looked_for}). Debian, Ubuntu: apt-get install postgresql. \
         Fedora, RHEL: dnf install postgresql-server. macOS: brew install postgresql. \
         Alpine: apk add postgresql. Or set DATABASE_URL to a server that runs already"
    )]
    NotInstalled {
        /// What was looked for in vain.
        looked_for: String,
    },
    /// Another process of ours has the folder.
    #[error("another annuaire uses {}: stop it, or set DATABASE_URL", .0.display())]
    InUse(PathBuf),
    /// A server left by a program that was killed does not end.
    #[error("a PostgreSQL left over in {} did not stop within 20 s", .0.display())]
    LeftOver(PathBuf),
    /// Started by root, without a user who may run it.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody to run it as"
    )]
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
    #[error("PostgreSQL did not answer within {seconds} s; see {}", .log.display())]
    Silent {
        /// How long we waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// It answers, but not as it should.
    #[error("the private PostgreSQL refuses")]
    Sql(#[from] sqlx::Error),
    /// The file system or the operating system refuses.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// The cause.
        source: io::Error,
    },
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
