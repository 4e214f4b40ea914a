//! What other services ask of users.

use serde_json::json;

use super::tests::{awa, change, text};
use super::*;
use crate::given::given;
use crate::values::Preferences;

fn created() -> Event {
    Event::Created(awa().into())
}

fn role(name: &str) -> RoleName {
    RoleName::parse(name).unwrap()
}

fn assigned(name: &str) -> Event {
    Event::RoleAssigned(RoleAssigned { role: role(name) })
}

fn removed(name: &str) -> Event {
    Event::RoleRemoved(RoleRemoved { role: role(name) })
}

fn replace(name: &str) -> Command {
    Command::ReplaceRole(role(name))
}

fn of_service(command: Command) -> Command {
    Command::OfService(command.into())
}

fn renamed() -> Changes {
    Changes { nom: Some(text("Ndiaye")), ..Changes::default() }
}

fn about(version: usize) -> Preferences {
    Preferences::parse(json!({ "version": version })).unwrap()
}

fn device(id: usize, version: usize) -> Device {
    Device { device_id: text(&format!("d-{id}")), device: about(version) }
}

fn registered(id: usize, version: usize) -> Event {
    let Device { device_id, device } = device(id, version);
    Event::DeviceRegistered(DeviceRegistered { device_id, device })
}

fn register(id: usize, version: usize) -> Command {
    Command::RegisterDevice(device(id, version))
}

#[test]
fn a_role_takes_the_place_of_every_other_customer_role() {
    let before = [created(), assigned("MANAGER"), assigned("auditor"), assigned("CUSTOMER_ADMIN")];
    given::<User>(before.clone()).when(replace("CUSTOMER_USER")).then_events([
        removed("CUSTOMER_ADMIN"),
        removed("MANAGER"),
        assigned("CUSTOMER_USER"),
    ]);
    given::<User>(before).when(replace("MANAGER")).then_events([removed("CUSTOMER_ADMIN")]);
    given::<User>([created()]).when(replace("MANAGER")).then_events([assigned("MANAGER")]);
    given::<User>([created(), assigned("MANAGER")]).when(replace("MANAGER")).then_events([]);
}

#[test]
fn a_customer_role_leaves_administrators_what_they_are() {
    let admin = [created(), assigned("admin"), assigned("MANAGER")];
    given::<User>(admin.clone())
        .when(replace("CUSTOMER_USER"))
        .then_events([removed("MANAGER"), assigned("CUSTOMER_USER")]);
    given::<User>(admin).when(replace("admin")).then_rejected(Rejection::Protected);
    given::<User>([created()]).when(replace("admin")).then_rejected(Rejection::Protected);
}

#[test]
fn another_service_may_ask_of_anyone_else_what_all_may() {
    let suspend = Command::ChangeStatus { to: Status::Suspended, reason: None };
    for command in [Command::Delete, change(renamed()), suspend, replace("MANAGER"), register(1, 1)] {
        let expected = given::<User>([created()]).state().decide(command.clone(), DateTime::UNIX_EPOCH);
        given::<User>([created()]).when(of_service(command.clone())).then_events(expected.unwrap());
        given::<User>([]).when(of_service(command)).then_rejected(Rejection::NotFound);
    }
    given::<User>([]).when(of_service(Command::Create(awa().into()))).then_events([created()]);
    let gone = [created(), Event::Deleted(Deleted {})];
    given::<User>(gone).when(of_service(Command::Delete)).then_rejected(Rejection::NotFound);
}

#[test]
fn another_service_may_ask_nothing_of_an_administrator() {
    let suspended = Event::StatusChanged(StatusChanged { status: Status::Suspended, reason: None });
    let admin = vec![created(), assigned("admin"), assigned("MANAGER")];
    for history in [admin.clone(), [admin, vec![suspended]].concat()] {
        for command in [
            Command::Delete,
            change(Changes::default()),
            Command::ChangeStatus { to: Status::Suspended, reason: None },
            Command::ChangeStatus { to: Status::Active, reason: None },
            Command::RemoveRole(role("MANAGER")),
            replace("CUSTOMER_USER"),
            register(1, 1),
            Command::OfDismissed(Command::Delete.into()),
        ] {
            given::<User>(history.clone()).when(of_service(command)).then_rejected(Rejection::Protected);
        }
        let create = Command::Create(awa().into());
        given::<User>(history).when(of_service(create)).then_rejected(Rejection::IdTaken);
    }
}

#[test]
fn another_service_makes_nobody_an_administrator_nor_says_that_someone_is_none() {
    for command in [Command::AssignRole(role("admin")), Command::RemoveRole(role("admin")), replace("admin")]
    {
        for hidden in [
            of_service(command.clone()),
            of_service(of_service(command.clone())),
            of_service(Command::OfDismissed(command.clone().into())),
            Command::OfDismissed(of_service(command).into()),
        ] {
            given::<User>([created()]).when(hidden).then_rejected(Rejection::Protected);
        }
    }
}

#[test]
fn a_device_is_registered_when_something_of_it_is_new() {
    given::<User>([created()]).when(register(1, 1)).then_events([registered(1, 1)]);
    let one = [created(), registered(1, 1)];
    given::<User>(one.clone()).when(register(1, 1)).then_events([]);
    given::<User>(one.clone()).when(register(1, 2)).then_events([registered(1, 2)]);
    given::<User>(one).when(register(2, 1)).then_events([registered(2, 1)]);
}

#[test]
fn of_too_many_devices_the_one_registered_longest_ago_goes() {
    let known = |events: Vec<Event>| {
        let user = given::<User>(events).state();
        user.active().unwrap().devices.iter().cloned().collect::<Vec<_>>()
    };
    let full: Vec<Event> =
        std::iter::once(created()).chain((1..=DEVICES).map(|id| registered(id, 1))).collect();
    let devices = |ids: &mut dyn Iterator<Item = usize>| ids.map(|id| device(id, 1)).collect::<Vec<_>>();
    assert_eq!(known(full.clone()), devices(&mut (1..=DEVICES)));

    let one_more = [full.clone(), vec![registered(DEVICES + 1, 1)]].concat();
    assert_eq!(known(one_more), devices(&mut (2..=DEVICES + 1)));

    // Who was registered again is the last.
    let again = [full, vec![registered(1, 2), registered(DEVICES + 1, 1)]].concat();
    let expected = [devices(&mut (3..=DEVICES)), vec![device(1, 2), device(DEVICES + 1, 1)]].concat();
    assert_eq!(known(again), expected);
}

#[test]
fn a_user_may_be_created_with_a_role_but_not_as_an_administrator() {
    let with = |name: &str| Command::Create(NewUser { role: Some(role(name)), ..awa() }.into());
    let created = |name: &str| Event::Created(NewUser { role: Some(role(name)), ..awa() }.into());
    for ask in [|it| it, of_service] {
        given::<User>([]).when(ask(with("MANAGER"))).then_events([created("MANAGER")]);
        given::<User>([]).when(ask(with(RoleName::ADMIN))).then_rejected(Rejection::Protected);
    }
    assert_eq!(given::<User>([created("MANAGER")]).state().active().map(|it| it.roles.len()), Some(1));
}
