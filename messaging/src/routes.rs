//! THE table: which messages an event becomes.

use domain::user::{Changes, Deleted, Event, NewUser, User};
use event_store::Step;

use crate::payloads::{FieldChanges, ProfileEvent, UserEvent};

/// The topic of [`Message::UserEvents`].
pub const USER_EVENTS: &str = "user.events";

/// A message and where it goes.
#[derive(Debug)]
pub enum Message<'a> {
    /// To the Redis stream.
    Stream(ProfileEvent<'a>),
    /// To the Kafka topic `user.events`.
    UserEvents(UserEvent<'a>),
}

/// What an event of a user says to others, in the order in which it is sent.
#[must_use]
pub fn of_user(step: &Step<User>) -> Vec<Message<'_>> {
    use Message::{Stream, UserEvents};
    let at = step.recorded.recorded_at;
    match (&step.recorded.event, &*step.before, &*step.after) {
        (Event::Created(user), _, User::Living(profile)) => {
            let NewUser { email, username, .. } = &**user;
            vec![
                Stream(ProfileEvent::created(profile, step)),
                UserEvents(UserEvent::created(profile, email.as_ref(), username.as_ref(), at)),
            ]
        }
        (Event::Changed(changes), _, User::Living(profile)) => {
            let fields = fields(changes);
            [
                fields.in_stream.then(|| Stream(ProfileEvent::updated(profile, step))),
                UserEvent::updated(&profile.id, fields.core, at).map(UserEvents),
                UserEvent::profile_updated(&profile.id, fields.profile, at).map(UserEvents),
            ]
            .into_iter()
            .flatten()
            .collect()
        }
        (Event::Deleted(Deleted {}), User::Living(before), _) => vec![
            Stream(ProfileEvent::deleted(before, step)),
            UserEvents(UserEvent::status_changed(&before.id, "deleted", before.status, at)),
        ],
        // An event that means nothing to its stream means nothing to others.
        (Event::Created(_), _, User::Unregistered | User::Deleted { .. })
        | (Event::Changed(_), _, User::Unregistered | User::Deleted { .. })
        | (Event::Deleted(_), User::Unregistered | User::Deleted { .. }, _) => vec![],
    }
}

/// Whether an event may become an entry of the Redis stream.
#[must_use]
pub fn is_in_stream(event: &Event) -> bool {
    match event {
        Event::Created(_) | Event::Deleted(Deleted {}) => true,
        Event::Changed(changes) => fields(changes).in_stream,
    }
}

/// Which messages speak of the fields that changed.
struct Fields<'a> {
    core: FieldChanges<'a>,
    profile: FieldChanges<'a>,
    in_stream: bool,
}

fn fields(changes: &Changes) -> Fields<'_> {
    // Named one by one: a new field that is forgotten here does not compile.
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
        // The customer's topics tell of these.
        user_type: _,
        is_company_owner: _,
    } = changes;
    let mut core = FieldChanges::default();
    core.put("email", email);
    core.put("username", username);
    core.set("matricule", matricule.as_ref());
    let mut profile = FieldChanges::default();
    profile.set("nom", nom.as_ref());
    profile.put("prenom", prenom);
    profile.put("avatar", avatar);
    profile.put("ministere", ministere);
    profile.put("sexe", sexe);
    profile.put("telephone", telephone);
    profile.put("preferences", preferences);
    let in_stream = matricule.is_some()
        || nom.is_some()
        || [prenom.is_keep(), avatar.is_keep(), ministere.is_keep(), sexe.is_keep()].contains(&false);
    Fields { core, profile, in_stream }
}
