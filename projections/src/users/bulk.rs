//! Many users at once: folded in memory, written by `COPY`.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::Aggregate;
use domain::user::User;
use event_store::StoredEvent;
use sqlx::PgConnection;

use super::{UserRow, changed, created};
use crate::copy::{self, Columns, CopyRow};
use crate::rebuild::Bulk;
use crate::table::ApplyError;

/// So much is sent at once.
const SENT: usize = 1 << 20;
/// What the allocator and the map add to a row.
const OVERHEAD: usize = 160;

/// The rows of the users of a range of ids.
#[derive(Default)]
pub(super) struct Rows {
    // Boxed, so that the map grows by little.
    rows: HashMap<String, Box<UserRow>>,
    bytes: usize,
}

#[async_trait]
impl Bulk for Rows {
    fn category(&self) -> &'static str {
        User::CATEGORY
    }

    fn take_in(&mut self, event: &StoredEvent) -> Result<(), ApplyError> {
        let payload = event.payload().map_err(ApplyError::at(event))?;
        let id = event.stream.id();
        // In place: a row is large.
        if let Some(row) = self.rows.get_mut(id) {
            self.bytes -= size(row);
            if changed(row, event, &payload) {
                self.bytes += size(row);
            } else {
                self.rows.remove(id);
            }
        } else if let Some(row) = created(event, &payload) {
            self.bytes += size(&row);
            self.rows.insert(row.id.clone(), Box::new(row));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn halve(&mut self) -> Option<String> {
        let mut ids: Vec<&str> = self.rows.keys().map(String::as_str).collect();
        let middle = ids.len() / 2;
        if middle == 0 {
            return None;
        }
        let (_, middle, _) = ids.select_nth_unstable(middle);
        let middle = middle.to_owned();
        self.rows.retain(|id, _| *id < middle);
        self.bytes = self.rows.values().map(|row| size(row)).sum();
        Some(middle)
    }

    async fn write(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut rows: Vec<Box<UserRow>> = std::mem::take(&mut self.rows).into_values().collect();
        self.bytes = 0;
        // The primary key is then made without being sorted, and neighbours stand on one page.
        rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let mut copy = connection.copy_in_raw("COPY users_v1 FROM STDIN (FORMAT binary)").await?;
        let mut out = Vec::with_capacity(SENT + SENT / 8);
        copy::header(&mut out);
        for row in &rows {
            copy::row(&**row, &mut out);
            if out.len() >= SENT {
                copy.send(out.as_slice()).await?;
                out.clear();
            }
        }
        copy::trailer(&mut out);
        copy.send(out.as_slice()).await?;
        copy.finish().await?;
        Ok(())
    }
}

/// The bytes that a row takes, about.
fn size(row: &UserRow) -> usize {
    let texts = [
        &row.matricule,
        &row.prenom,
        &row.ministere,
        &row.avatar,
        &row.sexe,
        &row.email,
        &row.username,
        &row.telephone,
        &row.user_type,
        &row.customer_id,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::capacity).sum();
    let roles: usize = row.roles.iter().map(|role| role.capacity() + size_of::<String>()).sum();
    // A tree of small objects takes several times its text.
    let preferences = row.preferences.as_ref().map_or(0, |value| 8 * value.to_string().len());
    // The id is there twice.
    size_of::<UserRow>() + OVERHEAD + 2 * row.id.len() + row.nom.len() + texts + roles + preferences
}

impl CopyRow for UserRow {
    const COLUMNS: i16 = 21;

    fn write(&self, columns: &mut Columns<'_>) {
        let Self {
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
            status,
            roles,
            email_verified,
            mfa_enabled,
            user_type,
            customer_id,
            is_company_owner,
            created_at,
            updated_at,
            version,
        } = self;
        columns.text(id);
        columns.maybe(matricule.as_deref());
        columns.text(nom);
        for text in [prenom, ministere, avatar, sexe, email, username, telephone] {
            columns.maybe(text.as_deref());
        }
        columns.json(preferences.as_ref());
        columns.text(status);
        columns.texts(roles);
        columns.boolean(*email_verified);
        columns.boolean(*mfa_enabled);
        columns.maybe(user_type.as_deref());
        columns.maybe(customer_id.as_deref());
        columns.boolean(*is_company_owner);
        columns.time(*created_at);
        columns.time(*updated_at);
        columns.integer(*version);
    }
}
