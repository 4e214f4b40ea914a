//! What other services send, each message one to five times and now and then once more: users who come, change and go,
//! customers, tokens used, questions; some of it is poison.

use std::collections::{BTreeMap, VecDeque};

use rdkafka::producer::future_producer::DeliveryFuture;
use serde_json::{Value, json};

use super::model::{Letter, Sent, Topic, What};
use super::rig::Rig;
use crate::server::assert_log_is_whole;

const STATUSES: [&str; 3] = ["suspended", "inactive", "active"];
/// Theirs, and what it is here.
const ROLES: [(&str, &str); 3] =
    [("admin", "CUSTOMER_ADMIN"), ("accountant", "MANAGER"), ("visitor", "CUSTOMER_USER")];
const USERS: usize = 6;
const MOST_COPIES: usize = 5;

/// A message to be sent.
#[derive(Clone)]
pub(crate) struct Message {
    says: Topic,
    key: String,
    value: Vec<u8>,
    what: What,
}

/// Messages of one key, in their order.
type Line = VecDeque<Message>;

/// Makes and sends messages, and knows what was sent.
pub(crate) struct Load {
    /// In all ids.
    name: String,
    /// Of whom tokens are used and who has users; they are there before.
    customers: Vec<String>,
    /// A message of so many is poison.
    poison: usize,
    pub(crate) sent: Vec<Sent>,
    /// The log's before.
    pub(crate) head: i64,
    /// How far partitions were judged before.
    from: BTreeMap<(String, i32), i64>,
    waves: Vec<Wave>,
    count: usize,
}

/// Some users, on their way.
struct Wave {
    users: Vec<String>,
    stage: usize,
    /// Up to there everything that was sent must be judged before more is said of them.
    behind: BTreeMap<(String, i32), i64>,
}

impl Load {
    /// With customers made for it.
    pub(crate) async fn new(rig: &Rig, name: &str, poison: usize) -> Self {
        let mut customers = Vec::new();
        for _ in 0..3 {
            let id = rig.customer("sme").await;
            let path = format!("/customers/{id}/tokens/purchase");
            let bought = rig.server.post(&path, &json!({ "amount": 1_000_000 })).send().await.unwrap();
            assert!(bought.status().is_success());
            customers.push(id);
        }
        let (head, from) = (assert_log_is_whole(&rig.pool).await, rig.judged().await);
        let (sent, waves) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), customers, poison, sent, head, from, waves, count: 0 }
    }

    /// Whether an id is of this load.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        id.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('-'))
    }

    pub(crate) fn has_sent(&self, (topic, partition, offset, _): &Letter) -> bool {
        let from = self.from.get(&(topic.clone(), *partition));
        from.is_none_or(|from| offset >= from)
    }

    /// Behind what was sent, in each partition that has some.
    pub(crate) fn ends(&self, rig: &Rig) -> BTreeMap<(String, i32), i64> {
        let mut ends = BTreeMap::new();
        for sent in &self.sent {
            let end = ends.entry((rig.topic(sent.says.name()), sent.partition)).or_default();
            *end = (sent.offset + 1).max(*end);
        }
        ends
    }

    /// Sends what can be sent now, with so many waves of users under way.
    pub(crate) async fn go_on(&mut self, rig: &Rig, most: usize) {
        let judged = rig.judged().await;
        let is_judged = |wave: &Wave| {
            wave.behind.iter().all(|(place, next)| judged.get(place).is_some_and(|judged| judged >= next))
        };
        let (ready, waiting): (Vec<Wave>, Vec<Wave>) =
            std::mem::take(&mut self.waves).into_iter().partition(is_judged);
        self.waves = waiting;
        for wave in ready.into_iter().filter(|wave| wave.stage < 2) {
            self.send_wave(rig, Wave { stage: wave.stage + 1, ..wave }).await;
        }
        if self.waves.len() < most {
            self.count += 1;
            let users = (0..USERS).map(|n| format!("{}-{}.{n}", self.name, self.count)).collect();
            self.send_wave(rig, Wave { users, stage: 0, behind: BTreeMap::new() }).await;
        }
    }

    async fn send_wave(&mut self, rig: &Rig, mut wave: Wave) {
        let mut lines: Vec<Line> = Vec::new();
        for user in &wave.users {
            match wave.stage {
                0 => lines.push([self.created(user)].into()),
                1 => {
                    lines.push((0..4).map(|_| status(user)).collect());
                    lines.push((0..4).map(|_| role(user)).collect());
                }
                _ => lines.extend(fastrand::bool().then(|| [deleted(user)].into())),
            }
        }
        if wave.stage == 0 {
            lines.extend(self.others(rig));
        }
        let lines = lines.into_iter().map(copied).collect();
        for sent in self.send(rig, mixed(lines)).await {
            wave.behind.insert((rig.topic(sent.says.name()), sent.partition), sent.offset + 1);
        }
        self.waves.push(wave);
    }

    /// Sends messages in this order. Returns where they stand.
    async fn send(&mut self, rig: &Rig, messages: Vec<Message>) -> Vec<Sent> {
        let mut under_way: Vec<(Topic, What, DeliveryFuture)> = Vec::new();
        for Message { says, key, value, what } in messages {
            under_way.push((says, what, rig.enqueue(&rig.topic(says.name()), &key, &value, &[])));
            if self.poison > 0 && fastrand::usize(..self.poison) == 0 {
                let Message { says, key, value, what } = self.bad();
                for _ in 0..fastrand::usize(1..=MOST_COPIES) {
                    let sent = rig.enqueue(&rig.topic(says.name()), &key, &value, &[]);
                    under_way.push((says, what.clone(), sent));
                }
            }
        }
        let before = self.sent.len();
        for (says, what, delivery) in under_way {
            let delivery = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
            self.sent.push(Sent { says, partition: delivery.partition, offset: delivery.offset, what });
        }
        self.sent[before..].to_vec()
    }

    fn any_customer(&self) -> String {
        fastrand::choice(&self.customers).unwrap().clone()
    }

    fn created(&self, id: &str) -> Message {
        let value = self.user(id, &self.any_customer(), "SME_USER");
        Message {
            says: Topic::UserCreated,
            key: id.to_owned(),
            value: bytes(&value),
            what: What::User(id.into()),
        }
    }

    fn user(&self, id: &str, customer: &str, user_type: &str) -> Value {
        let mut user = super::created(id, customer, user_type);
        user["email"] = json!(format!("{id}@{}.example.org", self.name));
        user
    }

    /// What is no user.
    fn others(&mut self, rig: &Rig) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for n in 0..2 {
            let id = format!("{}-c{}.{n}", self.name, self.count);
            let value = json!({ "customerId": id, "name": "Banque du Lac", "type": "INSTITUTION" });
            let what = What::Customer(id.clone());
            lines
                .push([Message { says: Topic::CustomerCreated, key: id, value: bytes(&value), what }].into());
        }
        for customer in self.customers.clone() {
            let use_tokens = |n| {
                let (request, amount) = (format!("{}-{}.{n}", self.name, self.count), fastrand::u64(1..=9));
                let value = json!({ "customerId": customer, "amount": amount, "serviceType": "chat",
                                    "requestId": request });
                let what = What::Usage(customer.clone(), request, amount);
                Message { says: Topic::TokenUsage, key: customer.clone(), value: bytes(&value), what }
            };
            lines.push((0..3).map(use_tokens).collect());
        }
        let (customer, request) = (self.any_customer(), format!("{}-q{}", self.name, self.count));
        let value = json!({ "requestingService": "admin-service", "requestType": "customer", "entityId": customer,
                            "responsePattern": rig.topic("reply"), "requestId": request });
        let question =
            Message { says: Topic::DataRequest, key: request, value: bytes(&value), what: What::Question };
        lines.push([question].into());
        lines
    }

    /// Something that nobody can carry out.
    fn bad(&self) -> Message {
        let id = format!("{}-bad{}", self.name, fastrand::u32(..));
        let (says, value, code) = match fastrand::u8(..6) {
            0 => (Topic::UserStatus, b"{\"userId\":".to_vec(), "NOT_JSON"),
            1 => (Topic::UserRole, bytes(&json!({ "userId": id })), "VALIDATION_ERROR"),
            2 => {
                let user = self.user(&id, &self.any_customer(), "NOBODY");
                (Topic::UserCreated, bytes(&user), "VALIDATION_ERROR")
            }
            3 => {
                let usage = json!({ "customerId": id, "amount": 1, "serviceType": "chat", "requestId": id });
                (Topic::TokenUsage, bytes(&usage), "NOT_FOUND")
            }
            4 => {
                let usage = json!({ "customerId": self.any_customer(), "amount": 2_000_000, "serviceType": "chat",
                                    "requestId": id });
                (Topic::TokenUsage, bytes(&usage), "NOT_ENOUGH_TOKENS")
            }
            _ => {
                let question = json!({ "requestingService": "admin-service", "requestType": "customer",
                                       "entityId": id, "responsePattern": "nowhere", "requestId": id });
                (Topic::DataRequest, bytes(&question), "REPLY_TOPIC_NOT_ALLOWED")
            }
        };
        Message { says, key: id, value, what: What::Poison(code) }
    }
}

fn status(id: &str) -> Message {
    let to = *fastrand::choice(&STATUSES).unwrap();
    let value = json!({ "userId": id, "newStatus": to.to_uppercase(), "changedBy": "admin" });
    let what = What::Status(id.to_owned(), to);
    Message { says: Topic::UserStatus, key: id.to_owned(), value: bytes(&value), what }
}

fn role(id: &str) -> Message {
    let (theirs, ours) = *fastrand::choice(&ROLES).unwrap();
    let value = json!({ "userId": id, "newRole": theirs, "changedBy": "admin" });
    let what = What::Role(id.to_owned(), ours);
    Message { says: Topic::UserRole, key: id.to_owned(), value: bytes(&value), what }
}

fn deleted(id: &str) -> Message {
    let value = bytes(&json!({ "userId": id }));
    Message { says: Topic::UserDeleted, key: id.to_owned(), value, what: What::Deleted(id.to_owned()) }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Each message some times more, at once or behind later ones of its key, as a sender does that got no answer.
fn copied(line: Line) -> Line {
    let mut copies = Line::new();
    for message in line {
        copies.extend((0..fastrand::usize(0..MOST_COPIES)).map(|_| message.clone()));
        copies.push_back(message);
        if fastrand::u8(..4) == 0 {
            let again = copies[fastrand::usize(..copies.len())].clone();
            copies.push_back(again);
        }
    }
    copies
}

/// The lines mixed, each in its order.
fn mixed(mut lines: Vec<Line>) -> Vec<Message> {
    let mut messages = Vec::new();
    while !lines.is_empty() {
        let at = fastrand::usize(..lines.len());
        match lines[at].pop_front() {
            Some(message) => messages.push(message),
            None => drop(lines.swap_remove(at)),
        }
    }
    messages
}
