//! What a client of Kafka can reach that does nothing else: one producer, one transaction for what has
//! come since the last, and no log, no checkpoint, no PostgreSQL.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bench::Failure;
use event_store::Position;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

pub(crate) const TOPIC: &str = "bench.plain";
const ANSWER: Duration = Duration::from_secs(20);

/// A message: its key, and the position it stands for.
type Sent = (String, Position);

pub(crate) struct Plain {
    queue: mpsc::Sender<Sent>,
    last: i64,
}

impl Plain {
    pub(crate) async fn start(brokers: &str, partitions: i32) -> Result<Self, Failure> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        let admin: AdminClient<DefaultClientContext> = client.create()?;
        let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1));
        admin.create_topics(&[topic], &AdminOptions::new().operation_timeout(Some(ANSWER))).await?;
        let producer: ThreadedProducer<DefaultProducerContext> = client
            .set("transactional.id", TOPIC)
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.ms", "0")
            .set("socket.nagle.disable", "true")
            .create()?;
        let (queue, queued) = mpsc::channel();
        std::thread::spawn(move || produce(&producer, &queued));
        Ok(Self { queue, last: 0 })
    }

    /// Sends at a steady pace; when each was handed over.
    pub(crate) async fn round(
        &mut self,
        rate: u64,
        seconds: u64,
    ) -> Result<HashMap<Position, Instant>, Failure> {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
        let mut begun = HashMap::new();
        for _ in 0..rate * seconds {
            pace.tick().await;
            self.last += 1;
            let position = Position::new(self.last);
            begun.insert(position, Instant::now());
            self.queue.send((format!("user-{}", fastrand::u16(..1000)), position))?;
        }
        Ok(begun)
    }
}

fn produce(
    producer: &ThreadedProducer<DefaultProducerContext>,
    queued: &mpsc::Receiver<Sent>,
) -> Result<(), Failure> {
    let value = "x".repeat(400);
    producer.init_transactions(ANSWER)?;
    while let Ok(first) = queued.recv() {
        producer.begin_transaction()?;
        for (key, position) in std::iter::once(first).chain(queued.try_iter()) {
            let position = position.get().to_string();
            let headers = OwnedHeaders::new().insert(Header { key: "position", value: Some(&position) });
            let record = BaseRecord::to(TOPIC).key(&key).payload(&value).headers(headers);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        // A commit that finds reports under way asks again only 100 ms later.
        while producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        producer.commit_transaction(ANSWER)?;
    }
    Ok(())
}
