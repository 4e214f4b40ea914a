use serde_json::json;

use super::*;
use crate::given::given;
use crate::values::{AvatarUrl, Patch, Preferences, Sexe, UserType};

pub(super) fn text(raw: &str) -> Text {
    Text::parse(raw).unwrap()
}

pub(super) fn email(raw: &str) -> Email {
    Email::parse(raw).unwrap()
}

fn username(raw: &str) -> Username {
    Username::parse(raw).unwrap()
}

fn matricule(raw: &str) -> Matricule {
    Matricule::parse(raw).unwrap()
}

pub(super) fn awa() -> NewUser {
    NewUser {
        id: UserId::parse("u-1").unwrap(),
        matricule: Some(matricule("570479H")),
        nom: text("Diop"),
        prenom: Some(text("Awa")),
        ministere: None,
        avatar: None,
        sexe: Some(Sexe::F),
        email: Some(email("Awa@Example.org")),
        username: Some(username("awa")),
        telephone: None,
        preferences: None,
        customer_id: None,
        customer_name: None,
        user_type: None,
        is_company_owner: false,
        role: None,
    }
}

fn create(user: NewUser) -> Command {
    Command::Create(user.into())
}

pub(super) fn change(changes: Changes) -> Command {
    Command::Change(changes.into())
}

fn created() -> Event {
    Event::Created(awa().into())
}

pub(super) fn changed(changes: Changes) -> Event {
    Event::Changed(changes.into())
}

fn deleted() -> Event {
    Event::Deleted(Deleted {})
}

fn suspended() -> Event {
    Event::StatusChanged(StatusChanged { status: Status::Suspended, reason: None })
}

fn assigned(role: RoleName) -> Event {
    Event::RoleAssigned(RoleAssigned { role })
}

fn removed(role: RoleName) -> Event {
    Event::RoleRemoved(RoleRemoved { role })
}

fn manager() -> RoleName {
    RoleName::parse("MANAGER").unwrap()
}

fn to(status: Status) -> Command {
    Command::ChangeStatus { to: status, reason: None }
}

fn renamed() -> Changes {
    Changes { nom: Some(text("Ndiaye")), ..Changes::default() }
}

fn profile(events: impl IntoIterator<Item = Event>) -> Profile {
    match given::<User>(events).state() {
        User::Living(profile) => *profile,
        other @ (User::Unregistered | User::Deleted { .. }) => panic!("{other:?} has no profile"),
    }
}

#[test]
fn a_user_is_created_with_everything_it_was_given() {
    given::<User>([]).when(create(awa())).then_events([created()]);
}

#[test]
fn a_new_user_is_active_unverified_and_without_roles() {
    let profile = profile([created()]);
    assert_eq!(profile.status, Status::Active);
    assert!(!profile.email_verified);
    assert!(!profile.mfa_enabled);
    assert!(profile.roles.is_empty());
}

#[test]
fn an_id_is_not_given_twice() {
    given::<User>([created()]).when(create(awa())).then_rejected(Rejection::IdTaken);
}

#[test]
fn the_id_of_a_deleted_user_is_never_used_again() {
    given::<User>([created(), deleted()]).when(create(awa())).then_rejected(Rejection::IdTaken);
}

#[test]
fn who_does_not_exist_cannot_be_changed_or_deleted() {
    given::<User>([]).when(change(renamed())).then_rejected(Rejection::NotFound);
    given::<User>([]).when(Command::Delete).then_rejected(Rejection::NotFound);
}

#[test]
fn a_deleted_user_cannot_be_changed_or_deleted_again() {
    given::<User>([created(), deleted()]).when(change(renamed())).then_rejected(Rejection::NotFound);
    given::<User>([created(), deleted()]).when(Command::Delete).then_rejected(Rejection::NotFound);
}

#[test]
fn a_deleted_user_cannot_even_be_asked_for_nothing() {
    given::<User>([created(), deleted()]).when(change(Changes::default())).then_rejected(Rejection::NotFound);
}

#[test]
fn a_living_user_is_deleted() {
    given::<User>([created()]).when(Command::Delete).then_events([deleted()]);
}

#[test]
fn one_change_of_many_fields_is_one_event() {
    let changes = Changes {
        matricule: Some(matricule("A-2")),
        nom: Some(text("Ndiaye")),
        prenom: Patch::Clear,
        ministere: Patch::Set(text("Santé")),
        is_company_owner: Some(true),
        ..Changes::default()
    };
    given::<User>([created()]).when(change(changes.clone())).then_events([changed(changes)]);
}

#[test]
fn a_change_is_stored_without_what_it_does_not_change() {
    let asked = Changes {
        matricule: Some(matricule("570479H")),
        nom: Some(text("Ndiaye")),
        prenom: Patch::Set(text("Awa")),
        ministere: Patch::Clear,
        is_company_owner: Some(false),
        ..Changes::default()
    };
    given::<User>([created()]).when(change(asked)).then_events([changed(renamed())]);
}

#[test]
fn a_change_that_changes_nothing_is_no_event() {
    let same = Changes {
        nom: Some(text("Diop")),
        email: Patch::Set(email("Awa@Example.org")),
        telephone: Patch::Clear,
        ..Changes::default()
    };
    given::<User>([created()]).when(change(same)).then_events([]);
    given::<User>([created()]).when(change(Changes::default())).then_events([]);
}

#[test]
fn an_email_written_in_another_case_is_a_change() {
    let changes = Changes { email: Patch::Set(email("awa@example.org")), ..Changes::default() };
    given::<User>([created()]).when(change(changes.clone())).then_events([changed(changes)]);
}

#[test]
fn a_new_email_is_not_verified() {
    for new in [Patch::Set(email("b@example.org")), Patch::Clear] {
        let mut profile = profile([created()]);
        profile.email_verified = true;
        let before = User::Living(profile.into());
        let User::Living(after) = before.evolve(&changed(Changes { email: new, ..Changes::default() }))
        else {
            panic!("a change ends no life");
        };
        assert!(!after.email_verified);
    }
}

#[test]
fn a_verified_email_stays_verified_when_something_else_changes() {
    let mut profile = profile([created()]);
    profile.email_verified = true;
    let User::Living(after) = User::Living(profile.into()).evolve(&changed(renamed())) else {
        panic!("a change ends no life");
    };
    assert!(after.email_verified);
}

#[test]
fn every_field_can_be_changed_and_every_optional_one_cleared() {
    let set = Changes {
        matricule: Some(matricule("A-2")),
        nom: Some(text("Ndiaye")),
        prenom: Patch::Set(text("Fatou")),
        ministere: Patch::Set(text("Santé")),
        avatar: Patch::Set(AvatarUrl::parse("https://example.org/a.png").unwrap()),
        sexe: Patch::Set(Sexe::M),
        email: Patch::Set(email("f@example.org")),
        username: Patch::Set(username("fatou")),
        telephone: Patch::Set(text("+221 77 000 00 00")),
        preferences: Patch::Set(Preferences::parse(json!({"a": 1})).unwrap()),
        user_type: Patch::Set(UserType::Sme),
        is_company_owner: Some(true),
    };
    let after = profile([created(), changed(set)]);
    assert_eq!(after.matricule, Some(matricule("A-2")));
    assert_eq!(after.nom, text("Ndiaye"));
    assert_eq!(after.prenom, Some(text("Fatou")));
    assert_eq!(after.ministere, Some(text("Santé")));
    assert_eq!(after.avatar.as_ref().map(AvatarUrl::as_str), Some("https://example.org/a.png"));
    assert_eq!(after.sexe, Some(Sexe::M));
    assert_eq!(after.email, Some(email("f@example.org")));
    assert_eq!(after.username, Some(username("fatou")));
    assert_eq!(after.telephone, Some(text("+221 77 000 00 00")));
    assert_eq!(after.preferences, Some(Preferences::parse(json!({"a": 1})).unwrap()));
    assert_eq!(after.user_type, Some(UserType::Sme));
    assert!(after.is_company_owner);

    let clear = Changes {
        prenom: Patch::Clear,
        ministere: Patch::Clear,
        avatar: Patch::Clear,
        sexe: Patch::Clear,
        email: Patch::Clear,
        username: Patch::Clear,
        telephone: Patch::Clear,
        preferences: Patch::Clear,
        user_type: Patch::Clear,
        ..Changes::default()
    };
    let User::Living(cleared) = User::Living(after.clone().into()).evolve(&changed(clear)) else {
        panic!("a change ends no life");
    };
    let bare = Profile {
        prenom: None,
        ministere: None,
        avatar: None,
        sexe: None,
        email: None,
        username: None,
        telephone: None,
        preferences: None,
        user_type: None,
        email_changes: after.email_changes + 1,
        ..after
    };
    assert_eq!(*cleared, bare);
}

#[test]
fn an_event_that_makes_no_sense_is_read_past() {
    let unregistered = given::<User>([changed(renamed()), deleted()]).state();
    assert_eq!(unregistered, User::Unregistered);
    let living = given::<User>([created(), created()]).state();
    assert_eq!(living, given::<User>([created()]).state());
    let gone = given::<User>([created(), deleted(), created(), changed(renamed()), deleted()]);
    assert_eq!(gone.state(), User::Deleted { id: awa().id });
}

#[test]
fn the_full_name_has_the_given_name_first_where_there_is_one() {
    assert_eq!(profile([created()]).full_name(), "Awa Diop");
    let nameless = Event::Created(NewUser { prenom: None, ..awa() }.into());
    assert_eq!(profile([nameless]).full_name(), "Diop");
}

#[test]
fn nobody_holds_nothing() {
    given::<User>([]).then_claims([]);
}

#[test]
fn a_living_user_holds_its_names() {
    given::<User>([created()]).then_claims([
        Claim::new(LOOKUP, "u-1", Rejection::IdTaken),
        Claim::new(LOOKUP, "570479H", Rejection::MatriculeTaken),
        Claim::new(EMAIL, "awa@example.org", Rejection::EmailTaken),
        Claim::new(USERNAME, "awa", Rejection::UsernameTaken),
    ]);
}

#[test]
fn an_id_that_is_the_matricule_too_is_held_once() {
    let same = NewUser { matricule: Some(matricule("u-1")), email: None, username: None, ..awa() };
    given::<User>([Event::Created(same.into())]).then_claims([Claim::new(LOOKUP, "u-1", Rejection::IdTaken)]);
}

#[test]
fn a_deleted_user_holds_its_id_alone() {
    given::<User>([created(), deleted()]).then_claims([Claim::new(LOOKUP, "u-1", Rejection::IdTaken)]);
}

#[test]
fn a_change_of_names_lets_the_old_ones_go() {
    let changes = Changes {
        matricule: Some(matricule("A-2")),
        email: Patch::Clear,
        username: Patch::Set(username("fatou")),
        ..Changes::default()
    };
    given::<User>([created(), changed(changes)]).then_claims([
        Claim::new(LOOKUP, "u-1", Rejection::IdTaken),
        Claim::new(LOOKUP, "A-2", Rejection::MatriculeTaken),
        Claim::new(USERNAME, "fatou", Rejection::UsernameTaken),
    ]);
}

#[test]
fn a_status_is_parsed_as_it_is_stored() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Ok(status));
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    assert!(Status::parse("Active").is_err());
    assert!(Status::parse("deleted").is_err());
}

#[test]
fn a_new_status_is_stored_with_its_reason() {
    let reason = Some(text("Décision administrative"));
    given::<User>([created()])
        .when(Command::ChangeStatus { to: Status::Banned, reason: reason.clone() })
        .then_events([Event::StatusChanged(StatusChanged { status: Status::Banned, reason })]);
    assert_eq!(profile([created(), suspended()]).status, Status::Suspended);
}

#[test]
fn a_status_that_holds_already_is_no_event_whatever_the_reason() {
    given::<User>([created()]).when(to(Status::Active)).then_events([]);
    let because = Command::ChangeStatus { to: Status::Suspended, reason: Some(text("encore")) };
    given::<User>([created(), suspended()]).when(because).then_events([]);
}

#[test]
fn a_role_is_given_once_and_taken_once() {
    given::<User>([created()]).when(Command::AssignRole(manager())).then_events([assigned(manager())]);
    let with_role = [created(), assigned(manager())];
    given::<User>(with_role.clone()).when(Command::AssignRole(manager())).then_events([]);
    given::<User>(with_role.clone()).when(Command::RemoveRole(manager())).then_events([removed(manager())]);
    given::<User>(with_role.clone()).when(Command::RemoveRole(RoleName::admin())).then_events([]);
    assert_eq!(profile(with_role).roles, [manager()].into());
    assert!(profile([created(), assigned(manager()), removed(manager())]).roles.is_empty());
}

#[test]
fn who_is_not_there_has_neither_status_nor_roles() {
    for events in [vec![], vec![created(), deleted()]] {
        for command in [to(Status::Active), Command::AssignRole(manager()), Command::RemoveRole(manager())] {
            given::<User>(events.clone()).when(command).then_rejected(Rejection::NotFound);
        }
    }
}

#[test]
fn an_administrator_has_the_role_and_can_use_it_while_active() {
    let can = |events: &[Event]| {
        let profile = profile(events.to_vec());
        (profile.is_administrator(), profile.can_administrate())
    };
    let admin = assigned(RoleName::admin());
    assert_eq!(can(&[created()]), (false, false));
    assert_eq!(can(&[created(), assigned(manager())]), (false, false));
    assert_eq!(can(&[created(), admin.clone()]), (true, true));
    assert_eq!(can(&[created(), admin, suspended()]), (true, false));
}

#[test]
fn only_who_was_dismissed_is_taken_away_as_an_administrator() {
    let admin = || assigned(RoleName::admin());
    for (command, event) in [
        (to(Status::Suspended), suspended()),
        (Command::RemoveRole(RoleName::admin()), removed(RoleName::admin())),
        (Command::Delete, deleted()),
    ] {
        let events = [created(), admin()];
        given::<User>(events.clone()).when(command.clone()).then_rejected(Rejection::Administrator);
        let of_dismissed = Command::OfDismissed(command.clone().into());
        given::<User>(events.clone()).when(of_dismissed).then_events([event.clone()]);
        // Whoever can't act is none who could be the last.
        let banned = Event::StatusChanged(StatusChanged { status: Status::Banned, reason: None });
        given::<User>([created(), banned, admin()]).when(command).then_events([event]);
    }
    let other = Command::RemoveRole(manager());
    let events = [created(), admin(), assigned(manager())];
    given::<User>(events).when(other).then_events([removed(manager())]);
}

#[test]
fn an_administrator_who_can_act_is_confirmed_each_time() {
    let confirmed = || Event::AdministratorConfirmed(AdministratorConfirmed {});
    let admin = [created(), assigned(RoleName::admin())];
    given::<User>(admin.clone()).when(Command::Confirm).then_events([confirmed()]);
    let again = [admin.as_slice(), &[confirmed()]].concat();
    given::<User>(again.clone()).when(Command::Confirm).then_events([confirmed()]);
    assert_eq!(profile(again), profile(admin.clone()));
    given::<User>([admin.as_slice(), &[suspended()]].concat()).when(Command::Confirm).then_events([]);
    given::<User>([created()]).when(Command::Confirm).then_events([]);
    given::<User>([]).when(Command::Confirm).then_rejected(Rejection::NotFound);
}
