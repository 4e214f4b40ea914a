//! Users as HTTP answers them: one row for each that lives.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::user::{Changes, Event, Profile, RoleAssigned, RoleRemoved, StatusChanged, User};
use domain::values::{Patch, RoleName};
use event_store::{Loaded, StoredEvent};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::rebuild::Bulk;
use crate::sessions;
use crate::table::{ApplyError, Projection, decoded, payloads};

mod bulk;
mod queries;
#[cfg(test)]
mod tests;

pub use queries::{Filter, Finder, administrators, count, find_by_matricule, find_many, page};
pub(crate) use queries::{position, rows_and_position, rows_behind, rows_under};

/// The projection.
pub struct Users;

/// A user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields of `domain::user::Profile`")]
pub struct UserRow {
    pub id: String,
    pub matricule: Option<String>,
    pub nom: String,
    pub prenom: Option<String>,
    pub ministere: Option<String>,
    pub avatar: Option<String>,
    pub sexe: Option<String>,
    pub email: Option<String>,
    pub username: Option<String>,
    pub telephone: Option<String>,
    pub preferences: Option<serde_json::Value>,
    pub status: String,
    pub roles: Vec<String>,
    pub email_verified: bool,
    pub mfa_enabled: bool,
    pub user_type: Option<String>,
    pub customer_id: Option<String>,
    pub is_company_owner: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// The version of the user's stream.
    pub version: i32,
}

impl UserRow {
    /// The row of a user as the log has it; nothing of one who does not live.
    #[must_use]
    pub fn of_user(user: &Loaded<User>) -> Option<Self> {
        let User::Living(profile) = &*user.state else { return None };
        Some(Self::of(profile, user.version, user.created_at?, user.updated_at?))
    }

    /// The row of a user with this profile.
    #[must_use]
    pub fn of(profile: &Profile, version: i32, created_at: DateTime<Utc>, updated_at: DateTime<Utc>) -> Self {
        let Profile {
            id,
            matricule,
            nom,
            prenom,
            ministere,
            avatar,
            sexe,
            email,
            username,
            telephone,
            preferences,
            customer_id,
            user_type,
            is_company_owner,
            status,
            email_verified,
            mfa_enabled,
            roles,
            // Nobody looks for users by these.
            addresses: _,
            devices: _,
            verifications: _,
            email_changes: _,
            is_registering: _,
        } = profile;
        Self {
            id: id.as_str().to_owned(),
            matricule: matricule.as_ref().map(|v| v.as_str().to_owned()),
            nom: nom.as_str().to_owned(),
            prenom: prenom.as_ref().map(|v| v.as_str().to_owned()),
            ministere: ministere.as_ref().map(|v| v.as_str().to_owned()),
            avatar: avatar.as_ref().map(|v| v.as_str().to_owned()),
            sexe: sexe.map(|v| v.as_str().to_owned()),
            email: email.as_ref().map(|v| v.as_str().to_owned()),
            username: username.as_ref().map(|v| v.as_str().to_owned()),
            telephone: telephone.as_ref().map(|v| v.as_str().to_owned()),
            preferences: preferences.as_ref().map(|v| v.as_map().clone().into()),
            status: status.as_str().to_owned(),
            roles: roles.iter().map(stored).collect(),
            email_verified: *email_verified,
            mfa_enabled: *mfa_enabled,
            user_type: user_type.map(|v| v.as_str().to_owned()),
            customer_id: customer_id.as_ref().map(|v| v.as_str().to_owned()),
            is_company_owner: *is_company_owner,
            created_at,
            updated_at,
            version,
        }
    }
}

#[async_trait]
impl Projection for Users {
    const NAME: &'static str = "users_v1";
    const TABLES: &'static [&'static str] = &["users_v1"];

    async fn apply(connection: &mut PgConnection, events: &[StoredEvent]) -> Result<(), ApplyError> {
        let payloads = payloads::<User>(events)?;
        if payloads.is_empty() {
            // Logins alone, or a password that was changed: no row is another.
            return Ok(());
        }
        let ids: Vec<String> = payloads.iter().map(|(event, _)| event.stream.id().to_owned()).collect();
        let mut rows: HashMap<&str, Option<UserRow>> = HashMap::new();
        let existing = rows_of(connection, &ids).await?;
        for row in &existing {
            rows.insert(&row.id, Some(row.clone()));
        }
        for (event, payload) in &payloads {
            let row = rows.entry(event.stream.id()).or_default();
            let stays = row.as_mut().map(|row| changed(row, event, payload));
            match stays {
                None => *row = created(event, payload),
                Some(true) => {}
                Some(false) => *row = None,
            }
        }
        let gone: Vec<String> =
            rows.iter().filter(|(_, row)| row.is_none()).map(|(id, _)| (*id).to_owned()).collect();
        if !gone.is_empty() {
            sqlx::query!("DELETE FROM users_v1 WHERE id = ANY($1)", &gone).execute(&mut *connection).await?;
        }
        let rows: Vec<UserRow> = rows.into_values().flatten().collect();
        put(connection, &rows).await?;
        Ok(())
    }

    async fn beside(connection: &mut PgConnection, events: &[StoredEvent]) -> Result<(), ApplyError> {
        sessions::follow(connection, &decoded::<User>(events)?, events).await
    }

    fn bulk() -> Option<Box<dyn Bulk>> {
        Some(Box::<bulk::Rows>::default())
    }
}

/// What an event makes of a user who has no row.
fn created(event: &StoredEvent, payload: &Event) -> Option<UserRow> {
    match payload {
        Event::Created(_) | Event::Registered(_) => match User::default().evolve(payload) {
            User::Living(profile) => {
                Some(UserRow::of(&profile, event.version, event.recorded_at, event.recorded_at))
            }
            User::Unregistered | User::Deleted { .. } => None,
        },
        Event::Changed(_)
        | Event::StatusChanged(_)
        | Event::RoleAssigned(_)
        | Event::RoleRemoved(_)
        | Event::AddressAdded(_)
        | Event::AddressUpdated(_)
        | Event::AddressDeleted(_)
        | Event::VerificationRequested(_)
        | Event::EmailVerified(_)
        | Event::MfaEnabled(_)
        | Event::MfaDisabled(_)
        | Event::DeviceRegistered(_)
        | Event::AdministratorConfirmed(_)
        | Event::Deleted(_) => None,
    }
}

/// Does to a user's row what an event says; whether there still is one then.
fn changed(row: &mut UserRow, event: &StoredEvent, payload: &Event) -> bool {
    if event.version <= row.version {
        return true;
    }
    row.version = event.version;
    row.updated_at = event.recorded_at;
    match payload {
        Event::Created(_)
        | Event::Registered(_)
        | Event::AddressAdded(_)
        | Event::AddressUpdated(_)
        | Event::AddressDeleted(_)
        | Event::VerificationRequested(_)
        | Event::DeviceRegistered(_)
        | Event::AdministratorConfirmed(_) => {}
        Event::EmailVerified(_) => row.email_verified = true,
        Event::MfaEnabled(_) => row.mfa_enabled = true,
        Event::MfaDisabled(_) => row.mfa_enabled = false,
        Event::Changed(changes) => row.change(changes),
        Event::StatusChanged(StatusChanged { status, .. }) => status.as_str().clone_into(&mut row.status),
        Event::RoleAssigned(RoleAssigned { role }) => {
            // In the order of a set, which is what the fold has.
            if let Err(place) = row.roles.binary_search_by(|one| one.as_str().cmp(role.as_str())) {
                row.roles.insert(place, stored(role));
            }
        }
        Event::RoleRemoved(RoleRemoved { role }) => row.roles.retain(|one| one != role.as_str()),
        Event::Deleted(_) => return false,
    }
    true
}

fn stored(role: &RoleName) -> String {
    role.as_str().to_owned()
}

impl UserRow {
    fn change(&mut self, changes: &Changes) {
        let Changes {
            matricule,
            nom,
            prenom,
            ministere,
            avatar,
            sexe,
            email,
            username,
            telephone,
            preferences,
            user_type,
            is_company_owner,
        } = changes;
        if let Some(matricule) = matricule {
            self.matricule = Some(matricule.as_str().to_owned());
        }
        if let Some(nom) = nom {
            nom.as_str().clone_into(&mut self.nom);
        }
        if let Some(is_company_owner) = is_company_owner {
            self.is_company_owner = *is_company_owner;
        }
        // Whoever gets a new address has yet to prove it.
        self.email_verified &= email.is_keep();
        patch(&mut self.prenom, prenom, |v| v.as_str().to_owned());
        patch(&mut self.ministere, ministere, |v| v.as_str().to_owned());
        patch(&mut self.avatar, avatar, |v| v.as_str().to_owned());
        patch(&mut self.sexe, sexe, |v| v.as_str().to_owned());
        patch(&mut self.email, email, |v| v.as_str().to_owned());
        patch(&mut self.username, username, |v| v.as_str().to_owned());
        patch(&mut self.telephone, telephone, |v| v.as_str().to_owned());
        patch(&mut self.preferences, preferences, |v| v.as_map().clone().into());
        patch(&mut self.user_type, user_type, |v| v.as_str().to_owned());
    }
}

fn patch<T, C>(column: &mut Option<C>, by: &Patch<T>, stored: impl Fn(&T) -> C) {
    match by {
        Patch::Keep => {}
        Patch::Clear => *column = None,
        Patch::Set(value) => *column = Some(stored(value)),
    }
}

async fn rows_of(connection: &mut PgConnection, ids: &[String]) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as!(UserRow, "SELECT * FROM users_v1 WHERE id = ANY($1)", ids).fetch_all(connection).await
}

/// Puts these rows in the place of those with the same ids. In place, so that a change of
/// nothing that is looked for leaves the indexes alone.
async fn put(connection: &mut PgConnection, rows: &[UserRow]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO users_v1 SELECT * FROM json_populate_recordset(NULL::users_v1, $1::text::json)
         ON CONFLICT (id) DO UPDATE SET
            matricule = excluded.matricule,
            nom = excluded.nom,
            prenom = excluded.prenom,
            ministere = excluded.ministere,
            avatar = excluded.avatar,
            sexe = excluded.sexe,
            email = excluded.email,
            username = excluded.username,
            telephone = excluded.telephone,
            preferences = excluded.preferences,
            status = excluded.status,
            roles = excluded.roles,
            email_verified = excluded.email_verified,
            mfa_enabled = excluded.mfa_enabled,
            user_type = excluded.user_type,
            customer_id = excluded.customer_id,
            is_company_owner = excluded.is_company_owner,
            created_at = excluded.created_at,
            updated_at = excluded.updated_at,
            version = excluded.version",
        serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))?,
    )
    .execute(connection)
    .await?;
    Ok(())
}
