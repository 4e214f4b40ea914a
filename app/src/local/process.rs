//! A child process, kept by a thread of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::{Doing, LocalError};

/// A child process that runs or has run.
#[derive(Debug)]
pub(super) struct Process {
    id: Pid,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts it. The signal that the kernel sends to orphans comes when the thread that started
    /// them ends, and threads of a runtime come and go: hence one that does nothing but wait.
    pub(super) async fn start(name: &'static str, mut command: Command) -> Result<Self, LocalError> {
        let (started, start) = tokio::sync::oneshot::channel();
        let (ended, status) = watch::channel(None);
        let keep = move || {
            let spawned = command.spawn();
            // With it go our copies of what the child writes to.
            drop(command);
            match spawned {
                Err(error) => drop(started.send(Err(error))),
                Ok(mut child) => {
                    let _ = started.send(Ok(child.id()));
                    // `wait` fails only for a child that isn't ours.
                    ended.send_replace(child.wait().ok());
                }
            }
        };
        let doing = || format!("can't start {name}");
        thread::Builder::new().name(name.to_owned()).spawn(keep).doing(doing)?;
        let id = start.await.map_err(io::Error::other).and_then(|it| it).and_then(pid).doing(doing)?;
        Ok(Self { id, status })
    }

    pub(super) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn status(&self) -> Option<ExitStatus> {
        *self.status.borrow()
    }

    pub(super) fn signal(&self, signal: Signal) {
        if self.status().is_none() {
            // It may have ended just now, which is what every signal of ours is for.
            let _ = kill_process(self.id, signal);
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> Option<ExitStatus> {
        let mut status = self.status.clone();
        // An error means that the thread is gone, and so is the child.
        status.wait_for(Option::is_some).await.ok().and_then(|it| *it)
    }

    /// Sends SIGINT, and SIGKILL where that has no effect in time.
    pub(super) async fn stop(&self, patience: Duration) {
        self.stop_by(Signal::INT, patience).await;
    }

    /// The same with another signal.
    pub(super) async fn stop_by(&self, signal: Signal, patience: Duration) {
        self.signal(signal);
        if tokio::time::timeout(patience, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// The same for places that can't await.
    pub(super) fn stop_blocking(&self, patience: Duration) {
        self.signal(Signal::INT);
        let begin = Instant::now();
        while self.status().is_none() && self.status.has_changed().is_ok() {
            if begin.elapsed() > patience {
                return self.signal(Signal::KILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks a process to end (SIGTERM).
pub fn terminate(id: u32) -> io::Result<()> {
    Ok(kill_process(pid(id)?, Signal::TERM)?)
}

/// The code with which a shell would report this end: 128 + n for signal n.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

pub(super) fn pid(id: u32) -> io::Result<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}
