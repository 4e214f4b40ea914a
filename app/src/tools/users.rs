//! `annuaire users`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use command_api::auth::Passwords;
use command_api::{Founded, Founder, NewAdministrator};
use domain::ids::Matricule;
use domain::password::Password;
use domain::values::Text;
use event_store::{Appender, Commands, EventStore, SystemClock, UuidV7};
use serde_json::json;

use super::Tools;
use super::print::print;
use crate::fatal::Fatal;

/// Users
#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Make an administrator: a new user, or one who is there
    ///
    /// The password is read from --password-file, or else from the first line of standard input; a user who
    /// has one keeps it. Done again it changes nothing.
    CreateAdmin(CreateAdmin),
}

#[derive(Debug, Args)]
pub(crate) struct CreateAdmin {
    /// The user's matricule
    #[arg(long, value_parser = |text: &str| Matricule::parse(text))]
    matricule: Matricule,
    /// The family name of a new user
    #[arg(long, default_value = "Administrateur", value_parser = |text: &str| Text::parse(text))]
    nom: Text,
    /// A file whose first line is the password, 12 to 256 characters
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does what the command line asks.
pub(crate) async fn run(tools: &Tools, command: &Users) -> Result<(), Fatal> {
    let Users::CreateAdmin(asked) = command;
    let failed = "can't make an administrator";
    let password = password(asked)?;
    let password =
        Password::parse(&password).map_err(|wrong| Fatal::new(failed, format!("the password: {wrong}")))?;
    let store: Arc<dyn EventStore> = Arc::new(tools.store().await?);
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let founder = Founder {
        users: Commands::new(store.clone(), appender.clone()),
        administrators: Commands::new(store.clone(), appender.clone()),
        access: Commands::new(store, appender),
        passwords: Passwords::new().map_err(|e| Fatal::new("can't hash passwords", e))?,
        pool: tools.pool.clone(),
    };
    let new = NewAdministrator { matricule: asked.matricule.clone(), nom: asked.nom.clone(), password };
    let Founded { id, had_password } =
        founder.found(&new, &UuidV7).await.map_err(|e| Fatal::new(failed, e))?;
    if asked.json {
        return print(&format!("{:#}\n", json!({ "id": id, "hadPassword": had_password }))).map(drop);
    }
    let password = if had_password { " (its password stays as it is)" } else { "" };
    print(&format!("{} is an administrator: {id}{password}\n", new.matricule.as_str())).map(drop)
}

fn password(asked: &CreateAdmin) -> Result<String, Fatal> {
    let mut text = String::new();
    let read = match &asked.password_file {
        Some(path) => std::fs::read_to_string(path).map(|file| text = file),
        None => std::io::stdin().read_line(&mut text).map(drop),
    };
    read.map_err(|e| Fatal::new("can't read the password", e))?;
    let password = text.lines().next().unwrap_or_default().trim_end_matches('\r').to_owned();
    if password.is_empty() {
        let how = "give it on standard input, or in the file of --password-file";
        return Err(Fatal::new("there is no password", how));
    }
    Ok(password)
}
