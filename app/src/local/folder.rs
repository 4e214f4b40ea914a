//! The folder in which private servers live: its locks, logs and subfolders.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::{Doing, Kind, LocalError};

/// Makes it if it is not there; its path without symbolic links.
pub(super) fn open(dir: &Path) -> Result<PathBuf, LocalError> {
    std::fs::create_dir_all(dir).doing(|| format!("can't make {}", dir.display()))?;
    dir.canonicalize().doing(|| format!("can't open {}", dir.display()))
}

/// Keeps other programs of ours away for as long as the file is open.
pub(super) fn lock(dir: &Path, name: &str, kind: Kind) -> Result<File, LocalError> {
    let path = dir.join(name);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .doing(|| format!("can't write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LocalError::InUse { kind, dir: dir.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(error).doing(|| format!("can't lock {}", path.display())),
    }
}

/// Makes a folder that only this account can open.
pub(super) fn make_private(folder: &Path, account: Account) -> Result<(), LocalError> {
    DirBuilder::new().mode(0o700).create(folder).doing(|| format!("can't make {}", folder.display()))?;
    account.own(folder)
}

pub(super) fn log_file(path: &Path, append: bool) -> Result<File, LocalError> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    options.open(path).doing(|| format!("can't write {}", path.display()))
}

/// Has a command print to a log.
pub(super) fn redirect(command: &mut Command, log: &File) -> Result<(), LocalError> {
    let copy = || log.try_clone().doing(|| "can't write a log".to_owned());
    command.stdout(copy()?).stderr(copy()?);
    Ok(())
}
