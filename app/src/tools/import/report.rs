//! What is said of an import: each line that was refused or is there with other values, and figures at the end.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

use command_api::import::{Kind, Outcome, Reason};
use serde_json::{Map, Value, json};

use super::Options;
use super::input::Source;
use crate::fatal::Fatal;
use crate::tools::print::{print, write};
use crate::tools::progress::Progress;

pub(super) struct Report<'a> {
    kind: Kind,
    options: &'a Options,
    refused: Option<BufWriter<File>>,
    progress: Progress,
    began: Instant,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    lines: u64,
    imported: u64,
    present: u64,
    different: u64,
    refused: u64,
}

impl<'a> Report<'a> {
    pub(super) fn begin(kind: Kind, options: &'a Options, source: &Source) -> Result<Self, Fatal> {
        let refused = match &options.refused {
            Some(path) => {
                let made = file_of_refused(path, source);
                Some(BufWriter::new(
                    made.map_err(|e| Fatal::new(format!("can't write {}", path.display()), e))?,
                ))
            }
            None => None,
        };
        let progress = Progress::of("lines", source.count.unwrap_or_default());
        Ok(Self { kind, options, refused, progress, began: Instant::now(), figures: Figures::default() })
    }

    /// What became of a line.
    pub(super) fn line(
        &mut self,
        number: u64,
        text: Option<&[u8]>,
        id: Option<&str>,
        outcome: &Outcome,
    ) -> Result<(), Fatal> {
        let figures = &mut self.figures;
        figures.lines += 1;
        let id = id.map_or_else(String::new, |id| format!(" {id}:"));
        match outcome {
            Outcome::Imported => figures.imported += 1,
            Outcome::Present => figures.present += 1,
            Outcome::Different(fields) => {
                figures.present += 1;
                figures.different += 1;
                let fields = fields.join(", ");
                self.progress.say(&format!("line {number}:{id} there already, with other values: {fields}"));
            }
            Outcome::Refused(reasons) => {
                figures.refused += 1;
                match &mut self.refused {
                    Some(file) => writeln!(file, "{}", to_be_mended(number, text, reasons))
                        .map_err(|e| Fatal::new("can't write the refused lines", e))?,
                    None => {
                        for Reason { field, message } in reasons {
                            self.progress.say(&format!("line {number}:{id} {field}: {message}"));
                        }
                    }
                }
            }
        }
        self.progress.at(i64::try_from(self.figures.lines).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The figures; a failure if a line was refused.
    pub(super) fn end(self) -> Result<(), Fatal> {
        let Self { kind, options, refused: file, progress, began, figures } = self;
        if let Some(mut file) = file {
            file.flush().map_err(|e| Fatal::new("can't write the refused lines", e))?;
        }
        progress.finish();
        let Figures { lines, imported, present, different, refused } = figures;
        let (seconds, is_trial) = (began.elapsed().as_secs_f64(), options.dry_run);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (lines as f64 / seconds.max(0.001)).round();
        let what = match kind {
            Kind::Users => "users",
            Kind::Customers => "customers",
            Kind::Balances => "balances",
        };
        if options.json {
            let answer = json!({
                "what": what, "dryRun": is_trial, "lines": lines, "imported": imported, "alreadyThere": present,
                "withOtherValues": different, "refused": refused, "seconds": seconds, "linesPerSecond": rate,
            });
            print(&format!("{answer:#}\n"))?;
        } else {
            let would = if is_trial { " would be" } else { "" };
            write(&format!(
                "{what}: {imported}{would} imported, {present} already there ({different} with other values), \
                 {refused} refused; {lines} lines in {seconds:.1} s, {rate} a second\n"
            ))?;
        }
        if refused == 0 {
            return Ok(());
        }
        let how = match &options.refused {
            Some(path) => format!("{} has them with their reasons: mend and import it", path.display()),
            None => "--refused writes them into a file, to be mended and imported".to_owned(),
        };
        Err(Fatal::new(format!("{refused} of {lines} lines were refused"), how))
    }
}

/// For its owner alone: it may hold hashes of passwords.
fn file_of_refused(path: &Path, source: &Source) -> std::io::Result<File> {
    let same = |other: &std::fs::Metadata| {
        source.file.as_ref().is_some_and(|file| (file.dev(), file.ino()) == (other.dev(), other.ino()))
    };
    if std::fs::metadata(path).is_ok_and(|other| same(&other)) {
        return Err(std::io::Error::other("that is the file to be imported"));
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // Also of one that was there: it gets hashes of passwords.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The line with what is wrong with it, under names that an import ignores.
fn to_be_mended(number: u64, text: Option<&[u8]>, reasons: &[Reason]) -> Value {
    let fields = text.map(serde_json::from_slice::<Map<String, Value>>);
    let mut mended = match (text, fields) {
        (_, Some(Ok(fields))) => fields,
        (Some(text), Some(Err(_))) => {
            Map::from_iter([("_text".to_owned(), String::from_utf8_lossy(text).into())])
        }
        (_, None) | (None, _) => Map::new(),
    };
    mended.insert("_line".to_owned(), number.into());
    mended.insert("_refused".to_owned(), json!(reasons));
    Value::Object(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_mended_is_the_line_with_its_reasons() {
        let reasons = [Reason { field: "nom", message: "champ obligatoire".to_owned() }];
        let told = json!([{ "field": "nom", "message": "champ obligatoire" }]);
        assert_eq!(
            to_be_mended(7, Some(br#"{"id":"u1"}"#), &reasons),
            json!({ "id": "u1", "_line": 7, "_refused": told })
        );
        assert_eq!(
            to_be_mended(8, Some(b"{,"), &reasons),
            json!({ "_text": "{,", "_line": 8, "_refused": told })
        );
        assert_eq!(to_be_mended(9, None, &reasons), json!({ "_line": 9, "_refused": told }));
    }
}
