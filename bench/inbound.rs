//! How fast users of another service are taken in: from Kafka into the log, each once.
//!
//! Ours is the consumer as the program runs it, into an empty log on a PostgreSQL with the settings of the private
//! one. The reference is the same client with the same settings, which reads the same messages and does nothing with
//! them. Each begins a consumer group of its own; the clock runs from when the group has its partitions until the
//! last message has its outcome, or was read. Events are counted afterwards.
//!
//! What PostgreSQL alone can do is measured beside it: as many rows of events and claims, inserted a thousand users a
//! commit by a procedure in the server, which checks nothing and is sent nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bench::{Failure, rounds, whole};
use clap::Parser;
use domain::Aggregate;
use domain::customer::{Command, Customer, CustomerType, NewCustomer};
use domain::ids::CustomerId;
use domain::values::Text;
use event_store::postgres::PostgresStore;
use event_store::{Appender, Commands, IdSource, Metadata, Request, StreamId, SystemClock, UuidV7};
use messaging::inbound::{Directory, Entity, Inbound, InboundOptions, NotNow, Rules, Start, Status, Topics};
use messaging::outbox::kafka::TopicSettings;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

/// Measure how fast users of another service are taken in.
#[derive(Parser)]
struct Options {
    /// Rounds; the median ratio counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages of a round
    #[arg(long, default_value_t = 100_000)]
    messages: i64,
}

const PARTITIONS: i32 = 6;
const CUSTOMERS: i64 = 100;
const WITHIN: Duration = Duration::from_mins(2);

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ALONE: &str = r#"
CREATE PROCEDURE alone(users bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR batch IN 0 .. users / 1000 - 1 LOOP
        INSERT INTO events
        SELECT batch * 1000 + n, now(), gen_random_uuid(), 1, 1, 0, 'user-auth0|' || batch * 1000 + n, 'user.created', NULL,
               convert_to('{"id":"auth0|00000001","nom":"Awa Diop","email":"awa.1@example.org","customerId":"c-1",'
                          '"customerName":"Kivu Café","userType":"SME","isCompanyOwner":false,"role":"CUSTOMER_USER"}',
                          'UTF8'),
               convert_to('{"actor":"kafka"}', 'UTF8')
        FROM generate_series(1, 1000) n;
        FOR claim IN 1 .. 2 LOOP
            INSERT INTO claims
            SELECT gen_random_uuid(), 'user-auth0|' || batch * 1000 + n FROM generate_series(1, 1000) n;
        END LOOP;
        COMMIT;
    END LOOP;
END $$"#;

struct Bench {
    admin: String,
    brokers: String,
    topic: String,
    messages: i64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let variable =
        |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: `make bench NAME=inbound`"));
    let bench = Bench {
        admin: variable("DATABASE_URL")?,
        brokers: variable("KAFKA_BROKERS")?,
        topic: format!("bench.{}.user.created", UuidV7.next().simple()),
        messages: options.messages,
    };
    bench.fill().await?;
    println!("{} messages on {PARTITIONS} partitions, of users of {CUSTOMERS} customers", options.messages);
    // Java compiles what was called often: a broker that has just started is slower than one that has run.
    bench.bare()?;
    rounds(options.rounds, async || {
        let bare = bench.bare()?;
        let ours = bench.ours().await?;
        let rate = |took: Duration| whole(bench.messages) / took.as_secs_f64();
        let alone = bench.alone().await?;
        let line = format!(
            "bare {:>9.0}/s   ours {:>8.0}/s   PostgreSQL alone {:>8.0}/s, of which ours is {:.2}",
            rate(bare),
            rate(ours),
            rate(alone),
            alone.as_secs_f64() / ours.as_secs_f64()
        );
        Ok((line, bare.as_secs_f64() / ours.as_secs_f64()))
    })
    .await
}

impl Bench {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers);
        client
    }

    /// Sends the messages that each round reads.
    async fn fill(&self) -> Result<(), Failure> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let topic = NewTopic::new(&self.topic, PARTITIONS, TopicReplication::Fixed(1));
        for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
            made.map_err(|(name, code)| format!("can't make {name}: {code}"))?;
        }
        let producer: ThreadedProducer<_> = self.client().set("linger.ms", "20").create()?;
        for number in 0..self.messages {
            let (key, value) = (format!("auth0|{number:08}"), message(number).to_string());
            while let Err((error, _)) = producer.send(BaseRecord::to(&self.topic).key(&key).payload(&value)) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        producer.flush(WITHIN)?;
        Ok(())
    }

    /// How long it takes to read the messages alone.
    fn bare(&self) -> Result<Duration, Failure> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", UuidV7.next().to_string())
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            .set("queued.max.messages.kbytes", "32768")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .create()?;
        consumer.subscribe(&[&self.topic])?;
        let (mut begun, mut read, asked) = (None, 0, Instant::now());
        while read < self.messages {
            if asked.elapsed() > WITHIN {
                return Err(format!("only {read} messages came").into());
            }
            match consumer.poll(Duration::from_millis(1)) {
                Some(Ok(_)) => read += 1,
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => return Err(error.into()),
            }
            if begun.is_none() && (read > 0 || consumer.assignment()?.count() > 0) {
                begun = Some(Instant::now());
            }
        }
        Ok(begun.ok_or("nothing was read")?.elapsed())
    }

    /// A new database with the schema: its name, its URL, and a way to it.
    async fn database(&self) -> Result<(String, String, PgPool), Failure> {
        let database = format!("bench_{}", UuidV7.next().simple());
        let mut admin = PgConnection::connect(&self.admin).await?;
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"))).execute(&mut admin).await?;
        let url = self.admin.replacen("/annuaire?", &format!("/{database}?"), 1);
        let pool = PgPool::connect(&url).await?;
        event_store::MIGRATOR.run(&pool).await?;
        Ok((database, url, pool))
    }

    async fn drop(&self, database: &str) -> Result<(), Failure> {
        let mut admin = PgConnection::connect(&self.admin).await?;
        let drop = format!("DROP DATABASE {database} WITH (FORCE)");
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await?;
        Ok(())
    }

    /// How long PostgreSQL takes for as many rows.
    async fn alone(&self) -> Result<Duration, Failure> {
        let (database, _, pool) = self.database().await?;
        sqlx::raw_sql(ALONE).execute(&pool).await?;
        let begun = Instant::now();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CALL alone({})", self.messages))).execute(&pool).await?;
        let took = begun.elapsed();
        pool.close().await;
        self.drop(&database).await?;
        Ok(took)
    }

    /// How long ours takes.
    async fn ours(&self) -> Result<Duration, Failure> {
        let (database, url, pool) = self.database().await?;
        let store = Arc::new(PostgresStore::connect(url.parse()?).await?);
        make_customers(&store).await?;
        // Else the statistics of tables that were just made are gathered while they are filled.
        sqlx::raw_sql("ANALYZE").execute(&pool).await?;

        let (status, stop) = (Status::default(), CancellationToken::new());
        let inbound = Inbound {
            options: self.options()?,
            store: store.clone(),
            log: store.pool().clone(),
            directory: Arc::new(Nobody),
            status: status.clone(),
        };
        let running = tokio::spawn(inbound.run(stop.clone()));
        let asked = Instant::now();
        let mut begun = None;
        let judged = "SELECT coalesce(sum(next_offset), 0)::bigint FROM inbox WHERE topic = $1";
        loop {
            if begun.is_none() && status.now().assigned > 0 {
                begun = Some(Instant::now());
            }
            let done: i64 = if begun.is_some() {
                sqlx::query_scalar(judged).bind(&self.topic).fetch_one(&pool).await?
            } else {
                0
            };
            if done >= self.messages {
                break;
            }
            if asked.elapsed() > WITHIN {
                return Err(format!("only {done} messages were judged").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let took = begun.ok_or("nothing was judged")?.elapsed();
        stop.cancel();
        running.await?;
        let created: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE type = 'user.created'")
            .fetch_one(&pool)
            .await?;
        if created != self.messages {
            return Err(format!("{created} users were created of {}", self.messages).into());
        }
        pool.close().await;
        store.pool().close().await;
        drop(store);
        self.drop(&database).await?;
        Ok(took)
    }

    fn options(&self) -> Result<InboundOptions, Failure> {
        let topics = Topics::parse(&format!("user.created={}", self.topic))?;
        Ok(InboundOptions {
            client: self.client(),
            group_id: UuidV7.next().to_string(),
            client_id: "bench".to_owned(),
            start: Start::Earliest,
            rules: Rules { topics, ..Rules::default() },
            topics: Some(TopicSettings { partitions: PARTITIONS, replication: Some(1) }),
            compression: "none",
            signing_key: None,
        })
    }
}

fn customer(number: i64) -> String {
    format!("c-{}", number % CUSTOMERS)
}

fn message(number: i64) -> Value {
    json!({
        "userId": format!("auth0|{number:08}"), "email": format!("awa.{number}@example.org"), "name": "Awa Diop",
        "role": "user", "userType": "SME_USER", "customerAccountId": customer(number),
        "customerName": "Kivu Café", "timestamp": "2026-11-23T10:00:00.000Z",
    })
}

async fn make_customers(store: &Arc<PostgresStore>) -> Result<(), Failure> {
    let appender = Appender::start(store.clone(), SystemClock, UuidV7);
    let customers: Commands<Customer> = Commands::new(store.clone(), appender);
    for number in 0..CUSTOMERS {
        let id = customer(number);
        let new = NewCustomer {
            id: CustomerId::parse(&id)?,
            customer_type: CustomerType::Sme,
            name: Text::parse("Kivu Café")?,
            email: None,
            phone: None,
            address: None,
            city: None,
            country: None,
            tax_id: None,
            billing_info: None,
            payment_method: None,
            preferences: None,
            profile: None,
        };
        let stream = StreamId::new(Customer::CATEGORY, &id);
        customers.execute(Request::on(stream, Command::Create(new.into()), Metadata::default())).await?;
    }
    Ok(())
}

/// Nobody asks anything.
struct Nobody;

#[async_trait]
impl Directory for Nobody {
    async fn find(&self, _entity: Entity, _id: &str) -> Result<Option<Value>, NotNow> {
        Ok(None)
    }
}
