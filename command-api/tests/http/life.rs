//! What stays true of users, whatever is asked of them in whatever order, by several at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::Aggregate;
use domain::access::{self, Access};
use domain::user::{Event, MfaType, Profile, Status, User};
use event_store::postgres::PostgresStore;
use event_store::{
    Appender, Commands, EventStore, Metadata, Position, Request, StoredEvent, StreamId, SystemClock, UuidV7,
    encode,
};
use futures::future::join_all;
use projections::users::UserRow;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::auth::PASSWORD;
use crate::mail_links::{Links, see_to_all};
use crate::{Service, service};

/// How many ask at the same time, and how often each does.
const CLIENTS: usize = 4;
const COMMANDS: usize = 150;

fn one_of<T: Clone>(choices: &[T]) -> T {
    fastrand::choice(choices).unwrap().clone()
}

/// Few values, so that commands often meet what is there already.
fn anybody() -> String {
    one_of(&["u1", "u2", "u3", "u4", "M1", "M2", "M3"]).to_owned()
}

fn some_fields() -> Value {
    let fields = [
        ("matricule", json!(one_of(&["M1", "M2", "M3", "u1"]))),
        ("nom", json!(one_of(&["Awa", "Éloïse"]))),
        ("prenom", one_of(&[json!("Zoé"), Value::Null])),
        (
            "email",
            one_of(&[json!("a@example.org"), json!("A@Example.org"), json!("b@example.org"), Value::Null]),
        ),
        ("username", one_of(&[json!("a"), json!("b"), Value::Null])),
        ("preferences", one_of(&[json!({ "zoom": 0.1 }), Value::Null])),
    ];
    let chosen = fields.into_iter().filter(|_| fastrand::bool());
    chosen.map(|(name, value)| (name.to_owned(), value)).collect::<serde_json::Map<_, _>>().into()
}

fn with(mut fields: Value, more: &[(&str, Value)]) -> Value {
    for (name, value) in more {
        fields[*name] = value.clone();
    }
    fields
}

/// Asks something of somebody.
async fn ask(service: &Service, users: &Commands<User>, links: &Links<'_>) {
    let who = anybody();
    let address = json!({ "line1": one_of(&["a", "b"]), "city": "Niamey", "country": "Niger" });
    let answer = match fastrand::u8(..20) {
        0 | 1 => {
            let body = with(
                some_fields(),
                &[
                    ("id", one_of(&[json!("u1"), json!("u2"), json!("u3"), json!("u4"), Value::Null])),
                    ("matricule", json!(one_of(&["M1", "M2", "M3"]))),
                    ("nom", json!("Awa")),
                ],
            );
            service.post("/", &body).await
        }
        2 => {
            let body = with(
                some_fields(),
                &[
                    ("matricule", json!(one_of(&["M1", "M2", "M3"]))),
                    ("nom", json!("Awa")),
                    ("email", json!(one_of(&["a@example.org", "b@example.org"]))),
                    ("password", json!(PASSWORD)),
                ],
            );
            service.post("/register", &body).await
        }
        3..=7 => service.put(&format!("/{who}"), &some_fields()).await,
        8 | 9 => service.status(&who, one_of(&["active", "pending", "suspended"])).await,
        10 | 11 => service.assign(&who, one_of(&["admin", "MANAGER"])).await,
        12 => service.remove(&who, one_of(&["admin", "MANAGER"])).await,
        // Now and then: an id is never used again.
        13 if fastrand::u8(..3) == 0 => service.delete(&format!("/{who}")).await,
        13 => service.get(&format!("/{who}/history")).await,
        14 => service.post(&format!("/{who}/addresses"), &address).await,
        15 => {
            let addresses = service.get(&format!("/{who}/addresses")).await;
            let Some(id) = addresses.json()["addresses"][0]["addressId"].as_str().map(str::to_owned) else {
                return;
            };
            let path = format!("/{who}/addresses/{id}");
            if fastrand::bool() { service.put(&path, &address).await } else { service.delete(&path).await }
        }
        16 => service.send("POST", &format!("/{who}/email/verification"), &[], "").await,
        17 => {
            let Some(token) = links.any("email_verification").await else { return };
            service.post("/email/verify", &json!({ "token": token })).await
        }
        18 => service.put(&format!("/{who}/password"), &json!({ "newPassword": PASSWORD })).await,
        _ => {
            let mfa_type = MfaType::Totp;
            let command = one_of(&[
                domain::user::Command::EnableMfa(mfa_type),
                domain::user::Command::DisableMfa(mfa_type),
            ]);
            let request = Request::on(StreamId::new(User::CATEGORY, &who), command, Metadata::default());
            // A refusal is as good.
            let _ = users.execute(request).await;
            return;
        }
    };
    assert!(answer.status < 500 || answer.status == 503, "{}", answer.text);
}

/// The log, folded event by event.
#[derive(Default)]
struct World {
    users: BTreeMap<String, User>,
    /// Who could administrate once: then somebody can for ever.
    had_administrator: bool,
}

impl World {
    fn take(&mut self, event: &StoredEvent) {
        every_event_survives_its_stored_form(event);
        if event.stream.category() != User::CATEGORY {
            return;
        }
        let id = event.stream.id().to_owned();
        let before = self.users.remove(&id).unwrap_or_default();
        a_deleted_user_never_changes(&before, event);
        self.users.insert(id, before.evolve(&event.decode::<Event>().unwrap().event));
        self.what_names_a_living_user_is_its_own();
        self.the_last_administrator_stays(event.position);
    }

    fn living(&self) -> impl Iterator<Item = &Profile> {
        self.users.values().filter_map(|user| match user {
            User::Living(profile) => Some(&**profile),
            User::Unregistered | User::Deleted { .. } => None,
        })
    }

    fn what_names_a_living_user_is_its_own(&self) {
        // Ids, also of the deleted, and matricules are one namespace.
        let mut names: Vec<String> = self.users.keys().cloned().collect();
        names.extend(self.living().filter_map(|it| {
            let matricule = it.matricule.as_ref()?.as_str();
            (matricule != it.id.as_str()).then(|| matricule.to_owned())
        }));
        distinct(names);
        distinct(self.living().filter_map(|it| Some(it.email.as_ref()?.folded())).collect());
        distinct(self.living().filter_map(|it| Some(it.username.as_ref()?.as_str().to_owned())).collect());
    }

    fn the_last_administrator_stays(&mut self, at: Position) {
        let is_one = self.users.values().any(User::can_administrate);
        assert!(is_one || !self.had_administrator, "nobody can administrate from position {at} on");
        self.had_administrator |= is_one;
    }
}

fn distinct(values: Vec<String>) {
    let count = values.len();
    let set: BTreeSet<String> = values.into_iter().collect();
    assert_eq!(set.len(), count, "{set:?}");
}

fn a_deleted_user_never_changes(before: &User, event: &StoredEvent) {
    assert!(!matches!(before, User::Deleted { .. }), "{} after its end: {}", event.stream, event.type_name);
}

fn every_event_survives_its_stored_form(event: &StoredEvent) {
    let again = match event.stream.category() {
        User::CATEGORY => encode(&event.decode::<Event>().unwrap().event),
        Access::CATEGORY => encode(&event.decode::<access::Event>().unwrap().event),
        _ => return,
    };
    assert_eq!(again.unwrap(), (event.type_name.clone(), event.data.clone()));
}

/// What commands are decided on, what queries see, and what the log says.
async fn replay_equals_live_state(world: &World, users: &Commands<User>, pool: &PgPool) {
    for (id, replayed) in &world.users {
        let live = users.current(&StreamId::new(User::CATEGORY, id)).await.unwrap();
        assert_eq!(&*live.state, replayed, "{id}");
        let row = projections::users::find_many(pool, std::slice::from_ref(id)).await.unwrap();
        let row = row.into_iter().find(|row| row.id == *id);
        assert_eq!(row, UserRow::of_user(&live), "{id}");
    }
}

#[sqlx::test(migrator = "event_store::MIGRATOR")]
async fn users_keep_their_invariants_whatever_is_asked(pool: PgPool) {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    println!("life: seed {seed}");
    let service = service(&pool).await;
    let store: Arc<dyn EventStore> =
        Arc::new(PostgresStore::connect((*pool.connect_options()).clone()).await.unwrap());
    let users = Commands::<User>::new(store.clone(), Appender::start(store.clone(), SystemClock, UuidV7));
    let links = Links::of(&pool);
    join_all((0..CLIENTS).map(|_| async {
        for _ in 0..COMMANDS {
            ask(&service, &users, &links).await;
        }
    }))
    .await;
    see_to_all(&pool).await;

    let mut world = World::default();
    let head = store.head().await.unwrap();
    for event in store.read_all(Position::START, usize::try_from(head.get()).unwrap()).await.unwrap() {
        world.take(&event);
    }
    assert!(world.had_administrator && head.get() > 50, "too little happened: seed {seed}");
    let of_status = |status| world.living().filter(|it| it.status == status).count();
    println!("life: {head} events, {} active", of_status(Status::Active));
    // The read model is waited for by any query.
    let caught_up = service.get_with("/all", &[("x-min-position", &head.to_string())]).await;
    assert_eq!(caught_up.status, 200);
    replay_equals_live_state(&world, &users, &pool).await;
}
