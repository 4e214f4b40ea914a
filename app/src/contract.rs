//! `annuaire contract`: what other programs may rely on, as documents.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use command_api::Published;
use messaging::schemas;
use serde_json::json;

use crate::fatal::Fatal;
use crate::tools::print::print;

/// What other programs may rely on, as documents
#[derive(Debug, Subcommand)]
pub(crate) enum Contract {
    /// Print the HTTP interface as `OpenAPI` 3.1
    Openapi {
        /// Write it to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print what is sent to Kafka and Redis as `AsyncAPI` 3
    Asyncapi {
        /// Write it to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the JSON Schema of each message's type, in the version that is sent
    Schemas {
        /// Write them to files in this folder instead, unless one of them would break what is there
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

/// What is served of the messages.
pub(crate) fn published() -> Published {
    let schemas = schemas::published().into_iter();
    Published {
        asyncapi: schemas::text(&schemas::asyncapi()).into(),
        schemas: schemas.map(|(file, text)| (file, text.into())).collect(),
    }
}

/// Does what the command line asks. Needs no settings and no servers.
pub(crate) fn run(command: &Contract) -> Result<(), Fatal> {
    match command {
        Contract::Openapi { out } => {
            let text = command_api::openapi().to_pretty_json();
            let text = text.map_err(|e| Fatal::new("can't write the document", e))?;
            hand_over(&(text + "\n"), out.as_deref())
        }
        Contract::Asyncapi { out } => hand_over(&schemas::text(&schemas::asyncapi()), out.as_deref()),
        Contract::Schemas { out: Some(folder) } => {
            let written = schemas::write(folder)
                .map_err(|e| Fatal::new(format!("can't write the schemas to {}", folder.display()), e))?;
            let written = if written.is_empty() { "none has changed".to_owned() } else { written.join(", ") };
            print(&format!("Schemas: {written}\n")).map(drop)
        }
        Contract::Schemas { out: None } => print(&schemas::text(&json!(schemas::schemas()))).map(drop),
    }
}

fn hand_over(text: &str, out: Option<&Path>) -> Result<(), Fatal> {
    match out {
        None => print(text).map(drop),
        Some(file) => {
            fs::write(file, text).map_err(|e| Fatal::new(format!("can't write {}", file.display()), e))
        }
    }
}
