//! Registration, addresses, proofs of e-mail addresses.

use chrono::TimeDelta;

use super::tests::{awa, change, changed, email, text};
use super::*;
use crate::given::given;
use crate::values::Patch;

const MAIL: Uuid = Uuid::from_u128(1);
const HOME: Uuid = Uuid::from_u128(2);

fn verification(request: u128, seconds: i64) -> Verification {
    let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
    Verification { request: Uuid::from_u128(request), at, password_changes: 0 }
}

fn registered() -> Event {
    Event::Registered(Registered { user: awa(), verification: verification(1, 0) }.into())
}

fn requested(request: u128, seconds: i64) -> Event {
    let email = awa().email.unwrap();
    Event::VerificationRequested(VerificationRequested {
        email,
        verification: verification(request, seconds),
    })
}

fn verified(request: Uuid) -> Event {
    Event::EmailVerified(EmailVerified { email: awa().email.unwrap(), request })
}

fn status(status: Status) -> Event {
    Event::StatusChanged(StatusChanged { status, reason: None })
}

const VERIFY: Command = Command::VerifyEmail { request: MAIL };

#[test]
fn a_registration_asks_for_a_mail() {
    let register = || Command::Register { user: awa().into(), request: MAIL };
    given::<User>([]).when(register()).then_events([registered()]);
    given::<User>([registered()]).when(register()).then_rejected(Rejection::IdTaken);
}

#[test]
fn who_registers_waits_for_a_proof_of_the_address() {
    let user = given::<User>([registered()]).state();
    assert!(user.active().is_none());
    given::<User>([registered()]).when(VERIFY).then_events([verified(MAIL), status(Status::Active)]);
}

#[test]
fn an_address_that_another_service_has_seen_proven_is_vouched_for_once() {
    let vouch = || Command::VouchForEmail { request: MAIL };
    let created = || Event::Created(awa().into());
    given::<User>([created()]).when(vouch()).then_events([verified(MAIL)]);
    given::<User>([created(), verified(MAIL)]).when(vouch()).then_events([]);
    // Who registered is not let in by it.
    given::<User>([registered()]).when(vouch()).then_events([verified(MAIL)]);
    let without = NewUser { email: None, ..awa() };
    given::<User>([Event::Created(without.into())]).when(vouch()).then_rejected(Rejection::NoEmail);
}

#[test]
fn a_proof_lets_nobody_in_whom_an_administrator_shut_out() {
    given::<User>([registered(), status(Status::Suspended)]).when(VERIFY).then_events([verified(MAIL)]);
    given::<User>([registered(), status(Status::Active), status(Status::Pending)])
        .when(VERIFY)
        .then_events([verified(MAIL)]);
}

#[test]
fn a_link_proves_once_and_only_the_address_it_went_to() {
    let other = Changes { email: Patch::Set(email("autre@example.org")), ..Changes::default() };
    let back = Changes { email: Patch::Set(awa().email.unwrap()), ..Changes::default() };
    given::<User>([registered(), verified(MAIL)]).when(VERIFY).then_rejected(Rejection::LinkVoid);
    given::<User>([registered(), changed(other.clone())]).when(VERIFY).then_rejected(Rejection::LinkVoid);
    given::<User>([registered(), changed(other), changed(back)])
        .when(VERIFY)
        .then_rejected(Rejection::LinkVoid);
    given::<User>([Event::Created(awa().into())]).when(VERIFY).then_rejected(Rejection::LinkVoid);
}

#[test]
fn one_mail_is_asked_for_in_a_minute_five_in_an_hour_and_none_once_proven() {
    let ask = || Command::RequestVerification { request: Uuid::from_u128(3), password_changes: 0 };
    let user = |seconds| vec![Event::Created(awa().into()), requested(1, seconds)];
    given::<User>(user(-59)).when(ask()).then_events([]);
    given::<User>(user(-60)).when(ask()).then_events([requested(3, 0)]);
    given::<User>([user(-60), vec![verified(MAIL)]].concat()).when(ask()).then_events([]);
    let many = |last: i64| {
        let requests = (1..=5_i64).map(|it| requested(1, (it - 5) * 600 + last));
        [vec![Event::Created(awa().into())], requests.collect()].concat()
    };
    given::<User>(many(-60)).when(ask()).then_events([]);
    given::<User>(many(-1200)).when(ask()).then_events([requested(3, 0)]);
    let nobody = NewUser { email: None, ..awa() };
    given::<User>([Event::Created(nobody.into())]).when(ask()).then_rejected(Rejection::NoEmail);
}

#[test]
fn an_older_link_works_until_there_are_too_many() {
    let mails = |count: u32| {
        let requests = (1..=count).map(|it| requested(it.into(), i64::from(it) * 60));
        [vec![Event::Created(awa().into())], requests.collect()].concat()
    };
    given::<User>(mails(5)).when(VERIFY).then_events([verified(MAIL)]);
    given::<User>(mails(6)).when(VERIFY).then_rejected(Rejection::LinkVoid);
}

fn home() -> AddressKept {
    let address = Address {
        label: Some(text("Maison")),
        line1: text("12, avenue de la Paix"),
        line2: None,
        city: text("Niamey"),
        postal_code: None,
        country: text("Niger"),
    };
    AddressKept { address_id: HOME, address }
}

#[test]
fn an_address_is_added_changed_and_taken_away() {
    let added = || vec![Event::Created(awa().into()), Event::AddressAdded(home())];
    let changes = AddressChanges {
        label: Patch::Clear,
        city: Some(text("Dosso")),
        country: Some(text("Niger")),
        ..AddressChanges::default()
    };
    let change_address = |id| Command::ChangeAddress { id, changes: changes.clone().into() };
    let moved = AddressKept {
        address: Address { label: None, city: text("Dosso"), ..home().address },
        address_id: HOME,
    };
    let moved = Event::AddressUpdated(moved);
    let deleted = Event::AddressDeleted(AddressDeleted { address_id: HOME });
    given::<User>([Event::Created(awa().into())])
        .when(Command::AddAddress(home().into()))
        .then_events([Event::AddressAdded(home())]);
    given::<User>(added()).when(Command::AddAddress(home().into())).then_events([]);
    given::<User>(added()).when(change_address(HOME)).then_events([moved.clone()]);
    given::<User>([added(), vec![moved]].concat()).when(change_address(HOME)).then_events([]);
    given::<User>(added()).when(change_address(MAIL)).then_rejected(Rejection::AddressNotFound);
    given::<User>(added()).when(Command::DeleteAddress(HOME)).then_events([deleted.clone()]);
    given::<User>([added(), vec![deleted]].concat())
        .when(Command::DeleteAddress(HOME))
        .then_rejected(Rejection::AddressNotFound);
}

#[test]
fn addresses_are_so_many_at_most() {
    let many = (0..50_u128)
        .map(|it| Event::AddressAdded(AddressKept { address_id: Uuid::from_u128(100 + it), ..home() }));
    let user = [vec![Event::Created(awa().into())], many.collect()].concat();
    given::<User>(user).when(Command::AddAddress(home().into())).then_rejected(Rejection::TooManyAddresses);
}

#[test]
fn the_second_factor_is_noted_once() {
    let switched = MfaSwitched { mfa_type: MfaType::Totp };
    let user = || vec![Event::Created(awa().into())];
    let on = || [user(), vec![Event::MfaEnabled(switched.clone())]].concat();
    given::<User>(user())
        .when(Command::EnableMfa(MfaType::Totp))
        .then_events([Event::MfaEnabled(switched.clone())]);
    given::<User>(on()).when(Command::EnableMfa(MfaType::Totp)).then_events([]);
    given::<User>(on())
        .when(Command::DisableMfa(MfaType::Totp))
        .then_events([Event::MfaDisabled(switched.clone())]);
    given::<User>(user()).when(Command::DisableMfa(MfaType::Totp)).then_events([]);
}

#[test]
fn who_has_another_address_has_yet_to_prove_it() {
    let other = Changes { email: Patch::Set(email("autre@example.org")), ..Changes::default() };
    let before = || vec![registered(), verified(MAIL), status(Status::Active)];
    given::<User>(before()).when(change(other.clone())).then_events([changed(other.clone())]);
    let user = given::<User>([before(), vec![changed(other)]].concat()).state();
    assert_eq!(user.active().map(|it| (it.email_verified, it.email_changes)), Some((false, 1)));
}
