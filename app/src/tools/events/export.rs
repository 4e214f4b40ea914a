//! `annuaire events export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Export, head, read_after};
use crate::fatal::Fatal;
use crate::tools::Tools;
use crate::tools::print::{Written, write};
use crate::tools::progress::Progress;

/// Writes the events.
pub(super) async fn run(tools: &Tools, options: &Export) -> Result<(), Fatal> {
    let mut log = tools.log().await?;
    let head = head(&mut log).await?;
    let to = options.to.map_or(head, |to| to.min(head));
    let mut target = match &options.out {
        None => Target::Stdout,
        Some(file) => Target::File(Partial::create(file)?),
    };
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
            lines.push_str(&event.json());
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
    if let Target::File(file) = target {
        file.finish()?;
    }
    progress.finish();
    Ok(())
}

enum Target {
    Stdout,
    File(Partial),
}

impl Target {
    fn write(&mut self, lines: &str) -> Result<Written, Fatal> {
        match self {
            Self::Stdout => write(lines),
            Self::File(file) => file.write(lines).map(|()| Written::Yes),
        }
    }
}

/// A file beside the one that was asked for; gone if it does not become whole.
struct Partial {
    path: PathBuf,
    wanted: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl Partial {
    fn create(wanted: &Path) -> Result<Self, Fatal> {
        let mut name = wanted.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = wanted.with_file_name(name);
        let file = File::create(&path).map_err(|e| failed(&path, e))?;
        Ok(Self { path, wanted: wanted.to_owned(), file: BufWriter::new(file), finished: false })
    }

    fn write(&mut self, lines: &str) -> Result<(), Fatal> {
        self.file.write_all(lines.as_bytes()).map_err(|e| failed(&self.path, e))
    }

    fn finish(mut self) -> Result<(), Fatal> {
        let mut whole = || {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
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
