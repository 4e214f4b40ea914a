//! Reads settings one by one, keeping what is wrong so that all of it is told at once.

use std::collections::BTreeSet;
use std::fmt;

use super::effective::Effective;
use super::secret_url;
use super::settings::{Kind, Setting};
use super::sources::{Origin, Sources};

/// One value that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// Its value, masked if secret.
    pub value: String,
    /// What would be accepted.
    pub accepted: String,
}

impl Problem {
    pub(super) fn new(name: &str, value: &str, accepted: &str) -> Self {
        Self { name: name.to_owned(), value: value.to_owned(), accepted: accepted.to_owned() }
    }
}

/// Every value that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// In the order of the table of settings, as far as they were read.
    pub problems: Vec<Problem>,
}

impl From<Problem> for Invalid {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong configuration")?;
        for Problem { name, value, accepted } in &self.problems {
            write!(f, "\n  {name}={value}\n      accepted: {accepted}")?;
        }
        Ok(())
    }
}

pub(super) struct Reader<'a> {
    sources: &'a Sources,
    pub(super) effective: Vec<Effective>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self { sources, effective: Vec::new(), problems: Vec::new() }
    }

    /// A setting that always has a value. `None` only after a problem was noted.
    pub(super) fn value<T>(
        &mut self,
        setting: &Setting<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.value_or(setting, setting.default, parse)
    }

    /// The same, where the default depends on other settings.
    pub(super) fn value_or<T>(
        &mut self,
        setting: &Setting<'_>,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.find(setting, default) {
            Some(value) => self.parse(setting, &value, parse),
            None => self.parse(setting, default, parse),
        }
    }

    /// A setting that may be absent: then its default is only words.
    pub(super) fn optional<T>(
        &mut self,
        setting: &Setting<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.find(setting, setting.default)?;
        self.parse(setting, &value, parse)
    }

    /// The variables of a family of settings, empty ones too.
    pub(super) fn names(&self, prefix: &str) -> BTreeSet<String> {
        self.sources.names(prefix)
    }

    /// Shows a default as what it comes to, given the other settings.
    pub(super) fn show_default(&mut self, setting: &Setting<'_>, value: &str) {
        for effective in &mut self.effective {
            if effective.setting == setting.name && effective.origin == Origin::Default {
                value.clone_into(&mut effective.value);
            }
        }
    }

    /// Notes that a value can't be used, though it has the right form.
    pub(super) fn refuse(&mut self, setting: &Setting<'_>, accepted: &str) {
        let value =
            self.effective.iter().rev().find(|effective| effective.setting == setting.name).map_or_else(
                String::new,
                |effective| match effective.origin {
                    Origin::Default => format!("{} (the default here)", effective.value),
                    _ => effective.value.clone(),
                },
            );
        self.problems.push(Problem::new(setting.name, &value, accepted));
    }

    fn find(&mut self, setting: &Setting<'_>, default: &str) -> Option<String> {
        let given = self.sources.find(setting).unwrap_or_else(|problem| {
            self.problems.push(problem);
            None
        });
        let (value, origin) = match &given {
            Some(given) => (mask(setting, &given.value), given.origin),
            None => (default.to_owned(), Origin::Default),
        };
        self.effective.push(Effective { setting: setting.name.to_owned(), value, origin });
        given.map(|given| given.value)
    }

    fn parse<T>(
        &mut self,
        setting: &Setting<'_>,
        value: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(value) {
            Ok(value) => Some(value),
            Err(accepted) => {
                let value = mask(setting, value);
                self.problems.push(Problem::new(setting.name, &value, &accepted));
                None
            }
        }
    }
}

fn mask(setting: &Setting<'_>, value: &str) -> String {
    match setting.kind {
        Kind::Plain => value.to_owned(),
        Kind::Secret => secret_url::MASK.to_owned(),
        Kind::Url => secret_url::masked(value),
    }
}
