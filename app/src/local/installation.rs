//! Finds the `PostgreSQL` programs of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::LocalError;
use super::postgres::POSTGRES;

/// One installed version.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    folder: PathBuf,
}

impl Installation {
    /// The newest one, or the one that a data folder was made with.
    pub(super) fn find(data: &Path) -> Result<Self, LocalError> {
        let mut installed: BTreeMap<u32, PathBuf> = BTreeMap::new();
        for folder in candidates() {
            if let Some(version) = version(&folder) {
                installed.entry(version).or_insert(folder);
            }
        }
        let made_with = std::fs::read_to_string(data.join("PG_VERSION")).ok();
        let found = match made_with.as_ref().and_then(|text| text.trim().parse::<u32>().ok()) {
            Some(version) => installed
                .remove(&version)
                .ok_or_else(|| format!("{} was made with version {version}", data.display())),
            None => installed
                .pop_last()
                .map(|(_, folder)| folder)
                .ok_or_else(|| "no initdb and postgres in PATH or the usual folders".to_owned()),
        };
        found
            .map(|folder| Self { folder })
            .map_err(|looked_for| LocalError::NotInstalled { kind: POSTGRES, looked_for })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

// Distributions keep the server's programs out of PATH, each in its own way.
fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (parent, prefix, rest) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                folders.push(entry.path().join(rest));
            }
        }
    }
    folders
}

fn version(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

fn major(text: &str) -> Option<u32> {
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1), or 18beta1
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let digits = version.find(|it: char| !it.is_ascii_digit()).unwrap_or(version.len());
    version.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_major_version_is_read_from_every_form() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major("something else"), None);
    }
}
