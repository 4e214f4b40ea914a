//! THE table: which messages an event becomes.

mod customers;

use domain::access::{self, LoggedIn};
use domain::mail::Purpose;
use domain::user::{
    AddressDeleted, Changes, Deleted, EmailVerified, Event, MfaSwitched, Profile, RoleAssigned, RoleRemoved,
    StatusChanged, User, Verification, VerificationRequested,
};
use domain::values::Email;
use event_store::{Recorded, Step};
use uuid::Uuid;

use crate::distributor;
use crate::payloads::{AccessEvent, FieldChanges, ProfileEvent, TopicEvent, UserEvent};

pub use customers::{of_customer, of_subscription, of_token_account};

/// The topic of [`Message::UserEvents`].
pub const USER_EVENTS: &str = "user.events";

/// Every Kafka topic that messages go to.
pub fn topics() -> impl Iterator<Item = &'static str> {
    std::iter::once(USER_EVENTS).chain(distributor::ALL.iter().flat_map(|it| it.topics()))
}

/// Whether messages go to this Kafka topic.
#[must_use]
pub fn is_topic(name: &str) -> bool {
    topics().any(|topic| topic == name)
}

/// A message and where it goes.
#[derive(Debug)]
pub enum Message<'a> {
    /// To the Redis stream.
    Stream(ProfileEvent<'a>),
    /// To the Kafka topic `user.events`.
    UserEvents(UserEvent<'a>),
    /// To the Kafka topic of that event, and to the [services concerned](crate::distributor).
    Topic(TopicEvent<'a>),
}

/// What an event of a user says to others, in the order in which it is sent.
#[must_use]
pub fn of_user(step: &Step<User>) -> Vec<Message<'_>> {
    use Message::{Stream, Topic, UserEvents};
    let (at, actor) = (step.recorded.recorded_at, step.recorded.actor.as_deref());
    match (&step.recorded.event, &*step.before, &*step.after) {
        (Event::Created(user), _, User::Living(profile)) => {
            vec![
                Stream(ProfileEvent::created(profile, step)),
                UserEvents(UserEvent::created(profile, user, at)),
                Topic(TopicEvent::user_created(profile, user)),
            ]
        }
        (Event::Registered(registered), _, User::Living(profile)) => vec![
            Stream(ProfileEvent::created(profile, step)),
            UserEvents(UserEvent::registered(profile, &registered.user, at)),
            Topic(TopicEvent::user_created(profile, &registered.user)),
        ],
        (Event::Changed(changes), before, User::Living(profile)) => {
            let fields = fields(changes);
            let mut updated_fields = fields.names();
            // Whoever has another address has yet to prove it.
            if matches!(before, User::Living(before) if before.email_verified) && !profile.email_verified {
                updated_fields.push("emailVerified");
            }
            [
                fields.in_stream.then(|| Stream(ProfileEvent::updated(profile, step))),
                UserEvent::updated(&profile.id, fields.core, at).map(UserEvents),
                UserEvent::profile_updated(&profile.id, fields.profile, at).map(UserEvents),
                Some(Topic(TopicEvent::user_updated(profile, updated_fields))),
            ]
            .into_iter()
            .flatten()
            .collect()
        }
        (Event::StatusChanged(StatusChanged { reason, .. }), User::Living(before), User::Living(after)) => {
            vec![
                UserEvents(UserEvent::status_changed(before, after, reason.as_ref(), at)),
                Topic(TopicEvent::user_updated(after, vec!["status"])),
                Topic(TopicEvent::user_status_changed(before, after, actor)),
            ]
        }
        (Event::RoleAssigned(RoleAssigned { role }), _, User::Living(profile)) => vec![
            UserEvents(UserEvent::role_assigned(&profile.id, role, at)),
            Topic(TopicEvent::user_updated(profile, vec!["roles"])),
            Topic(TopicEvent::user_role_changed(profile, None, Some(role), actor)),
        ],
        (Event::RoleRemoved(RoleRemoved { role }), _, User::Living(profile)) => vec![
            UserEvents(UserEvent::role_removed(&profile.id, role, at)),
            Topic(TopicEvent::user_updated(profile, vec!["roles"])),
            Topic(TopicEvent::user_role_changed(profile, Some(role), None, actor)),
        ],
        (Event::AddressAdded(kept), _, User::Living(profile)) => {
            change(profile, "addresses", UserEvent::address_added(&profile.id, kept, at))
        }
        (Event::AddressUpdated(kept), _, User::Living(profile)) => {
            change(profile, "addresses", UserEvent::address_updated(&profile.id, kept, at))
        }
        (Event::AddressDeleted(AddressDeleted { address_id }), _, User::Living(profile)) => {
            change(profile, "addresses", UserEvent::address_deleted(&profile.id, *address_id, at))
        }
        (Event::VerificationRequested(VerificationRequested { email, .. }), _, User::Living(profile)) => {
            vec![UserEvents(UserEvent::verification_requested(&profile.id, email, at))]
        }
        (Event::EmailVerified(EmailVerified { email, .. }), _, User::Living(profile)) => {
            change(profile, "emailVerified", UserEvent::email_verified(&profile.id, email, at))
        }
        (Event::MfaEnabled(MfaSwitched { mfa_type }), _, User::Living(profile)) => {
            change(profile, "mfaEnabled", UserEvent::mfa_enabled(&profile.id, *mfa_type, at))
        }
        (Event::MfaDisabled(MfaSwitched { mfa_type }), _, User::Living(profile)) => {
            change(profile, "mfaEnabled", UserEvent::mfa_disabled(&profile.id, *mfa_type, at))
        }
        (Event::Deleted(Deleted {}), User::Living(before), _) => vec![
            Stream(ProfileEvent::deleted(before, step)),
            UserEvents(UserEvent::deleted(&before.id, before.status, at)),
            Topic(TopicEvent::user_deleted(before)),
        ],
        // An event that means nothing to its stream means nothing to others; nor does a version alone, or a
        // device.
        (Event::AdministratorConfirmed(_) | Event::DeviceRegistered(_), _, _)
        | (
            Event::Created(_)
            | Event::Registered(_)
            | Event::Changed(_)
            | Event::RoleAssigned(_)
            | Event::RoleRemoved(_)
            | Event::AddressAdded(_)
            | Event::AddressUpdated(_)
            | Event::AddressDeleted(_)
            | Event::VerificationRequested(_)
            | Event::EmailVerified(_)
            | Event::MfaEnabled(_)
            | Event::MfaDisabled(_),
            _,
            User::Unregistered | User::Deleted { .. },
        )
        | (Event::StatusChanged(_), User::Unregistered | User::Deleted { .. }, _)
        | (Event::StatusChanged(_), _, User::Unregistered | User::Deleted { .. })
        | (Event::Deleted(_), User::Unregistered | User::Deleted { .. }, _) => vec![],
    }
}

/// What has a message of its own on `user.events`, and changes one field.
fn change<'a>(profile: &'a Profile, field: &'static str, event: UserEvent<'a>) -> Vec<Message<'a>> {
    vec![Message::UserEvents(event), Message::Topic(TopicEvent::user_updated(profile, vec![field]))]
}

/// What an event of how a user gets in says to others: on `user.events`, and on a topic of its own.
#[must_use]
pub fn of_access(recorded: &Recorded<access::Event>) -> (Option<AccessEvent<'_>>, Option<TopicEvent<'_>>) {
    use access::Event;
    let at = recorded.recorded_at;
    match (&recorded.event, access::user_of(recorded.stream.id())) {
        (Event::PasswordChanged(_) | Event::PasswordReset(_), Some(user)) => {
            (Some(AccessEvent::password_changed(user, at)), None)
        }
        (Event::ResetRequested(reset), Some(user)) => (
            Some(AccessEvent::reset_requested(user, &reset.to.email, at)),
            Some(TopicEvent::user_password_reset(user, &reset.to)),
        ),
        (Event::LoggedIn(LoggedIn { from, .. }), Some(user)) => {
            (Some(AccessEvent::logged_in(user, from, at)), None)
        }
        (Event::LoginFailed(failed), user) => (Some(AccessEvent::login_refused(user, failed, at)), None),
        // A first password is told with its user, a second factor by the user's own stream; another hash of
        // the same password and the end of a session concern nobody else.
        (
            Event::PasswordSet(_)
            | Event::PasswordRehashed(_)
            | Event::SessionEnded(_)
            | Event::MfaEnrolled(_)
            | Event::MfaConfirmed(_)
            | Event::MfaRemoved(_),
            _,
        )
        | (
            Event::PasswordChanged(_)
            | Event::PasswordReset(_)
            | Event::ResetRequested(_)
            | Event::LoggedIn(_),
            None,
        ) => (None, None),
    }
}

/// A mail that an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailAsked<'a> {
    /// What for.
    pub purpose: Purpose,
    /// To whom.
    pub to: &'a Email,
    /// What tells it from others.
    pub request: Uuid,
}

/// The mail that an event of a user asks for.
#[must_use]
pub fn mail_of_user(event: &Event) -> Option<MailAsked<'_>> {
    let asked = |to, verification: &Verification| MailAsked {
        purpose: Purpose::EmailVerification,
        to,
        request: verification.request,
    };
    match event {
        Event::Registered(registered) => {
            registered.user.email.as_ref().map(|email| asked(email, &registered.verification))
        }
        Event::VerificationRequested(requested) => Some(asked(&requested.email, &requested.verification)),
        Event::Created(_)
        | Event::Changed(_)
        | Event::StatusChanged(_)
        | Event::RoleAssigned(_)
        | Event::RoleRemoved(_)
        | Event::AdministratorConfirmed(_)
        | Event::AddressAdded(_)
        | Event::AddressUpdated(_)
        | Event::AddressDeleted(_)
        | Event::EmailVerified(_)
        | Event::MfaEnabled(_)
        | Event::MfaDisabled(_)
        | Event::DeviceRegistered(_)
        | Event::Deleted(_) => None,
    }
}

/// The mail that an event of how a user gets in asks for.
#[must_use]
pub fn mail_of_access(event: &access::Event) -> Option<MailAsked<'_>> {
    use access::Event;
    match event {
        Event::ResetRequested(reset) => {
            Some(MailAsked { purpose: Purpose::PasswordReset, to: &reset.to.email, request: reset.request })
        }
        Event::PasswordSet(_)
        | Event::PasswordChanged(_)
        | Event::PasswordRehashed(_)
        | Event::PasswordReset(_)
        | Event::MfaEnrolled(_)
        | Event::MfaConfirmed(_)
        | Event::MfaRemoved(_)
        | Event::LoggedIn(_)
        | Event::LoginFailed(_)
        | Event::SessionEnded(_) => None,
    }
}

/// Whether an event may become an entry of the Redis stream.
#[must_use]
pub fn is_in_stream(event: &Event) -> bool {
    match event {
        Event::Created(_) | Event::Registered(_) | Event::Deleted(Deleted {}) => true,
        Event::Changed(changes) => fields(changes).in_stream,
        Event::StatusChanged(_)
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
        | Event::AdministratorConfirmed(_) => false,
    }
}

/// Which messages speak of the fields that changed.
struct Fields<'a> {
    core: FieldChanges<'a>,
    profile: FieldChanges<'a>,
    /// Those that no other message than the topic's tells of.
    customer: Vec<&'static str>,
    in_stream: bool,
}

impl Fields<'_> {
    fn names(&self) -> Vec<&'static str> {
        self.core.names().chain(self.profile.names()).chain(self.customer.iter().copied()).collect()
    }
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
        user_type,
        is_company_owner,
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
    let customer = [("userType", !user_type.is_keep()), ("isCompanyOwner", is_company_owner.is_some())]
        .into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
        .collect();
    let in_stream = matricule.is_some()
        || nom.is_some()
        || [prenom.is_keep(), avatar.is_keep(), ministere.is_keep(), sexe.is_keep()].contains(&false);
    Fields { core, profile, customer, in_stream }
}
