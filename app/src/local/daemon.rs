//! A server process with its lock and its log, and the one that a killed program left behind.
//!
//! The log stays locked for as long as any process can write to it. So the lock tells whether a
//! server still runs that an earlier program started, whatever the server calls itself.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::account::Account;
use super::folder::{lock, log_file, open, redirect};
use super::leftover::PATIENCE;
use super::process::{Process, pid};
use super::{Doing, Kind, LocalError};

const DROP: Duration = Duration::from_secs(10);

/// A server process in a folder of which it is the only one of its kind.
#[derive(Debug)]
pub struct Daemon {
    kind: Kind,
    dir: PathBuf,
    process: Option<Process>,
    /// How much of the log is not of this process.
    log_begins: u64,
    // Held until the server has ended; the operating system frees it if we are killed.
    _lock: File,
}

impl Daemon {
    /// Takes the folder, and waits for the end of a server that was left there.
    pub async fn claim(kind: Kind, dir: &Path) -> Result<Self, LocalError> {
        let dir = open(dir)?;
        let lock = lock(&dir, &format!("{}.lock", kind.file), kind)?;
        let daemon = Self { kind, dir, process: None, log_begins: 0, _lock: lock };
        daemon.lock_log().await?;
        Ok(daemon)
    }

    /// A command that runs as our own account and is sent SIGTERM if we are killed.
    #[must_use]
    pub fn command(program: &Path) -> Command {
        Account::Ours.command(program, Path::new("/"), "TERM")
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the process, with its output in the log; [`Daemon::answers`] tells when it can be used.
    pub async fn start(&mut self, mut command: Command) -> Result<(), LocalError> {
        let log = self.lock_log().await?;
        self.log_begins = log.metadata().doing(|| "can't read a log".to_owned())?.len();
        redirect(&mut command, &log)?;
        let file = self.file("pid");
        // Never the number of an earlier one while this one has the log.
        if file.exists() {
            std::fs::remove_file(&file).doing(|| format!("can't remove {}", file.display()))?;
        }
        let process = Process::start(self.kind.program, command).await?;
        let written = std::fs::write(&file, process.id().to_string());
        self.process = Some(process);
        written.doing(|| format!("can't write {}", file.display()))
    }

    /// Waits until it answers, asking again and again; an error if it ends instead.
    pub async fn answers(&self, patience: Duration, ask: impl AsyncFn() -> bool) -> Result<(), LocalError> {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if !self.runs() {
                let status = self.process.as_ref().and_then(Process::status);
                return Err(LocalError::ended(self.kind.program, status, &self.log()));
            }
            if tokio::time::timeout(Duration::from_secs(2), ask()).await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = self.file("log");
        Err(LocalError::Silent { kind: self.kind, seconds: patience.as_secs(), log })
    }

    /// Whether it was started and has not ended.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.status().is_none())
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Waits until it ends by itself.
    pub async fn ended(&self) -> Option<ExitStatus> {
        self.process.as_ref()?.ended().await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Asks it to end by a signal, and kills it where that has no effect in time.
    pub async fn halt(&mut self, signal: Signal, patience: Duration) {
        if let Some(process) = self.process.take() {
            process.stop_by(signal, patience).await;
        }
    }

    /// Kills it as a crash of the machine would, but for what the disk had not got yet.
    pub async fn kill(&mut self) {
        self.halt(Signal::KILL, DROP).await;
    }

    fn log(&self) -> String {
        let all = std::fs::read(self.file("log")).unwrap_or_default();
        let begins = usize::try_from(self.log_begins).unwrap_or_default();
        String::from_utf8_lossy(all.get(begins..).unwrap_or_default()).into_owned()
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.kind.file))
    }

    /// The log, once nobody else writes to it.
    async fn lock_log(&self) -> Result<File, LocalError> {
        let path = self.file("log");
        let log = log_file(&path, true)?;
        let begin = Instant::now();
        let mut told = false;
        loop {
            match log.try_lock() {
                Ok(()) => return Ok(log),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).doing(|| format!("can't lock {}", path.display()));
                }
            }
            if begin.elapsed() > PATIENCE {
                return Err(LocalError::LeftOver { kind: self.kind, dir: self.dir.clone() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            if !told {
                tracing::warn!("Waiting for a {} left over in {} to stop", self.kind, self.dir.display());
                self.stop_leftover();
                told = true;
            }
        }
    }

    fn stop_leftover(&self) {
        let id = std::fs::read_to_string(self.file("pid")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(id) = id.and_then(|id| pid(id).ok()) {
            // It may have ended just now.
            let _ = kill_process(id, Signal::TERM);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop_blocking(DROP);
        }
    }
}
