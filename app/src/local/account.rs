//! Whom a private server runs as. `PostgreSQL` refuses root, so for root it is someone else; what
//! listens on a port is better not root either.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{Doing, LocalError};

// The one of util-linux; BusyBox has a smaller one under the same name.
static SETPRIV: LazyLock<bool> = LazyLock::new(|| {
    Command::new("setpriv").arg("--help").stderr(Stdio::null()).output().is_ok_and(|output| {
        let help = String::from_utf8_lossy(&output.stdout);
        help.contains("--pdeathsig") && help.contains("--ambient-caps")
    })
});

/// An account of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The one that runs this program.
    Ours,
    /// An unprivileged one that this program, run by root, changes to.
    Other { uid: u32, gid: u32 },
}

impl Account {
    pub(super) fn for_servers() -> Result<Self, LocalError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ours);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some(Self::Other { uid: id("-u", name)?, gid: id("-g", name)? }))
            .ok_or(LocalError::NoUser)
    }

    /// The user's number.
    pub(super) fn uid(self) -> u32 {
        match self {
            Self::Ours => rustix::process::geteuid().as_raw(),
            Self::Other { uid, .. } => uid,
        }
    }

    /// Gives it a folder.
    pub(super) fn own(self, folder: &Path) -> Result<(), LocalError> {
        match self {
            Self::Ours => Ok(()),
            Self::Other { uid, gid } => {
                chown(folder, Some(uid), Some(gid)).doing(|| format!("can't give away {}", folder.display()))
            }
        }
    }

    /// A command that runs as this account, inside `folder`, and is sent a signal, such as INT, if we are
    /// killed.
    ///
    /// The signal comes when the *thread* that started the command ends, so that thread must wait
    /// for it: see `process`.
    pub(super) fn command(self, program: &Path, folder: &Path, orphaned: &str) -> Command {
        let mut command = if *SETPRIV {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", orphaned]);
            if let Self::Other { uid, gid } = self {
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]).arg("--init-groups");
                if !self.reaches(folder) {
                    // Below a folder of root's alone: may pass it, and nothing else that root may.
                    command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
                }
            }
            command.arg(program);
            command
        } else {
            let mut command = Command::new(program);
            if let Self::Other { uid, gid } = self {
                command.uid(uid).gid(gid);
            }
            command
        };
        // A variable such as PGPORT or PGDATA would be taken for a setting of this server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Ctrl-C in a terminal reaches the whole group: the server must outlive our last query.
        command.process_group(0).current_dir("/").stdin(Stdio::null());
        command
    }

    fn reaches(self, folder: &Path) -> bool {
        let Self::Other { uid, gid } = self else {
            return true;
        };
        folder.ancestors().skip(1).all(|parent| {
            parent.metadata().is_ok_and(|it| {
                let mode = it.mode();
                match () {
                    () if it.uid() == uid => mode & 0o100 != 0,
                    () if it.gid() == gid => mode & 0o010 != 0,
                    () => mode & 0o001 != 0,
                }
            })
        })
    }
}

fn id(what: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([what, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
