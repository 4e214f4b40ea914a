//! What must hold of messages, whatever was killed: each has one outcome, and it is the right one.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use serde_json::Value;
use sqlx::types::Json;

use super::load::Load;
use super::model::{Letter, Model, Topic, User};
use super::rig::Rig;
use crate::server::{assert_log_is_whole, eventually};

/// Waits until everything is judged. The first difference then between what became of it and what must have.
pub(crate) async fn judge(rig: &Rig, load: &Load) -> Result<Model, String> {
    eventually("every message has its outcome", async || {
        let judged = rig.judged().await;
        load.ends(rig).iter().all(|(place, end)| judged.get(place).is_some_and(|next| next >= end))
    })
    .await;
    let (model, head) = (Model::of(load.sent.clone()), assert_log_is_whole(&rig.pool).await);
    partitions(rig, load).await?;
    streams(rig, load, &model).await?;
    let expected = load.head + model.events();
    if head != expected {
        return Err(format!("{head} events, {expected} expected: some stream has too many"));
    }
    letters(rig, load, &model).await?;
    let answers = answers(rig, load).await;
    if answers != model.questions {
        return Err(format!("{} questions, {answers} answers", model.questions));
    }
    Ok(model)
}

/// Nothing is judged that was not sent, and no partition is known twice.
async fn partitions(rig: &Rig, load: &Load) -> Result<(), String> {
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM inbox").fetch_one(&rig.pool).await.unwrap();
    let judged = rig.judged().await;
    if usize::try_from(rows).unwrap() != judged.len() {
        return Err(format!("{rows} partitions are kept, there are {}", judged.len()));
    }
    for (place, end) in load.ends(rig) {
        if judged.get(&place) != Some(&end) {
            return Err(format!("{place:?} ends at {end} and is judged up to {:?}", judged.get(&place)));
        }
    }
    Ok(())
}

async fn streams(rig: &Rig, load: &Load, model: &Model) -> Result<(), String> {
    let rows: Vec<(String, String, Json<Value>)> = sqlx::query_as(
        "SELECT stream, type, convert_from(data, 'UTF8')::jsonb FROM events
         WHERE position > $1 ORDER BY stream, version",
    )
    .bind(load.head)
    .fetch_all(&rig.pool)
    .await
    .unwrap();
    let mut found = Model::default();
    for (stream, kind, Json(data)) in rows {
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        let (category, id) = stream.split_once('-').unwrap();
        let is_known = match (category, kind.as_str()) {
            ("user", "user.created") => found.users.insert(id.to_owned(), User::default()).is_none(),
            ("customer", "customer.created") => found.customers.insert(id.to_owned()),
            ("token_account", "token_account.used") => {
                let account = found.accounts.entry(id.to_owned()).or_default();
                account.used += data["movement"]["amount"].as_u64().unwrap();
                let request = data["movement"]["requestId"].as_str().unwrap().to_owned();
                account.requests.push(request.clone());
                account.known.insert(request)
            }
            ("user", kind) => match (kind, found.users.get_mut(id)) {
                (_, None | Some(User { is_deleted: true, .. })) => false,
                ("user.status.changed", Some(user)) => {
                    user.statuses.push(text("status"));
                    true
                }
                ("user.role.assigned", Some(user)) => {
                    user.roles.push(text("role"));
                    true
                }
                ("user.role.removed", Some(_)) => true,
                ("user.deleted", Some(user)) => {
                    user.is_deleted = true;
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if !is_known {
            return Err(format!("{stream} has one {kind} too many"));
        }
    }
    same("user", &model.users, &found.users)?;
    same("account", &model.accounts, &found.accounts)?;
    let customers: Vec<_> = model.customers.symmetric_difference(&found.customers).collect();
    if customers.is_empty() { Ok(()) } else { Err(format!("customers {customers:?}")) }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
) -> Result<(), String> {
    for id in expected.keys().chain(found.keys()) {
        let (expected, found) = (expected.get(id), found.get(id));
        if expected != found {
            return Err(format!("{what} {id}: {expected:?} expected, {found:?} found"));
        }
    }
    Ok(())
}

/// Each is kept once, and is at least once on its topic.
async fn letters(rig: &Rig, load: &Load, model: &Model) -> Result<(), String> {
    eventually("every dead letter is on its topic", async || {
        let left = sqlx::query_scalar("SELECT count(*) FROM inbound_dead_letters WHERE relayed_at IS NULL");
        left.fetch_one(&rig.pool).await.unwrap_or(1_i64) == 0
    })
    .await;
    let rows: Vec<(String, i32, i64, String)> =
        sqlx::query_as("SELECT topic, partition, \"offset\", code FROM inbound_dead_letters")
            .fetch_all(&rig.pool)
            .await
            .unwrap();
    let kept: BTreeSet<Letter> = rows.into_iter().filter(|letter| load.has_sent(letter)).collect();
    let on_topics: BTreeSet<Letter> =
        on_topics(rig).await.into_iter().filter(|it| load.has_sent(it)).collect();
    let expected: BTreeSet<Letter> = model
        .letters
        .iter()
        .map(|(topic, partition, offset, code)| (rig.topic(topic), *partition, *offset, code.clone()))
        .collect();
    for (what, found) in [("kept", &kept), ("on topics", &on_topics)] {
        let differing: Vec<_> = expected.symmetric_difference(found).take(5).collect();
        if !differing.is_empty() {
            return Err(format!("dead letters {what} differ: {differing:?}"));
        }
    }
    Ok(())
}

async fn on_topics(rig: &Rig) -> Vec<Letter> {
    let topics = Topic::ALL.map(|topic| format!("{}.dlq", rig.topic(topic.name())));
    let letter = |message: &BorrowedMessage<'_>| {
        let header = |name| header(message, name).unwrap();
        let error = header("x-error");
        let code = error.split(':').next().unwrap().to_owned();
        let (partition, offset) = (header("x-original-partition"), header("x-original-offset"));
        (header("x-original-topic"), partition.parse().unwrap(), offset.parse().unwrap(), code)
    };
    all(rig, topics.to_vec(), letter).await
}

/// How many questions of this load have been answered.
async fn answers(rig: &Rig, load: &Load) -> usize {
    let answer = |message: &BorrowedMessage<'_>| {
        let key = String::from_utf8(message.key().unwrap_or_default().to_vec()).unwrap();
        (key, header(message, "ce_id").unwrap())
    };
    let all: BTreeSet<(String, String)> =
        all(rig, vec![rig.topic("reply")], answer).await.into_iter().collect();
    all.into_iter().filter(|(key, _)| load.is_of(key)).count()
}

fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let header = message.headers()?.iter().find(|it| it.key == name)?;
    String::from_utf8(header.value?.to_vec()).ok()
}

/// Everything on these topics.
async fn all<T: Send + 'static>(
    rig: &Rig,
    topics: Vec<String>,
    read: impl Fn(&BorrowedMessage<'_>) -> T + Send + 'static,
) -> Vec<T> {
    let mut client = rig.client();
    client.set("group.id", "oracle").set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    let reading = move || {
        let consumer: BaseConsumer = client.create().unwrap();
        let metadata = consumer.fetch_metadata(None, std::time::Duration::from_secs(10)).unwrap();
        let mut partitions = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|it| topics.iter().any(|name| name == it.name())) {
            for partition in topic.partitions() {
                partitions.add_partition_offset(topic.name(), partition.id(), Offset::Beginning).unwrap();
            }
        }
        consumer.assign(&partitions).unwrap();
        let (mut found, mut ended) = (Vec::new(), 0);
        while ended < partitions.count() {
            match consumer.poll(std::time::Duration::from_secs(10)).unwrap() {
                Ok(message) => found.push(read(&message)),
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found
    };
    tokio::task::spawn_blocking(reading).await.unwrap()
}
