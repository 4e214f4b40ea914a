//! How fast a log that nobody has followed yet gets into Redis, and into Kafka: the program itself, with
//! the role `outbox` alone, and what it takes of memory. Each in turn with a client that only writes as
//! much: entries of the same size with XADD, messages in transactions of the same length.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bench::{Failure, fill, median, whole};
use messaging::routes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::process::{Child, Command};

use crate::{PARTITIONS, STREAM};

/// Each event of the log becomes so many messages.
const MESSAGES: i64 = 4;
/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ARRIVE_WITHIN: Duration = Duration::from_mins(10);
/// What nobody listens at: the sink that is not measured waits.
const NOWHERE: &str = "127.0.0.1:1";

pub(crate) struct Drain {
    admin: String,
    redis: String,
    brokers: String,
    program: PathBuf,
}

/// A rate, and the most memory the program had, in MB.
struct Drained {
    rate: f64,
    memory: f64,
}

impl Drain {
    pub(crate) fn new(
        admin: String,
        redis: String,
        brokers: String,
        program: &Path,
    ) -> Result<Self, Failure> {
        Ok(Self { admin, redis, brokers, program: program.canonicalize()? })
    }

    /// So many events go to Redis, and a quarter of them, which are as many messages, to Kafka.
    pub(crate) async fn run(&self, events: i64, rounds: usize) -> Result<(), Failure> {
        for (name, events) in [("redis", events), ("kafka", events / MESSAGES)] {
            let filled = self.database(&format!("drain_{name}"), None).await?;
            let pool = PgPool::connect(&filled).await?;
            event_store::MIGRATOR.run(&pool).await?;
            sqlx::raw_sql(bench::reference::TABLE).execute(&pool).await?;
            fill::fill(&pool, events).await?;
            pool.close().await;
            let what = if name == "redis" { "entries" } else { "messages" };
            println!("\n{events} events to {name}; {what} a second");
            let (mut rates, mut ratios, mut memory) = (Vec::new(), Vec::new(), Vec::new());
            for round in 1..=rounds {
                let (ours, plain) = if name == "redis" {
                    (self.to_redis(round, events).await?, self.plain_redis(events).await?)
                } else {
                    (self.to_kafka(round, events).await?, self.plain_kafka(events * MESSAGES)?)
                };
                let Drained { rate, memory: megabytes } = ours;
                let ratio = rate / plain;
                println!(
                    "  round {round}: ours {rate:>7.0}, {megabytes:.0} MB   plain client {plain:>7.0}   ratio {ratio:.2}"
                );
                rates.push(rate);
                ratios.push(ratio);
                memory.push(megabytes);
            }
            println!(
                "  medians: {:.0} {what} a second, {:.0} MB, ratio {:.2}",
                median(rates),
                median(memory),
                median(ratios)
            );
        }
        Ok(())
    }

    /// A new database, empty or a copy; returns its URL.
    async fn database(&self, name: &str, copy_of: Option<&str>) -> Result<String, Failure> {
        let mut connection = PgConnection::connect(&self.admin).await?;
        let template = copy_of.unwrap_or("template1");
        let statements = [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name} TEMPLATE {template}"),
        ];
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        Ok(self.admin.replacen("/annuaire?", &format!("/{name}?"), 1))
    }

    /// A log with the same events that nobody has followed.
    async fn new_log(&self, name: &str, round: usize) -> Result<(String, PgPool), Failure> {
        let url = self.database(&format!("drain_{name}_{round}"), Some(&format!("drain_{name}"))).await?;
        let pool = PgPool::connect(&url).await?;
        sqlx::query("UPDATE log SET log_id = gen_random_uuid()").execute(&pool).await?;
        Ok((url, pool))
    }

    fn start(&self, folder: &Path, database: &str, redis: &str, brokers: &str) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--roles", "outbox"]).current_dir(folder).kill_on_drop(true);
        command.env("DATABASE_URL", database).env("REDIS_URL", redis).env("KAFKA_BROKERS", brokers);
        command.env("AUTH_USER_SERVICE_PORT", "0").env("RUST_LOG", "error").stdout(Stdio::null());
        Ok(command.spawn()?)
    }

    async fn to_redis(&self, round: usize, events: i64) -> Result<Drained, Failure> {
        let (url, pool) = self.new_log("redis", round).await?;
        let mut redis = connect(&self.redis).await?;
        let (log, event): (String, String) = sqlx::query_as(
            "SELECT log_id || ':' || generation, (SELECT event_id FROM events ORDER BY position DESC LIMIT 1)::text
             FROM log",
        )
        .fetch_one(&pool)
        .await?;
        // The profile cache is there already: it is the stream that is measured.
        let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await?;
        let applied = format!("{events} {event}");
        let _: () =
            redis.hset_multiple("annuaire:profile-cache", &[("log", &log), ("applied", &applied)]).await?;
        let folder = tempfile::tempdir()?;
        let mut process = self.start(folder.path(), &url, &self.redis, NOWHERE)?;
        let mut begun: Option<(Instant, i64)> = None;
        let waited = Instant::now();
        let rate = loop {
            let length: i64 = redis.xlen(STREAM).await?;
            match begun {
                None if length > 0 => begun = Some((Instant::now(), length)),
                Some((since, from)) if length == events => {
                    break whole(length - from) / since.elapsed().as_secs_f64();
                }
                _ if waited.elapsed() > ARRIVE_WITHIN => {
                    return Err(format!("{length} entries arrived").into());
                }
                _ => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let memory = most_memory(&process)?;
        process.kill().await?;
        pool.close().await;
        Ok(Drained { rate, memory })
    }

    async fn to_kafka(&self, round: usize, events: i64) -> Result<Drained, Failure> {
        let (url, pool) = self.new_log("kafka", round).await?;
        let before = ends(&self.brokers)?;
        let folder = tempfile::tempdir()?;
        let nowhere = format!("redis://{NOWHERE}");
        let mut process = self.start(folder.path(), &url, &nowhere, &self.brokers)?;
        let mut begun: Option<(Instant, i64)> = None;
        let waited = Instant::now();
        let rate = loop {
            let position: Option<i64> =
                sqlx::query_scalar("SELECT position FROM sink_progress WHERE sink = 'kafka'")
                    .fetch_optional(&pool)
                    .await?;
            let position = position.unwrap_or(0);
            match begun {
                None if position > 0 => begun = Some((Instant::now(), position)),
                Some((since, from)) if position == events => {
                    break whole((position - from) * MESSAGES) / since.elapsed().as_secs_f64();
                }
                _ if waited.elapsed() > ARRIVE_WITHIN => {
                    return Err(format!("events up to position {position} arrived").into());
                }
                _ => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let memory = most_memory(&process)?;
        process.kill().await?;
        pool.close().await;
        let there = count(&self.brokers, &before)?;
        if there != events * MESSAGES {
            return Err(format!("{there} messages are there, not {}", events * MESSAGES).into());
        }
        Ok(Drained { rate, memory })
    }

    /// One client that adds as many entries of the same size, as many at once.
    async fn plain_redis(&self, events: i64) -> Result<f64, Failure> {
        let mut redis = connect(&self.redis).await?;
        let payload = "x".repeat(400);
        let begin = Instant::now();
        let mut left = events;
        while left > 0 {
            let mut pipe = redis::pipe();
            for _ in 0..left.min(256) {
                pipe.cmd("XADD").arg("plain").arg("*").arg("payload").arg(&payload).ignore();
            }
            let _: () = pipe.query_async(&mut redis).await?;
            left -= 256;
        }
        Ok(whole(events) / begin.elapsed().as_secs_f64())
    }

    /// One producer that sends as many messages of the same size, as many in a transaction.
    fn plain_kafka(&self, messages: i64) -> Result<f64, Failure> {
        const ANSWER: Duration = Duration::from_secs(30);
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("transactional.id", "bench.drain")
            .set("partitioner", "murmur2_random")
            .create()?;
        producer.init_transactions(ANSWER)?;
        let value = "x".repeat(400);
        let topics: Vec<&str> = routes::topics().take(4).collect();
        let begin = Instant::now();
        for first in (0..messages).step_by(2_000) {
            producer.begin_transaction()?;
            for number in first..(first + 2_000).min(messages) {
                let (key, topic) =
                    ((number / MESSAGES).to_string(), topics[usize::try_from(number % MESSAGES)?]);
                let record = BaseRecord::to(topic).key(&key).payload(&value);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            while producer.in_flight_count() > 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
            producer.commit_transaction(ANSWER)?;
        }
        Ok(whole(messages) / begin.elapsed().as_secs_f64())
    }
}

async fn connect(url: &str) -> Result<MultiplexedConnection, Failure> {
    let settings = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&settings).await?)
}

/// The most that the process had in memory, in MB.
fn most_memory(process: &Child) -> Result<f64, Failure> {
    let id = process.id().ok_or("the program has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kilobytes: i64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(whole(kilobytes) / 1024.0)
}

fn consumer(brokers: &str) -> Result<BaseConsumer, Failure> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()?)
}

/// Where each partition ends now; nowhere for a topic that is not there.
fn ends(brokers: &str) -> Result<TopicPartitionList, Failure> {
    let (consumer, mut ends) = (consumer(brokers)?, TopicPartitionList::new());
    for topic in routes::topics() {
        for partition in 0..PARTITIONS {
            let end =
                consumer.fetch_watermarks(topic, partition, Duration::from_secs(5)).map_or(0, |it| it.1);
            ends.add_partition_offset(topic, partition, Offset::Offset(end))?;
        }
    }
    Ok(ends)
}

/// How many committed messages are behind these ends.
fn count(brokers: &str, from: &TopicPartitionList) -> Result<i64, Failure> {
    let consumer = consumer(brokers)?;
    consumer.assign(from)?;
    let (mut count, mut open) = (0, from.count());
    while open > 0 {
        match consumer.poll(Duration::from_secs(20)).ok_or("no message and no end")? {
            Ok(_) => count += 1,
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(count)
}
