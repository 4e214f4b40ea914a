//! What stays true whatever users are asked, in whatever order.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::json;

use chrono::TimeDelta;

use super::*;
use crate::ids::CustomerId;
use crate::values::{AvatarUrl, Patch, Preferences, Sexe, UserType};

type Checked = Result<(), TestCaseError>;

/// One command and all there is to know about it.
struct Step {
    before: User,
    command: Command,
    at: DateTime<Utc>,
    outcome: Result<Vec<Event>, Rejection>,
    after: User,
    /// Every event of the stream so far, this step's included.
    log: Vec<Event>,
}

fn run(commands: Vec<Command>) -> Vec<Step> {
    let mut state = User::default();
    let mut log = Vec::new();
    let mut steps = Vec::new();
    for (count, command) in (0..).zip(commands) {
        let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(40 * count);
        let before = state.clone();
        let outcome = decide(&before, &command, at);
        for event in outcome.iter().flatten() {
            state = state.evolve(event);
            log.push(event.clone());
        }
        steps.push(Step { before, command, at, outcome, after: state.clone(), log: log.clone() });
    }
    steps
}

fn decide(state: &User, command: &Command, at: DateTime<Utc>) -> Result<Vec<Event>, Rejection> {
    state.decide(command.clone(), at)
}

fn through_json(event: &Event) -> Event {
    serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
}

fn invariant_deleted_users_never_change(step: &Step) -> Checked {
    if let User::Deleted { .. } = step.before {
        prop_assert!(step.outcome.is_err());
        prop_assert_eq!(&step.after, &step.before);
    }
    Ok(())
}

fn invariant_replayed_state_equals_live_state(step: &Step) -> Checked {
    let replayed = step.log.iter().map(through_json).fold(User::default(), |user, event| user.evolve(&event));
    prop_assert_eq!(&replayed, &step.after);
    Ok(())
}

fn invariant_every_event_survives_json(step: &Step) -> Checked {
    for event in step.outcome.iter().flatten() {
        prop_assert_eq!(&through_json(event), event);
    }
    Ok(())
}

fn invariant_every_event_is_named_after_its_category(step: &Step) -> Checked {
    for event in step.outcome.iter().flatten() {
        let json = serde_json::to_value(event).unwrap();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        prop_assert!(matches!(names[..], [name] if name.starts_with("user.")), "{names:?}");
    }
    Ok(())
}

fn invariant_only_a_proof_and_another_role_may_be_more_than_one_event(step: &Step) -> Checked {
    let count = step.outcome.iter().flatten().count();
    let of_registration = matches!(&step.before, User::Living(profile) if profile.is_registering)
        && matches!(innermost(&step.command), Command::VerifyEmail { .. });
    let of_role = matches!(innermost(&step.command), Command::ReplaceRole(_));
    prop_assert!(count <= 1 || count == 2 && of_registration || count <= 4 && of_role);
    Ok(())
}

fn innermost(command: &Command) -> &Command {
    if let Command::OfDismissed(command) | Command::OfService(command) = command {
        innermost(command)
    } else {
        command
    }
}

fn is_of_service(command: &Command) -> bool {
    if let Command::OfDismissed(command) = command {
        return is_of_service(command);
    }
    matches!(command, Command::OfService(_))
}

fn administrator(user: &User) -> Option<&Profile> {
    match user {
        User::Living(profile) => Some(&**profile).filter(|it| it.is_administrator()),
        User::Unregistered | User::Deleted { .. } => None,
    }
}

fn invariant_another_service_leaves_administrators_as_they_are(step: &Step) -> Checked {
    if is_of_service(&step.command) {
        prop_assert_eq!(administrator(&step.before), administrator(&step.after));
        prop_assert!(administrator(&step.before).is_none() || step.outcome.is_err());
    }
    Ok(())
}

/// Whatever the role, and whoever asks.
fn invariant_a_customer_role_stands_alone(step: &Step) -> Checked {
    if let (Command::ReplaceRole(role), Ok(_), User::Living(before), User::Living(after)) =
        (innermost(&step.command), &step.outcome, &step.before, &step.after)
    {
        let is_other = |it: &&RoleName| !RoleName::CUSTOMER_ROLES.contains(&it.as_str());
        let expected: BTreeSet<_> = before.roles.iter().filter(is_other).chain([role]).collect();
        prop_assert_eq!(after.roles.iter().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(before.is_administrator(), after.is_administrator());
    }
    Ok(())
}

fn invariant_there_are_not_too_many_devices(step: &Step) -> Checked {
    if let User::Living(profile) = &step.after {
        let distinct: BTreeSet<_> = profile.devices.iter().map(|it| &it.device_id).collect();
        prop_assert_eq!(distinct.len(), profile.devices.iter().len());
        prop_assert!(distinct.len() <= DEVICES);
    }
    Ok(())
}

fn invariant_an_event_changes_something(step: &Step) -> Checked {
    let says_more = |event: &&Event| !matches!(event, Event::AdministratorConfirmed(_));
    let appended = step.outcome.iter().flatten().filter(says_more).count() > 0;
    prop_assert_eq!(appended, step.before != step.after);
    Ok(())
}

fn is_change(command: &Command) -> bool {
    match innermost(command) {
        Command::Create(_)
        | Command::Register { .. }
        | Command::Delete
        | Command::DeleteAddress(_)
        | Command::VerifyEmail { .. }
        | Command::Confirm
        | Command::OfDismissed(_)
        | Command::OfService(_) => false,
        Command::AddAddress(_)
        | Command::ChangeAddress { .. }
        | Command::RequestVerification { .. }
        | Command::VouchForEmail { .. }
        | Command::EnableMfa(_)
        | Command::DisableMfa(_)
        | Command::Change(_)
        | Command::ChangeStatus { .. }
        | Command::AssignRole(_)
        | Command::RemoveRole(_)
        | Command::ReplaceRole(_)
        | Command::RegisterDevice(_) => true,
    }
}

fn invariant_a_change_asked_for_again_appends_nothing(step: &Step) -> Checked {
    if is_change(&step.command) && step.outcome.is_ok() {
        prop_assert_eq!(decide(&step.after, &step.command, step.at), Ok(vec![]));
    }
    Ok(())
}

/// Field by field: dropping any one of them from the event must lose something.
fn invariant_a_change_names_only_what_changes(step: &Step) -> Checked {
    for event in step.outcome.iter().flatten() {
        if let (Event::Changed(changes), User::Living(before)) = (event, &step.before) {
            prop_assert_eq!(&Changes::clone(changes).against(before), &**changes);
        }
    }
    Ok(())
}

fn invariant_claims_hold_the_id_for_ever(step: &Step) -> Checked {
    let id = match &step.after {
        User::Unregistered => {
            prop_assert!(step.after.claims().is_empty());
            return Ok(());
        }
        User::Living(profile) => &profile.id,
        User::Deleted { id } => id,
    };
    let held = Claim::new(LOOKUP, id.as_str(), Rejection::IdTaken);
    prop_assert!(step.after.claims().contains(&held));
    Ok(())
}

fn invariant_the_id_never_changes(step: &Step) -> Checked {
    let first = match step.log.first() {
        Some(Event::Created(first)) => &first.id,
        Some(Event::Registered(first)) => &first.user.id,
        Some(_) | None => {
            prop_assert_eq!(&step.after, &User::Unregistered);
            return Ok(());
        }
    };
    let held = Claim::new(LOOKUP, first.as_str(), Rejection::IdTaken);
    prop_assert_eq!(step.after.claims().into_iter().next(), Some(held));
    Ok(())
}

fn invariant_no_value_is_claimed_twice(step: &Step) -> Checked {
    let claims = step.after.claims();
    let distinct: BTreeSet<_> = claims.iter().map(|it| (it.namespace, &it.value)).collect();
    prop_assert_eq!(distinct.len(), claims.len());
    Ok(())
}

fn invariant_a_changed_email_is_not_verified(step: &Step) -> Checked {
    if let (User::Living(before), User::Living(after)) = (&step.before, &step.after) {
        prop_assert!(before.email == after.email || !after.email_verified);
    }
    Ok(())
}

fn invariant_only_who_was_dismissed_stops_to_administrate(step: &Step) -> Checked {
    if step.before.can_administrate() && !step.after.can_administrate() {
        prop_assert!(matches!(step.command, Command::OfDismissed(_)), "{:?}", step.command);
    }
    Ok(())
}

proptest! {
    #[test]
    fn users_keep_their_invariants(commands in vec(any_command(), 0..40)) {
        for step in &run(commands) {
            invariant_deleted_users_never_change(step)?;
            invariant_replayed_state_equals_live_state(step)?;
            invariant_every_event_survives_json(step)?;
            invariant_every_event_is_named_after_its_category(step)?;
            invariant_only_a_proof_and_another_role_may_be_more_than_one_event(step)?;
            invariant_an_event_changes_something(step)?;
            invariant_a_change_asked_for_again_appends_nothing(step)?;
            invariant_a_change_names_only_what_changes(step)?;
            invariant_claims_hold_the_id_for_ever(step)?;
            invariant_the_id_never_changes(step)?;
            invariant_no_value_is_claimed_twice(step)?;
            invariant_a_changed_email_is_not_verified(step)?;
            invariant_only_who_was_dismissed_stops_to_administrate(step)?;
            invariant_another_service_leaves_administrators_as_they_are(step)?;
            invariant_a_customer_role_stands_alone(step)?;
            invariant_there_are_not_too_many_devices(step)?;
        }
    }

    /// Also of events that `decide` would not have said in that order.
    #[test]
    fn any_log_can_be_read_and_its_dead_stay_dead(events in vec(any_event(), 0..40)) {
        let mut state = User::default();
        for event in &events {
            let before = state.clone();
            state = state.evolve(event);
            if let User::Deleted { .. } = before {
                prop_assert_eq!(&state, &before);
            }
            let claims = state.claims();
            let distinct: BTreeSet<_> = claims.iter().map(|it| (it.namespace, &it.value)).collect();
            prop_assert_eq!(distinct.len(), claims.len());
        }
    }
}

// Few values each, so that commands often meet what is there already.

fn any_command() -> impl Strategy<Value = Command> {
    let command = prop_oneof![
        2 => any_new_user().prop_map(|user| Command::Create(user.into())),
        8 => any_changes().prop_map(|changes| Command::Change(changes.into())),
        2 => (any_status(), option::of(any_text())).prop_map(|(to, reason)| Command::ChangeStatus { to, reason }),
        2 => any_role().prop_map(Command::AssignRole),
        2 => any_role().prop_map(Command::RemoveRole),
        1 => Just(Command::Delete),
        1 => Just(Command::Confirm),
        2 => any_registered().prop_map(|Registered { user, verification }| Command::Register {
            user: user.into(),
            request: verification.request,
        }),
        2 => any_address().prop_map(|kept| Command::AddAddress(kept.into())),
        2 => any_address_change()
            .prop_map(|(id, changes)| Command::ChangeAddress { id, changes: changes.into() }),
        1 => any_request().prop_map(Command::DeleteAddress),
        3 => any_request().prop_map(|request| Command::RequestVerification { request, password_changes: 0 }),
        3 => any_request().prop_map(|request| Command::VerifyEmail { request }),
        1 => any_request().prop_map(|request| Command::VouchForEmail { request }),
        1 => Just(Command::EnableMfa(MfaType::Totp)),
        1 => Just(Command::DisableMfa(MfaType::Totp)),
        2 => any_role().prop_map(Command::ReplaceRole),
        2 => any_device().prop_map(Command::RegisterDevice),
    ];
    // As they are, and each way once or inside the other.
    (command, 0..5_u8).prop_map(|(command, how)| {
        let dismissed = |command: Command| Command::OfDismissed(command.into());
        let of_service = |command: Command| Command::OfService(command.into());
        match how {
            0 => dismissed(command),
            1 => of_service(command),
            2 => of_service(dismissed(command)),
            3 => dismissed(of_service(command)),
            _ => command,
        }
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any_new_user().prop_map(|user| Event::Created(user.into())),
        4 => any_changes().prop_map(|changes| Event::Changed(changes.into())),
        1 => (any_status(), option::of(any_text()))
            .prop_map(|(status, reason)| Event::StatusChanged(StatusChanged { status, reason })),
        1 => any_role().prop_map(|role| Event::RoleAssigned(RoleAssigned { role })),
        1 => any_role().prop_map(|role| Event::RoleRemoved(RoleRemoved { role })),
        1 => Just(Event::AdministratorConfirmed(AdministratorConfirmed {})),
        1 => any_registered().prop_map(|registered| Event::Registered(registered.into())),
        1 => any_address().prop_map(Event::AddressAdded),
        1 => any_address().prop_map(Event::AddressUpdated),
        1 => any_request().prop_map(|address_id| Event::AddressDeleted(AddressDeleted { address_id })),
        1 => (any_email(), any_verification()).prop_map(|(email, verification)| {
            Event::VerificationRequested(VerificationRequested { email, verification })
        }),
        1 => (any_email(), any_request())
            .prop_map(|(email, request)| Event::EmailVerified(EmailVerified { email, request })),
        1 => Just(Event::MfaEnabled(MfaSwitched { mfa_type: MfaType::Totp })),
        1 => Just(Event::MfaDisabled(MfaSwitched { mfa_type: MfaType::Totp })),
        1 => any_device().prop_map(|Device { device_id, device }| {
            Event::DeviceRegistered(DeviceRegistered { device_id, device })
        }),
        1 => Just(Event::Deleted(Deleted {})),
    ]
}

fn any_new_user() -> impl Strategy<Value = NewUser> {
    let names = (
        any_id(),
        option::of(any_matricule()),
        any_text(),
        option::of(any_text()),
        option::of(any_text()),
        option::of(any_email()),
        option::of(any_username()),
    );
    let rest = (
        option::of(any_avatar()),
        option::of(any_sexe()),
        option::of(any_text()),
        option::of(any_preferences()),
        option::of(Just(CustomerId::parse("c-1").unwrap())),
        option::of(any_user_type()),
        any::<bool>(),
        option::of(any_role()),
    );
    (names, rest).prop_map(
        |(
            (id, matricule, nom, prenom, ministere, email, username),
            (avatar, sexe, telephone, preferences, customer_id, user_type, is_company_owner, role),
        )| NewUser {
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
            customer_name: None,
            user_type,
            is_company_owner,
            role,
        },
    )
}

fn any_changes() -> impl Strategy<Value = Changes> {
    let names = (
        option::of(any_matricule()),
        option::of(any_text()),
        any_patch(any_text()),
        any_patch(any_text()),
        any_patch(any_email()),
        any_patch(any_username()),
    );
    let rest = (
        any_patch(any_avatar()),
        any_patch(any_sexe()),
        any_patch(any_text()),
        any_patch(any_preferences()),
        any_patch(any_user_type()),
        option::of(any::<bool>()),
    );
    (names, rest).prop_map(
        |(
            (matricule, nom, prenom, ministere, email, username),
            (avatar, sexe, telephone, preferences, user_type, is_company_owner),
        )| Changes {
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
        },
    )
}

fn any_registered() -> impl Strategy<Value = Registered> {
    (any_new_user(), any_email(), any_verification()).prop_map(|(user, email, verification)| Registered {
        user: NewUser { email: Some(email), ..user },
        verification,
    })
}

fn any_request() -> impl Strategy<Value = Uuid> {
    (1_u128..4).prop_map(Uuid::from_u128)
}

fn any_verification() -> impl Strategy<Value = Verification> {
    (any_request(), 0_i64..200).prop_map(|(request, seconds)| Verification {
        request,
        at: DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds),
        password_changes: 0,
    })
}

fn any_address() -> impl Strategy<Value = AddressKept> {
    (any_request(), option::of(any_text()), any_text()).prop_map(|(address_id, label, line)| {
        let address = Address {
            label,
            line1: line.clone(),
            line2: None,
            city: line.clone(),
            postal_code: None,
            country: line,
        };
        AddressKept { address_id, address }
    })
}

fn any_device() -> impl Strategy<Value = Device> {
    (any_text(), any_preferences()).prop_map(|(device_id, device)| Device { device_id, device })
}

fn any_address_change() -> impl Strategy<Value = (Uuid, AddressChanges)> {
    (any_request(), any_patch(any_text()), option::of(any_text()))
        .prop_map(|(id, label, city)| (id, AddressChanges { label, city, ..AddressChanges::default() }))
}

fn any_patch<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Patch<T>> {
    prop_oneof![
        2 => Just(Patch::Keep),
        1 => Just(Patch::Clear),
        2 => value.prop_map(Patch::Set),
    ]
}

fn any_id() -> impl Strategy<Value = UserId> {
    "u-[12]".prop_map(|raw| UserId::parse(&raw).unwrap())
}

fn any_matricule() -> impl Strategy<Value = Matricule> {
    "[mu]-[12]".prop_map(|raw| Matricule::parse(&raw).unwrap())
}

fn any_text() -> impl Strategy<Value = Text> {
    "(Awa|\"é\\\\|日本)".prop_map(|raw| Text::parse(&raw).unwrap())
}

fn any_email() -> impl Strategy<Value = Email> {
    "[aAb]@example\\.org".prop_map(|raw| Email::parse(&raw).unwrap())
}

fn any_username() -> impl Strategy<Value = Username> {
    "[ab]".prop_map(|raw| Username::parse(&raw).unwrap())
}

fn any_avatar() -> impl Strategy<Value = AvatarUrl> {
    "https://example\\.org/[ab]".prop_map(|raw| AvatarUrl::parse(&raw).unwrap())
}

fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![2 => Just(Status::Active), 1 => prop::sample::select(Status::ALL.as_slice())]
}

fn any_role() -> impl Strategy<Value = RoleName> {
    prop_oneof![
        2 => Just(RoleName::ADMIN),
        2 => Just("MANAGER"),
        1 => prop::sample::select(RoleName::CUSTOMER_ROLES.as_slice()),
        1 => Just("auditor"),
    ]
    .prop_map(|name| RoleName::parse(name).unwrap())
}

fn any_sexe() -> impl Strategy<Value = Sexe> {
    prop_oneof![Just(Sexe::M), Just(Sexe::F)]
}

fn any_user_type() -> impl Strategy<Value = UserType> {
    prop_oneof![Just(UserType::Sme), Just(UserType::FinancialInstitution)]
}

fn any_preferences() -> impl Strategy<Value = Preferences> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"theme": "sombre"})),
        any::<f64>().prop_map(|zoom| json!({"zoom": [zoom, null]})),
    ]
    .prop_map(|value| Preferences::parse(value).unwrap())
}
