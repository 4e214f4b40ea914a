use std::net::IpAddr;

use chrono::TimeDelta;

use super::*;
use crate::given::given;

const SESSION: Uuid = Uuid::from_u128(7);

fn hash(of: &str) -> PasswordHash {
    PasswordHash::new(of.to_owned())
}

fn set(of: &str) -> Event {
    Event::PasswordSet(PasswordSet { hash: hash(of) })
}

fn from() -> Origin {
    Origin { ip_address: IpAddr::from([127, 0, 0, 1]), user_agent: None }
}

fn log_in(proven: &str) -> Command {
    Command::LogIn { proven: hash(proven), session: SESSION, factor: None, from: from() }
}

fn change(to: &str, proven: Option<&str>) -> Command {
    Command::ChangePassword { to: hash(to), proven: proven.map(hash), kept: None }
}

fn changed(to: &str) -> Event {
    Event::PasswordChanged(PasswordChanged { hash: hash(to), kept_session: None })
}

#[test]
fn a_first_password_is_set_once() {
    given::<Access>([]).when(Command::SetPassword(hash("a"))).then_events([set("a")]);
    given::<Access>([set("a")]).when(Command::SetPassword(hash("b"))).then_events([]);
}

#[test]
fn who_logs_in_has_proven_the_password_of_now() {
    let logged_in = Event::LoggedIn(LoggedIn { session: SESSION, factor: None, from: from() });
    given::<Access>([set("a")]).when(log_in("a")).then_events([logged_in]);
    given::<Access>([set("a"), changed("b")]).when(log_in("a")).then_rejected(Rejection::PasswordHasChanged);
    given::<Access>([]).when(log_in("a")).then_rejected(Rejection::PasswordHasChanged);
}

#[test]
fn one_proof_changes_the_password_once() {
    given::<Access>([set("a")]).when(change("b", Some("a"))).then_events([changed("b")]);
    given::<Access>([set("a"), changed("b")])
        .when(change("c", Some("a")))
        .then_rejected(Rejection::PasswordHasChanged);
}

#[test]
fn who_needs_no_proof_changes_any_password_or_none() {
    given::<Access>([set("a")]).when(change("b", None)).then_events([changed("b")]);
    given::<Access>([]).when(change("b", None)).then_events([changed("b")]);
}

#[test]
fn nobody_has_no_name_that_a_user_may_have() {
    assert_eq!(user_of("570479H"), Some("570479H"));
    assert_eq!(user_of("@MDEyMzQ1Njc4OWFiY2RlZg"), None);
    assert!(!crate::ids::is_well_formed(NOBODY));
}

#[test]
fn a_new_hash_never_brings_an_old_password_back() {
    let rehash = || Command::Rehash { from: hash("a"), to: hash("a2") };
    let rehashed = Event::PasswordRehashed(PasswordSet { hash: hash("a2") });
    given::<Access>([set("a")]).when(rehash()).then_events([rehashed]);
    given::<Access>([set("a"), changed("b")]).when(rehash()).then_events([]);
}

const MAIL: Uuid = Uuid::from_u128(8);
const ENROLMENT: Uuid = Uuid::from_u128(9);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn to() -> ResetTo {
    let email = crate::values::Email::parse("awa@example.org").unwrap();
    ResetTo { email, email_changes: 0, customer_id: None }
}

fn reset(request: u128, seconds: i64) -> Event {
    let request = Uuid::from_u128(request);
    Event::ResetRequested(ResetRequested { request, at: at(seconds), to: to(), from: from() })
}

fn asked() -> Event {
    reset(8, 0)
}

fn reset_password() -> Command {
    Command::ResetPassword { request: MAIL, to: hash("b") }
}

fn was_reset() -> Event {
    Event::PasswordReset(PasswordReset { hash: hash("b"), request: MAIL })
}

#[test]
fn a_link_gives_another_password_once() {
    given::<Access>([set("a"), asked()]).when(reset_password()).then_events([was_reset()]);
    given::<Access>([set("a")]).when(reset_password()).then_rejected(Rejection::LinkVoid);
    given::<Access>([set("a"), asked(), was_reset()])
        .when(reset_password())
        .then_rejected(Rejection::LinkVoid);
}

#[test]
fn who_has_no_password_gets_one_by_a_link() {
    given::<Access>([asked()]).when(reset_password()).then_events([was_reset()]);
}

#[test]
fn another_password_makes_links_worthless_and_another_hash_does_not() {
    given::<Access>([set("a"), asked(), changed("b")])
        .when(reset_password())
        .then_rejected(Rejection::LinkVoid);
    let rehashed = Event::PasswordRehashed(PasswordSet { hash: hash("a2") });
    given::<Access>([set("a"), asked(), rehashed]).when(reset_password()).then_events([was_reset()]);
}

#[test]
fn one_mail_is_asked_for_in_a_minute() {
    let ask = || Command::RequestReset { request: Uuid::from_u128(9), to: to(), from: from() };
    given::<Access>([reset(8, -59)]).when(ask()).then_events([]);
    given::<Access>([reset(8, -60)]).when(ask()).then_events([reset(9, 0)]);
}

#[test]
fn only_so_many_links_are_good_at_a_time() {
    let many = (8..14_u32).map(|it| reset(it.into(), i64::from(it) * 60));
    given::<Access>(many).when(reset_password()).then_rejected(Rejection::LinkVoid);
}

fn enrolled() -> Event {
    Event::MfaEnrolled(MfaEnrolled { enrolment: ENROLMENT })
}

fn confirm(step: u64) -> Command {
    Command::ConfirmMfa { enrolment: ENROLMENT, step }
}

fn confirmed() -> Event {
    Event::MfaConfirmed(MfaConfirmed { enrolment: ENROLMENT, step: 100 })
}

fn factor(code: Code) -> Factor {
    Factor { enrolment: ENROLMENT, code }
}

fn log_in_with(code: Option<Code>) -> Command {
    Command::LogIn { proven: hash("a"), factor: code.map(factor), session: SESSION, from: from() }
}

fn logged_in_with(code: Code) -> Event {
    Event::LoggedIn(LoggedIn { session: SESSION, factor: Some(factor(code)), from: from() })
}

#[test]
fn a_second_factor_is_asked_for_once_it_is_confirmed() {
    let logged_in = Event::LoggedIn(LoggedIn { session: SESSION, factor: None, from: from() });
    given::<Access>([set("a"), enrolled()]).when(log_in_with(None)).then_events([logged_in]);
    given::<Access>([set("a"), enrolled(), confirmed()])
        .when(log_in_with(None))
        .then_rejected(Rejection::FactorMissing);
    given::<Access>([set("a"), enrolled(), confirmed()])
        .when(log_in_with(Some(Code::Step(101))))
        .then_events([logged_in_with(Code::Step(101))]);
}

#[test]
fn a_code_counts_once_and_so_does_a_recovery_code() {
    let on = || vec![set("a"), enrolled(), confirmed()];
    given::<Access>(on()).when(log_in_with(Some(Code::Step(100)))).then_rejected(Rejection::FactorSpent);
    for (code, other) in [(Code::Step(101), Code::Step(102)), (Code::Recovery(3), Code::Recovery(4))] {
        let used = || [on(), vec![logged_in_with(code)]].concat();
        given::<Access>(used()).when(log_in_with(Some(code))).then_rejected(Rejection::FactorSpent);
        given::<Access>(used()).when(log_in_with(Some(other))).then_events([logged_in_with(other)]);
    }
}

#[test]
fn the_code_of_another_secret_is_none() {
    let other = Factor { enrolment: MAIL, code: Code::Recovery(0) };
    let log_in = Command::LogIn { proven: hash("a"), factor: Some(other), session: SESSION, from: from() };
    given::<Access>([set("a"), enrolled(), confirmed()]).when(log_in).then_rejected(Rejection::FactorSpent);
}

#[test]
fn a_secret_is_confirmed_once_and_replaced_only_before_that() {
    let other = Command::EnrolMfa { enrolment: MAIL };
    let other_enrolled = Event::MfaEnrolled(MfaEnrolled { enrolment: MAIL });
    given::<Access>([enrolled()]).when(confirm(100)).then_events([confirmed()]);
    given::<Access>([enrolled()]).when(other.clone()).then_events([other_enrolled.clone()]);
    given::<Access>([enrolled(), other_enrolled]).when(confirm(100)).then_rejected(Rejection::MfaIsOff);
    given::<Access>([enrolled(), confirmed()]).when(other).then_rejected(Rejection::MfaIsOn);
    // After an answer that was lost.
    given::<Access>([enrolled(), confirmed()]).when(confirm(100)).then_events([]);
    given::<Access>([enrolled(), confirmed()]).when(confirm(101)).then_rejected(Rejection::MfaIsOn);
    // The code of a login, which somebody may have seen, is worth nothing here.
    let since = || [set("a"), enrolled(), confirmed(), logged_in_with(Code::Step(101))];
    for step in [100, 101] {
        given::<Access>(since()).when(confirm(step)).then_rejected(Rejection::MfaIsOn);
    }
}

#[test]
fn a_second_factor_is_taken_away_by_who_has_it_or_who_needs_no_proof() {
    let remove = |code: Option<Code>| Command::RemoveMfa { proven: code.map(factor) };
    let removed = Event::MfaRemoved(MfaRemoved { enrolment: ENROLMENT });
    let on = || [set("a"), enrolled(), confirmed()];
    given::<Access>(on()).when(remove(Some(Code::Step(101)))).then_events([removed.clone()]);
    given::<Access>(on()).when(remove(None)).then_events([removed]);
    given::<Access>(on()).when(remove(Some(Code::Step(100)))).then_rejected(Rejection::FactorSpent);
    given::<Access>([set("a"), enrolled()]).when(remove(None)).then_rejected(Rejection::MfaIsOff);
}
