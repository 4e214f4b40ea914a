//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::config::settings::{self, ROLES};
use crate::config::{Config, Sources, effective};
use crate::contract::{self, Contract};
use crate::fatal::Fatal;
use crate::tools::dlq::{self, Dlq};
use crate::tools::doctor;
use crate::tools::events::{self, Events};
use crate::tools::import::{self, Import};
use crate::tools::outbox::{self, Outbox};
use crate::tools::print::print;
use crate::tools::projections::{self, Projections};
use crate::tools::tokens::{self, Tokens};
use crate::tools::users::{self, Users};
use crate::tools::{Absent, Tools};
use crate::{migrate, serve, telemetry, tools, topics};

/// An event-sourced directory of users.
#[derive(Debug, Parser)]
#[command(name = "annuaire", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve HTTP, keep the read models up to date, tell others what happened
    #[command(after_help = settings::help())]
    Serve(Serve),
    /// Bring the database's schema up to date, then end
    Migrate,
    /// The Kafka topics of this log
    #[command(subcommand)]
    Topics(Topics),
    /// The events of the log, as they are stored
    #[command(subcommand)]
    Events(Events),
    /// What others are told: the Redis stream, the Kafka topics, the profile cache
    #[command(subcommand)]
    Outbox(Outbox),
    /// What other services said and could not be carried out
    #[command(subcommand)]
    Dlq(Dlq),
    /// Look at PostgreSQL, Redis, Kafka and the mail server, and say what to do; ends with 1 if there is a problem
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The read models: how far they are, whether they are right, and made again
    #[command(subcommand)]
    Projections(Projections),
    /// Users
    #[command(subcommand)]
    Users(Users),
    /// Take in what another service has kept: users, customers, balances of tokens
    #[command(subcommand)]
    Import(Import),
    /// Access tokens of services
    #[command(subcommand)]
    Tokens(Tokens),
    /// What other programs may rely on, as documents
    #[command(subcommand)]
    Contract(Contract),
    /// Print the effective settings and where each comes from, secrets masked
    Config {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Topics {
    /// Make the topics that this log needs and does not know yet
    ///
    /// A topic that was deleted, or deleted and made again, stops what sends to it, and this command
    /// refuses it. With --accept-loss it is made, and taken as it is: what sends to it goes on with
    /// what comes next, and what the topic had lost is not sent again.
    Apply {
        /// Take the topics as they are now, without what they lost
        #[arg(long)]
        accept_loss: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// What this process does, comma-separated: api, projections, outbox, inbound (default: everything; wins over ROLES)
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
}

impl Cli {
    /// Does what the command line asks.
    pub async fn run(self) -> Result<(), Fatal> {
        match self.command {
            Command::Serve(Serve { roles }) => {
                let mut sources = Sources::from_process()?;
                if let Some(roles) = roles {
                    sources.command_line(&ROLES, roles);
                }
                serve::run(start(&sources)?).await
            }
            Command::Migrate => migrate::run(start(&Sources::from_process()?)?).await,
            Command::Topics(Topics::Apply { accept_loss, json }) => {
                topics::apply(start(&Sources::from_process()?)?, accept_loss, json).await
            }
            Command::Events(command) => look(async |tools| events::run(tools, &command).await).await,
            Command::Outbox(command) => look(async |tools| outbox::run(tools, &command).await).await,
            Command::Doctor { json } => look(async |tools| doctor::run(tools, json).await).await,
            Command::Projections(command) => {
                look(async |tools| projections::run(tools, &command).await).await
            }
            Command::Users(command) => look(async |tools| users::run(tools, &command).await).await,
            Command::Dlq(command) => look(async |tools| dlq::run(tools, &command).await).await,
            Command::Import(command) => look(async |tools| import::run(tools, &command).await).await,
            Command::Tokens(command) => look(async |tools| tokens::run(tools, &command).await).await,
            Command::Contract(command) => contract::run(&command),
            Command::Config { json } => print(&config_text(json)?).map(drop),
        }
    }
}

fn start(sources: &Sources) -> Result<Config, Fatal> {
    // Before anything can be wrong with another setting.
    telemetry::choose(Config::log_format(sources));
    let config = Config::from_sources(sources)?;
    telemetry::init(&config.log);
    Ok(config)
}

/// Does what looks at a system, running or not.
async fn look(command: impl AsyncFnOnce(&Tools) -> Result<(), Fatal>) -> Result<(), Fatal> {
    tools::run(start(&Sources::from_process()?)?, Absent::Refuse, command).await
}

fn config_text(json: bool) -> Result<String, Fatal> {
    let sources = Sources::from_process()?;
    telemetry::choose(Config::log_format(&sources));
    let config = Config::from_sources(&sources)?;
    Ok(if json { effective::json(&config) } else { effective::text(&config) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_serve_names_every_setting() {
        let help = Cli::command()
            .find_subcommand_mut("serve")
            .expect("the command exists")
            .render_long_help()
            .to_string();
        for setting in settings::ALL {
            assert!(help.contains(setting.name), "{} is missing", setting.name);
        }
    }
}
