//! What stands in the cache, and how it is written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::ids::Matricule;
use domain::user::{Profile, User, full_name};
use event_store::{Position, Recorded, Step};
use redis::{Script, ScriptInvocation};

use crate::users::UserRow;

/// Writes an entry, unless what is there is of a later position of the same log.
pub(super) const PUT: &str = r"
-- KEYS: the hash, its position. ARGV: log, position, ttl, ttl of the position, then fields and
-- values; without any the profile is gone, and its position stays as a tombstone
local known = redis.call('GET', KEYS[2])
if known then
  local log, position = known:match('^(%S+) (%d+)$')
  if log == ARGV[1] and tonumber(position) > tonumber(ARGV[2]) then
    return 0
  end
end
-- First, for it is refused where there is no memory: what is there stays then
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2], 'EX', ARGV[4])
redis.call('DEL', KEYS[1])
if #ARGV > 4 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1";

/// A position outlives its hash by more than any read takes that may write the hash again.
const GUARD_AT_LEAST: Duration = Duration::from_hours(1);

/// The key of a profile's hash, by id or matricule.
pub(super) fn key(name: &str) -> String {
    format!("user:profile:{name}")
}

/// The key of the position that a profile's hash is of: in the same slot of a cluster.
pub(super) fn guard(name: &str) -> String {
    format!("annuaire:{{{}}}:pos", key(name))
}

/// A key of the cache and what it holds as of a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The id or the matricule.
    pub(super) name: Arc<str>,
    pub(super) position: Position,
    /// [`None`]: nobody has this name.
    fields: Option<Fields>,
}

/// The fields of a hash, in the order of their names here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    id: String,
    nom: String,
    prenom: String,
    full_name: String,
    avatar: String,
    matricule: String,
    ministere: String,
    sexe: String,
    updated_at: String,
}

impl Entry {
    /// The call that writes it.
    pub(super) fn put<'a>(&self, script: &'a Script, log: &str, ttl: Duration) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        let Self { name, position, fields } = self;
        call.key(key(name)).key(guard(name));
        call.arg(log).arg(position.get()).arg(ttl.as_secs()).arg(ttl.max(GUARD_AT_LEAST).as_secs());
        for (field, value) in fields.iter().flat_map(Fields::pairs) {
            call.arg(field).arg(value);
        }
        call
    }

    /// The id or the matricule that it stands under.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The hash; empty if nobody has this name.
    pub(super) fn fields(&self) -> BTreeMap<&'static str, &str> {
        self.fields.iter().flat_map(Fields::pairs).collect()
    }

    /// What a user's row says under the id and under the matricule.
    pub(super) fn of_row(row: &UserRow, position: Position) -> Vec<Self> {
        let fields = Fields::of(row);
        let matricule = row.matricule.clone().filter(|matricule| *matricule != row.id);
        let mut entries = vec![Self { name: row.id.as_str().into(), position, fields: Some(fields.clone()) }];
        if let Some(name) = matricule {
            // Who looks a profile up by matricule knows that as its id.
            let fields = Some(Fields { id: name.clone(), ..fields });
            entries.push(Self { name: name.into(), position, fields });
        }
        entries
    }

    pub(super) fn gone(name: &str, position: Position) -> Self {
        Self { name: name.into(), position, fields: None }
    }
}

impl Fields {
    fn pairs(&self) -> [(&'static str, &str); 9] {
        let Self { id, nom, prenom, full_name, avatar, matricule, ministere, sexe, updated_at } = self;
        [
            ("id", id),
            ("nom", nom),
            ("prenom", prenom),
            ("fullName", full_name),
            ("avatar", avatar),
            ("matricule", matricule),
            ("ministere", ministere),
            ("sexe", sexe),
            ("updatedAt", updated_at),
        ]
    }

    fn of(row: &UserRow) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            id: row.id.clone(),
            nom: row.nom.clone(),
            prenom: text(&row.prenom),
            full_name: full_name(row.prenom.as_deref(), &row.nom),
            avatar: text(&row.avatar),
            matricule: row.matricule.clone().unwrap_or_else(|| row.id.clone()),
            ministere: text(&row.ministere),
            sexe: text(&row.sexe),
            updated_at: row.updated_at.timestamp_millis().to_string(),
        }
    }
}

/// What a batch of events leaves: an entry a name, the last one.
#[derive(Default)]
pub(super) struct Entries(HashMap<Arc<str>, Entry>);

impl Entries {
    /// Takes in what one more event leaves.
    pub(super) fn take_in(&mut self, step: &Step<User>) {
        let Recorded { position, recorded_at, version, .. } = &step.recorded;
        if let User::Living(before) = &*step.before {
            for name in names(before) {
                self.put(Entry::gone(name, *position));
            }
        }
        if let User::Living(after) = &*step.after {
            let row = UserRow::of(after, *version, *recorded_at, *recorded_at);
            for entry in Entry::of_row(&row, *position) {
                self.put(entry);
            }
        }
    }

    pub(super) fn into_vec(self) -> Vec<Entry> {
        self.0.into_values().collect()
    }

    fn put(&mut self, entry: Entry) {
        self.0.insert(entry.name.clone(), entry);
    }
}

fn names(profile: &Profile) -> impl Iterator<Item = &str> {
    let matricule = profile.matricule.as_ref().map(Matricule::as_str);
    std::iter::once(profile.id.as_str()).chain(matricule)
}
