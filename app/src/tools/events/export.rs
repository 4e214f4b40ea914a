//! `annuaire events export`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::line::Secrets;
use super::{Export, head, read_after};
use crate::fatal::Fatal;
use crate::tools::Tools;
use crate::tools::print::{Written, write};
use crate::tools::progress::Progress;

/// Writes the events.
pub(super) async fn run(tools: &Tools, options: &Export) -> Result<(), Fatal> {
    let mut log = tools.log().await?;
    let head = head(&mut log).await?;
    let to = options.to.unwrap_or(head);
    for (option, position) in [("--after", options.after), ("--to", to)] {
        if position > head {
            let ends = format!("it ends at position {head}");
            return Err(Fatal::new(format!("{option} {position} is beyond the log"), ends));
        }
    }
    let mut target = Target::open(options.out.as_deref())?;
    let mut encrypted = 0;
    let progress = Progress::new(to - options.after);
    let mut after = options.after;
    while after < to {
        let events = read_after(&mut log, after).await?;
        let mut lines = String::new();
        let before = after;
        for event in events.iter().filter(|event| event.position <= to) {
            if event.position != after + 1 {
                let found = format!("position {} is missing", after + 1);
                return Err(Fatal::new("the event log is corrupt", found));
            }
            encrypted += i64::from(event.is_encrypted());
            lines.push_str(&event.json(Secrets::Shown));
            lines.push('\n');
            after = event.position;
        }
        if after == before {
            return Err(Fatal::new("the event log is corrupt", format!("position {} is missing", after + 1)));
        }
        if target.write(&lines)? == Written::NobodyReads {
            return Ok(());
        }
        progress.at(after - options.after);
    }
    if let Target::Whole(file) = target {
        file.finish()?;
    }
    progress.finish();
    if encrypted > 0 {
        tracing::warn!("{encrypted} events are encrypted: their data was not written");
    }
    Ok(())
}

enum Target {
    Stdout,
    /// Something that others read as it comes, such as a pipe.
    Straight(PathBuf, File),
    /// A file that appears when it is whole.
    Whole(Partial),
}

impl Target {
    fn open(file: Option<&Path>) -> Result<Self, Fatal> {
        let Some(file) = file else { return Ok(Self::Stdout) };
        if file.metadata().is_ok_and(|there| !there.is_file()) {
            let open = OpenOptions::new().write(true).open(file).map_err(|e| failed(file, e))?;
            return Ok(Self::Straight(file.to_owned(), open));
        }
        if file.is_symlink() {
            // It stays, and leads to the new file.
            let wanted = file.canonicalize().map_err(|e| failed(file, e))?;
            return Partial::create(&wanted).map(Self::Whole);
        }
        Partial::create(file).map(Self::Whole)
    }

    fn write(&mut self, lines: &str) -> Result<Written, Fatal> {
        match self {
            Self::Stdout => write(lines),
            Self::Straight(path, file) => match file.write_all(lines.as_bytes()) {
                Ok(()) => Ok(Written::Yes),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::NobodyReads),
                Err(error) => Err(failed(path, error)),
            },
            Self::Whole(file) => file.write(lines).map(|()| Written::Yes),
        }
    }
}

/// A file beside the one that was asked for; gone if it does not become whole.
struct Partial {
    path: PathBuf,
    wanted: PathBuf,
    file: File,
    finished: bool,
}

impl Partial {
    fn create(wanted: &Path) -> Result<Self, Fatal> {
        let mut name = wanted.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = wanted.with_file_name(name);
        // One that was killed may have left it, under the same number where numbers are few.
        let _ = std::fs::remove_file(&path);
        // Events name people: nobody else may read it.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| failed(&path, e))?;
        Ok(Self { path, wanted: wanted.to_owned(), file, finished: false })
    }

    fn write(&mut self, lines: &str) -> Result<(), Fatal> {
        self.file.write_all(lines.as_bytes()).map_err(|e| failed(&self.path, e))
    }

    fn finish(mut self) -> Result<(), Fatal> {
        let whole = || {
            self.file.sync_all()?;
            std::fs::rename(&self.path, &self.wanted)
        };
        whole().map_err(|e| failed(&self.wanted, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            // What remains of it is of no use, and nobody can be told here.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed(file: &Path, error: std::io::Error) -> Fatal {
    Fatal::new(format!("can't write {}", file.display()), error)
}
