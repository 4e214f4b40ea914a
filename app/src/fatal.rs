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
        let mut lines = format!("annuaire: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            lines.push_str("\n  caused by: ");
            lines.push_str(&error.to_string());
            cause = error.source();
        }
        lines
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
        assert_eq!(fatal.exit_code(), 1);
    }
}
