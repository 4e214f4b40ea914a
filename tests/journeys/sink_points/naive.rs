//! The answer to a commit never comes: the program finds out what became of it, and each message is
//! there once. A relay that sends again without looking is seen to fail.

use std::time::Duration;

use domain::user::User;
use event_store::{Fold, Position};
use messaging::outbox::kafka::Record;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::kafka::CLIENT;
use super::rig::Rig;
use super::{At, Request, Way};
use crate::server::eventually;

/// The answer to the end of a transaction.
const ANSWER: At = At::Kafka(Request::End, Way::Back);
/// How long the naive relay waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
const INIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_relay_that_does_not_look_is_seen_to_fail() {
    let mut rig = Rig::start().await;
    rig.hold().await.unwrap();

    let load = rig.load();
    rig.trap.catch(ANSWER).await;
    load.stop_unharmed().await;
    eventually("the program gives up waiting", async || rig.log().contains("kafka: failing")).await;
    rig.trap.open();
    let counts = rig.hold().await.unwrap();
    println!("sink_points: a commit had no answer; {counts}");
    rig.stop_program().await;

    // The same from here on by a relay that does not look.
    let mut at = rig.sinks.head().await;
    for without_answer in [false, true] {
        let load = rig.load();
        eventually("there is more to send", async || rig.sinks.head().await > at + 20).await;
        load.stop_unharmed().await;
        let records = records_behind(&rig, at).await;
        at = rig.sinks.head().await;
        if without_answer {
            rig.trap.set(ANSWER, 0);
        }
        let brokers = rig.behind.kafka.broker.bootstrap();
        let sent = tokio::task::spawn_blocking(move || send_until_answered(&brokers, &records));
        assert_eq!(sent.await.unwrap(), 1 + usize::from(without_answer));
        rig.trap.open();
        let found = rig.sinks.look_at_topic().await;
        if without_answer {
            let difference = found.unwrap_err();
            println!("sink_points: a naive relay: {difference}");
            assert!(difference.contains("there more than once"), "{difference}");
        } else {
            // Where nothing happens it is right.
            found.unwrap();
        }
    }
    rig.stop().await;
}

async fn records_behind(rig: &Rig, position: i64) -> Vec<Record> {
    let store = rig.sinks.store();
    let fold = Fold::<User>::new(store.clone());
    let mut records = Vec::new();
    for event in store.read_all(Position::new(position), 1_000).await.unwrap() {
        records.extend(Record::of_user(&fold.step(&event).await.unwrap()).unwrap());
    }
    records
}

/// Sends a batch in a transaction, and again until it is told that it is committed. Returns how often
/// it has sent it.
fn send_until_answered(brokers: &str, records: &[Record]) -> usize {
    for times in 1.. {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("client.id", CLIENT)
            .set("transactional.id", "naive")
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        producer.init_transactions(INIT).unwrap();
        producer.begin_transaction().unwrap();
        for record in records {
            let message = BaseRecord::to(record.topic)
                .key(&record.key)
                .payload(&record.value)
                .timestamp(record.time.timestamp_millis())
                .headers(record.headers(None));
            producer.send(message).unwrap();
        }
        if producer.commit_transaction(PATIENCE).is_ok() {
            return times;
        }
    }
    unreachable!("nobody sends so often")
}
