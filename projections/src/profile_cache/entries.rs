//! What stands in the cache, and how it is written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::ids::Matricule;
use domain::user::{Profile, User, full_name};
use event_store::{Position, Recorded, Step};
use redis::{Script, ScriptInvocation};

use crate::users::UserRow;

/// Writes entries, each unless what is there is of a later position of the same log.
pub(super) const PUT: &str = r"
-- KEYS: a hash and its position, for each entry. ARGV: log, ttl, ttl of the positions, the names of the nine
-- fields, then a position and nine values for each entry; without an id the profile is gone, and its position
-- stays as a tombstone
local call, a = redis.call, ARGV
for i = 1, #KEYS / 2 do
  local hash, guard, at = KEYS[2 * i - 1], KEYS[2 * i], 10 * i + 3
  -- First, for it is refused where there is no memory: what is there stays then
  local known = call('SET', guard, a[1] .. ' ' .. a[at], 'EX', a[3], 'GET')
  local log, position
  if known then log, position = known:match('^(%S+) (%d+)$') end
  if log == a[1] and tonumber(position) > tonumber(a[at]) then
    call('SET', guard, known, 'EX', a[3])
  else
    call('DEL', hash)
    if a[at + 1] ~= '' then
      call('HSET', hash, a[4], a[at + 1], a[5], a[at + 2], a[6], a[at + 3], a[7], a[at + 4], a[8], a[at + 5],
        a[9], a[at + 6], a[10], a[at + 7], a[11], a[at + 8], a[12], a[at + 9])
      call('EXPIRE', hash, a[2])
    end
  end
end";

/// So many entries are written by one call, during which Redis answers nobody else: less than a millisecond.
const AT_ONCE: usize = 50;

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

/// The fields of a hash.
const FIELDS: [&str; 9] =
    ["id", "nom", "prenom", "fullName", "avatar", "matricule", "ministere", "sexe", "updatedAt"];

/// A key of the cache and what it holds as of a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The id or the matricule.
    pub(super) name: Arc<str>,
    pub(super) position: Position,
    /// [`None`]: nobody has this name.
    fields: Option<Fields>,
}

/// What these hold.
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

/// The calls that write these, in their order.
pub(super) fn put<'a>(
    entries: &'a [Entry],
    script: &'a Script,
    log: &'a str,
    ttl: Duration,
) -> impl Iterator<Item = ScriptInvocation<'a>> {
    entries.chunks(AT_ONCE).map(move |entries| {
        let mut call = script.prepare_invoke();
        call.arg(log).arg(ttl.as_secs()).arg(ttl.max(GUARD_AT_LEAST).as_secs()).arg(&FIELDS);
        for Entry { name, position, fields } in entries {
            call.key(key(name)).key(guard(name)).arg(position.get());
            match fields {
                Some(fields) => call.arg(&fields.values()),
                None => call.arg(&[""; FIELDS.len()]),
            };
        }
        call
    })
}

impl Entry {
    /// The id or the matricule that it stands under.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether nobody has this name.
    pub(super) const fn is_gone(&self) -> bool {
        self.fields.is_none()
    }

    /// The hash; empty if nobody has this name.
    pub(super) fn fields(&self) -> BTreeMap<&'static str, &str> {
        self.fields.iter().flat_map(|fields| FIELDS.into_iter().zip(fields.values())).collect()
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
    /// In the order of [`FIELDS`].
    fn values(&self) -> [&str; FIELDS.len()] {
        let Self { id, nom, prenom, full_name, avatar, matricule, ministere, sexe, updated_at } = self;
        [id, nom, prenom, full_name, avatar, matricule, ministere, sexe, updated_at]
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
