//! Users as HTTP answers them: one row for each that lives.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::Aggregate;
use domain::user::{Changes, Event, Profile, User};
use domain::values::Patch;
use event_store::{Gather, Position, Recorded, StoredEvent};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};

use crate::table::{ApplyError, Projection};

mod rebuild;
#[cfg(test)]
mod tests;

pub use rebuild::{rebuild, verify};

/// Above so many rows a count is an estimate.
const COUNT_EXACTLY: i64 = 10_000;

/// The projection.
pub struct Users;

/// A user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
            roles: roles.iter().cloned().collect(),
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

    async fn apply(connection: &mut PgConnection, events: &[StoredEvent]) -> Result<(), ApplyError> {
        let mut decoded: Vec<Recorded<Event>> = Vec::with_capacity(events.len());
        for event in events.iter().filter(|event| event.stream.category() == User::CATEGORY) {
            let undecodable = |source| ApplyError::Undecodable { position: event.position, source };
            decoded.push(event.decode().map_err(undecodable)?);
        }
        let ids: Vec<String> = decoded.iter().map(|event| event.stream.id().to_owned()).collect();
        let mut rows: HashMap<&str, Option<UserRow>> = HashMap::new();
        let existing = rows_of(connection, &ids).await?;
        for row in &existing {
            rows.insert(&row.id, Some(row.clone()));
        }
        for event in &decoded {
            let row = rows.entry(event.stream.id()).or_default();
            *row = row.take().map_or_else(|| created(event), |row| changed(row, event));
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
}

/// What an event makes of a user who has no row.
fn created(event: &Recorded<Event>) -> Option<UserRow> {
    match &event.event {
        Event::Created(_) => match User::default().evolve(&event.event) {
            User::Living(profile) => {
                Some(UserRow::of(&profile, event.version, event.recorded_at, event.recorded_at))
            }
            User::Unregistered | User::Deleted { .. } => None,
        },
        Event::Changed(_) | Event::Deleted(_) => None,
    }
}

/// What an event makes of a user's row.
fn changed(mut row: UserRow, event: &Recorded<Event>) -> Option<UserRow> {
    if event.version <= row.version {
        return Some(row);
    }
    row.version = event.version;
    row.updated_at = event.recorded_at;
    match &event.event {
        Event::Created(_) => {}
        Event::Changed(changes) => row.change(changes),
        Event::Deleted(_) => return None,
    }
    Some(row)
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

/// Puts these rows in the place of those with the same ids. In place, so that a change that leaves the
/// matricule alone leaves the indexes alone.
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

/// Finds users by id or matricule, those that are asked for at the same moment with one query.
pub struct Finder(Gather<String, Option<UserRow>, sqlx::Error>);

impl Finder {
    /// Through these connections.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self(Gather::start(move |names| {
            let pool = pool.clone();
            async move { find_each(&pool, &names).await }
        }))
    }

    /// The user with this id or matricule, as of a moment after the call.
    pub async fn find(&self, id_or_matricule: &str) -> Result<Option<UserRow>, Arc<sqlx::Error>> {
        let found = self.0.ask(id_or_matricule.to_owned()).await;
        found.unwrap_or_else(|| Err(Arc::new(sqlx::Error::WorkerCrashed)))
    }
}

/// The user with this matricule.
pub async fn find_by_matricule(pool: &PgPool, matricule: &str) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as!(UserRow, "SELECT * FROM users_v1 WHERE matricule = $1 LIMIT 1", matricule)
        .fetch_optional(pool)
        .await
}

/// The users with these ids or matricules in the order asked; unknown ones are left out.
pub async fn find_many(pool: &PgPool, ids_or_matricules: &[String]) -> Result<Vec<UserRow>, sqlx::Error> {
    Ok(find_each(pool, ids_or_matricules).await?.into_iter().flatten().collect())
}

/// For each of these ids or matricules its user.
async fn find_each(pool: &PgPool, ids_or_matricules: &[String]) -> Result<Vec<Option<UserRow>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        UserRow,
        "SELECT * FROM users_v1 WHERE id = ANY($1) OR matricule = ANY($1)",
        ids_or_matricules
    )
    .fetch_all(pool)
    .await?;
    let mut by_name: HashMap<&str, &UserRow> = HashMap::with_capacity(2 * rows.len());
    for row in &rows {
        by_name.insert(&row.id, row);
        if let Some(matricule) = &row.matricule {
            by_name.insert(matricule, row);
        }
    }
    Ok(ids_or_matricules.iter().map(|name| by_name.get(name.as_str()).copied().cloned()).collect())
}

/// The rows of the users with these ids, and the position up to which they are right.
pub(crate) async fn rows_and_position(
    pool: &PgPool,
    ids: &[String],
) -> Result<(Vec<UserRow>, Position), sqlx::Error> {
    let mut snapshot = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let rows = rows_of(&mut snapshot, ids).await?;
    let position = sqlx::query_scalar!("SELECT position FROM checkpoints WHERE reader = $1", Users::NAME)
        .fetch_optional(&mut *snapshot)
        .await?;
    snapshot.commit().await?;
    Ok((rows, Position::new(position.unwrap_or(0))))
}

/// Which users a list holds; all, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Somewhere in name, matricule, e-mail or username, in any case.
    pub q: Option<String>,
    /// The ministry.
    pub ministere: Option<String>,
    /// `M` or `F`.
    pub sexe: Option<String>,
    /// The status.
    pub status: Option<String>,
}

impl Filter {
    /// `q` as a pattern of LIKE that holds nothing but it.
    fn pattern(&self) -> Option<String> {
        let escaped = self.q.as_ref()?.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
        Some(format!("%{escaped}%"))
    }
}

/// The first `limit` users behind `after_id` in the order of ids.
pub async fn page(
    pool: &PgPool,
    filter: &Filter,
    after_id: Option<&str>,
    limit: i64,
) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as!(
        UserRow,
        r#"
        SELECT * FROM users_v1
        WHERE id > $1
          AND ($2::text IS NULL OR ministere = $2)
          AND ($3::text IS NULL OR sexe = $3)
          AND ($4::text IS NULL OR status = $4)
          AND ($5::text IS NULL OR concat_ws(' ', prenom, nom, prenom, matricule, email, username) COLLATE "default" ILIKE $5)
        ORDER BY id
        LIMIT $6
        "#,
        after_id.unwrap_or_default(),
        filter.ministere,
        filter.sexe,
        filter.status,
        filter.pattern(),
        limit,
    )
    .fetch_all(pool)
    .await
}

/// How many users there are, and whether that is exact: above ten thousand it
/// is what the planner of PostgreSQL thinks.
pub async fn count(pool: &PgPool, filter: &Filter) -> Result<(i64, bool), sqlx::Error> {
    let exactly = sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "count!" FROM (
            SELECT 1 FROM users_v1
            WHERE ($1::text IS NULL OR ministere = $1)
              AND ($2::text IS NULL OR sexe = $2)
              AND ($3::text IS NULL OR status = $3)
              AND ($4::text IS NULL OR concat_ws(' ', prenom, nom, prenom, matricule, email, username) COLLATE "default" ILIKE $4)
            LIMIT $5
        ) some_users
        "#,
        filter.ministere,
        filter.sexe,
        filter.status,
        filter.pattern(),
        COUNT_EXACTLY + 1,
    )
    .fetch_one(pool)
    .await?;
    if exactly <= COUNT_EXACTLY {
        return Ok((exactly, true));
    }
    let plan: serde_json::Value = sqlx::query_scalar(
        r#"
        EXPLAIN (FORMAT JSON) SELECT 1 FROM users_v1
        WHERE ($1::text IS NULL OR ministere = $1)
          AND ($2::text IS NULL OR sexe = $2)
          AND ($3::text IS NULL OR status = $3)
          AND ($4::text IS NULL OR concat_ws(' ', prenom, nom, prenom, matricule, email, username) COLLATE "default" ILIKE $4)
        "#,
    )
    .bind(&filter.ministere)
    .bind(&filter.sexe)
    .bind(&filter.status)
    .bind(filter.pattern())
    .fetch_one(pool)
    .await?;
    let estimate = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_i64).unwrap_or(0);
    Ok((estimate.max(exactly), false))
}
