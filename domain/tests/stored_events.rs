//! Stored events stay readable: one line of JSON for every form of every event
//! ever written, read back and written again. A line is added, never changed:
//! what it shows is in people's logs.

#![expect(clippy::unwrap_used, reason = "a line that does not read is the failure looked for")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use domain::{access, administrators, customer, subscription, token_account, user};
use serde::de::value::Error;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::{Value, json};

const USER: &str = include_str!("stored_events/user.ndjson");
const ACCESS: &str = include_str!("stored_events/access.ndjson");
const ADMINISTRATORS: &str = include_str!("stored_events/administrators.ndjson");
const CUSTOMER: &str = include_str!("stored_events/customer.ndjson");
const SUBSCRIPTION: &str = include_str!("stored_events/subscription.ndjson");
const TOKEN_ACCOUNT: &str = include_str!("stored_events/token_account.ndjson");

#[test]
fn every_stored_event_reads_back_and_writes_the_same() {
    reads_back_and_writes_the_same::<user::Event>(USER);
    reads_back_and_writes_the_same::<access::Event>(ACCESS);
    reads_back_and_writes_the_same::<administrators::Event>(ADMINISTRATORS);
    reads_back_and_writes_the_same::<customer::Event>(CUSTOMER);
    reads_back_and_writes_the_same::<subscription::Event>(SUBSCRIPTION);
    reads_back_and_writes_the_same::<token_account::Event>(TOKEN_ACCOUNT);
}

#[test]
fn every_event_has_a_stored_line() {
    assert_eq!(stored_names(USER), names::<user::Event>());
    assert_eq!(stored_names(ACCESS), names::<access::Event>());
    assert_eq!(stored_names(ADMINISTRATORS), names::<administrators::Event>());
    assert_eq!(stored_names(CUSTOMER), names::<customer::Event>());
    assert_eq!(stored_names(SUBSCRIPTION), names::<subscription::Event>());
    assert_eq!(stored_names(TOKEN_ACCOUNT), names::<token_account::Event>());
}

#[test]
fn every_field_has_been_stored_once() {
    assert_eq!(stored_fields(USER, "user.created"), names::<user::NewUser>());
    let fields = |event| stored_fields(USER, event);
    assert_eq!(fields("user.registered"), names::<user::Registered>());
    assert_eq!(fields("user.address.added"), names::<user::AddressKept>());
    assert_eq!(fields("user.address.updated"), names::<user::AddressKept>());
    assert_eq!(fields("user.address.deleted"), names::<user::AddressDeleted>());
    assert_eq!(fields("user.email.verification.requested"), names::<user::VerificationRequested>());
    assert_eq!(fields("user.email.verified"), names::<user::EmailVerified>());
    assert_eq!(fields("user.mfa.enabled"), names::<user::MfaSwitched>());
    assert_eq!(fields("user.mfa.disabled"), names::<user::MfaSwitched>());
    assert_eq!(fields("user.device.registered"), names::<user::DeviceRegistered>());
    assert_eq!(stored_fields(USER, "user.changed"), names::<user::Changes>());
    assert_eq!(stored_fields(USER, "user.status.changed"), names::<user::StatusChanged>());
    assert_eq!(stored_fields(USER, "user.role.assigned"), names::<user::RoleAssigned>());
    assert_eq!(stored_fields(USER, "user.role.removed"), names::<user::RoleRemoved>());
    let confirmed = names::<user::AdministratorConfirmed>();
    assert_eq!(stored_fields(USER, "user.administrator.confirmed"), confirmed);
    let fields = |event| stored_fields(ADMINISTRATORS, event);
    assert_eq!(fields("administrators.appointed"), names::<administrators::Appointed>());
    assert_eq!(fields("administrators.dismissed"), names::<administrators::Dismissed>());
    assert_eq!(stored_fields(USER, "user.deleted"), names::<user::Deleted>());
}

#[test]
fn every_field_of_customers_has_been_stored_once() {
    let fields = |event| stored_fields(CUSTOMER, event);
    assert_eq!(fields("customer.created"), names::<customer::NewCustomer>());
    assert_eq!(fields("customer.changed"), names::<customer::Changes>());
    assert_eq!(fields("customer.validated"), names::<customer::Validated>());
    assert_eq!(fields("customer.suspended"), names::<customer::Suspended>());
    assert_eq!(fields("customer.reactivated"), names::<customer::Reactivated>());
    assert_eq!(fields("customer.subscribed"), names::<customer::Subscribed>());
    assert_eq!(fields("customer.accounting.recorded"), names::<customer::AccountingRecorded>());
    assert_eq!(fields("customer.deleted"), names::<customer::Deleted>());
    let fields = |event| stored_fields(SUBSCRIPTION, event);
    assert_eq!(fields("subscription.created"), names::<subscription::NewSubscription>());
    assert_eq!(fields("subscription.changed"), names::<subscription::Changes>());
    assert_eq!(fields("subscription.period.started"), names::<subscription::PeriodStarted>());
    assert_eq!(fields("subscription.renewed"), names::<subscription::Renewed>());
    assert_eq!(fields("subscription.cancelled"), names::<subscription::Cancelled>());
    assert_eq!(fields("subscription.expired"), names::<subscription::Expired>());
    for event in ["purchased", "used", "allocated"] {
        let fields = stored_fields(TOKEN_ACCOUNT, &format!("token_account.{event}"));
        assert_eq!(fields, names::<token_account::Moved>());
    }
    assert_eq!(stored_fields(TOKEN_ACCOUNT, "token_account.closed"), names::<token_account::Closed>());
}

#[test]
fn a_field_of_a_later_version_is_read_past() {
    reads_past_a_later_field::<user::Event>(USER);
    reads_past_a_later_field::<administrators::Event>(ADMINISTRATORS);
    reads_past_a_later_field::<customer::Event>(CUSTOMER);
    reads_past_a_later_field::<subscription::Event>(SUBSCRIPTION);
    reads_past_a_later_field::<token_account::Event>(TOKEN_ACCOUNT);
}

fn reads_past_a_later_field<E: DeserializeOwned + Serialize>(stored: &str) {
    for line in lines(stored) {
        let mut later = line.clone();
        for data in later.as_object_mut().unwrap().values_mut() {
            data.as_object_mut().unwrap().insert("later".to_owned(), json!({"a": [1]}));
        }
        let event: E = serde_json::from_value(later).unwrap();
        assert_eq!(serde_json::to_value(event).unwrap(), line);
    }
}

fn reads_back_and_writes_the_same<E: Debug + DeserializeOwned + Serialize>(stored: &str) {
    for line in lines(stored) {
        let event: E = serde_json::from_value(line.clone()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), line, "{event:?}");
    }
}

fn lines(stored: &str) -> impl Iterator<Item = Value> {
    stored.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn stored_names(stored: &str) -> BTreeSet<String> {
    lines(stored).flat_map(|line| keys(&line)).collect()
}

fn stored_fields(stored: &str, event: &str) -> BTreeSet<String> {
    lines(stored).filter_map(|line| line.get(event).map(keys)).flatten().collect()
}

fn keys(object: &Value) -> Vec<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// The stored names of an enum's variants or a struct's fields, asked of the
/// type itself: a list written here could be forgotten.
fn names<'de, T: Debug + Deserialize<'de>>() -> BTreeSet<String> {
    let mut names = None;
    T::deserialize(Ask { names: &mut names }).unwrap_err();
    names.unwrap().iter().map(ToString::to_string).collect()
}

/// Answers no value; only notes which names it was asked for.
struct Ask<'a> {
    names: &'a mut Option<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.names = Some(variants);
        Err(Error::custom("asked for names only"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.names = Some(fields);
        Err(Error::custom("asked for names only"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("neither an enum nor a struct with named fields"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}
