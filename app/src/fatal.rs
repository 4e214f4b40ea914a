//! Why the program ends early, and with which exit code.

use std::error::Error;

use crate::config;

/// The reason for an early end; printed once, by `main`.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The configuration can't be used.
    #[error(transparent)]
    Configuration(#[from] config::Invalid),
    /// Anything else that can't be recovered from.
    #[error("{context}")]
    Failed {
        /// What was being done, as a sentence without the cause.
        context: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Fatal {
    /// What was being done, and why it failed.
    pub fn new(context: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { context: context.into(), source: source.into() }
    }

    /// 2 for a wrong configuration, 1 for anything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Failed { .. } => 1,
        }
    }

    /// The message, then its causes, one a line.
    #[must_use]
    pub fn report(&self) -> String {
        format!("annuaire: {}", self.with_causes("\n  caused by: "))
    }

    /// The message and its causes.
    #[must_use]
    pub fn one_line(&self) -> String {
        self.with_causes(": ")
    }

    fn with_causes(&self, between: &str) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(between);
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_every_cause_once() {
        let disk = std::io::Error::other("disk is full");
        let fatal = Fatal::new("can't migrate", Fatal::new("can't write", disk));
        assert_eq!(
            fatal.report(),
            "annuaire: can't migrate\n  caused by: can't write\n  caused by: disk is full"
        );
        assert_eq!(fatal.one_line(), "can't migrate: can't write: disk is full");
        assert_eq!(fatal.exit_code(), 1);
    }
}
