//! Where values come from, the first that names a setting winning: the command line, the
//! environment, the `.env` file.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use super::reader::{Invalid, Problem};
use super::settings::Setting;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nothing set it.
    Default,
    /// An option of the command.
    CommandLine,
    /// The environment.
    Environment,
    /// The `.env` file.
    DotEnv,
    /// The file that `<NAME>_FILE` names.
    File,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::CommandLine => "command line",
            Self::Environment => "environment",
            Self::DotEnv => ".env",
            Self::File => "file",
        })
    }
}

/// A value that was given, and by what.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Everything that was set, by origin.
#[derive(Debug, Default)]
pub struct Sources {
    layers: Vec<(Origin, HashMap<String, String>)>,
}

impl Sources {
    /// The environment of this process and the `.env` file of its working folder.
    pub fn from_process() -> Result<Self, Invalid> {
        // Variables that aren't UTF-8 can't be ours to read; `vars` would panic on them.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::default().layer(Origin::Environment, environment).dot_env(Path::new(".env"))
    }

    /// Variables as if they came from the environment.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::default().layer(Origin::Environment, vars)
    }

    /// Sets one setting above all else.
    pub fn command_line(&mut self, setting: &Setting<'_>, value: String) {
        let options = HashMap::from([(setting.name.to_owned(), value)]);
        self.layers.insert(0, (Origin::CommandLine, options));
    }

    fn layer(mut self, origin: Origin, vars: impl IntoIterator<Item = (String, String)>) -> Self {
        self.layers.push((origin, vars.into_iter().collect()));
        self
    }

    pub(super) fn dot_env(self, path: &Path) -> Result<Self, Invalid> {
        let mut last = "the start".to_owned();
        let lines = match dotenvy::from_path_iter(path) {
            Ok(lines) => lines,
            Err(error) if error.not_found() => return Ok(self),
            Err(error) => {
                return Err(Problem::new(".env", &error.to_string(), "a file that can be read").into());
            }
        };
        let mut vars = Vec::new();
        for line in lines {
            // The line itself may hold a secret: name the one before it instead.
            let Ok((name, value)) = line else {
                let place = format!("the line after {last}");
                return Err(Problem::new(
                    ".env",
                    &place,
                    "NAME=value, or NAME='value' where it holds spaces, quotes or $",
                )
                .into());
            };
            last.clone_from(&name);
            vars.push((name, value));
        }
        Ok(self.layer(Origin::DotEnv, vars))
    }

    /// The variables whose names begin so, empty ones too.
    pub(super) fn names(&self, prefix: &str) -> BTreeSet<String> {
        let names = self.layers.iter().flat_map(|(_, vars)| vars.keys());
        names.filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// The value given for a setting. An empty one counts as not set, and hides what a lower
    /// layer says, so that the environment can switch off a line of `.env`.
    pub(super) fn find(&self, setting: &Setting<'_>) -> Result<Option<Given>, Problem> {
        for (origin, vars) in &self.layers {
            let file_variable = setting.file_variable();
            let direct =
                [Some(setting.name), setting.alias].into_iter().flatten().find_map(|name| vars.get(name));
            let file = file_variable.as_ref().and_then(|name| vars.get(name));
            let set = |value: &&String| !value.is_empty();
            match (direct.filter(set), file.filter(set)) {
                (Some(_), Some(path)) => {
                    let name = file_variable.unwrap_or_default();
                    return Err(Problem::new(
                        &name,
                        path,
                        &format!("unset, since {} is set too", setting.name),
                    ));
                }
                (Some(value), None) => {
                    return Ok(Some(Given { value: value.clone(), origin: *origin }));
                }
                (None, Some(path)) => return read(&file_variable.unwrap_or_default(), path),
                (None, None) if direct.is_some() || file.is_some() => return Ok(None),
                (None, None) => {}
            }
        }
        Ok(None)
    }
}

fn read(variable: &str, path: &str) -> Result<Option<Given>, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem::new(variable, path, &format!("a file that can be read ({error})")))?;
    // Editors and `echo` end a file with a newline that is no part of the secret.
    let value = text.trim_end_matches(['\r', '\n']).to_owned();
    if value.is_empty() {
        return Err(Problem::new(variable, path, "a file that isn't empty"));
    }
    Ok(Some(Given { value, origin: Origin::File }))
}
