//! A Kafka broker in this process's memory: librdkafka's mock cluster. A window for development: it
//! is empty at each start and keeps no more than fits.

use std::sync::mpsc;
use std::thread;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use tokio::sync::oneshot;

use super::{Doing, LocalError};

/// A broker of our own; ends when it is dropped.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    orders: mpsc::Sender<Order>,
}

/// A topic to make: its name and partitions, and where the answer goes.
type Order = (String, i32, oneshot::Sender<Result<(), KafkaError>>);

impl Broker {
    /// Starts it on a free port of the loopback address.
    pub async fn start() -> Result<Self, LocalError> {
        let (orders, received) = mpsc::channel::<Order>();
        let (started, start) = oneshot::channel();
        // The library's handle may not leave its thread.
        let keep = move || match MockCluster::new(1) {
            Err(error) => drop(started.send(Err(error))),
            Ok(cluster) => {
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                for (name, partitions, reply) in received {
                    let _ = reply.send(cluster.create_topic(&name, partitions, 1));
                }
            }
        };
        thread::Builder::new()
            .name("broker".to_owned())
            .spawn(keep)
            .doing(|| "can't start the embedded broker".to_owned())?;
        let bootstrap = start.await.map_err(|_| LocalError::Broker("it broke off".to_owned()))?;
        let bootstrap = bootstrap.map_err(|error| LocalError::Broker(error.to_string()))?;
        Ok(Self { bootstrap, orders })
    }

    /// Where clients find it: `host:port`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Makes a topic.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), LocalError> {
        let (reply, answer) = oneshot::channel();
        let ended = || LocalError::Broker("it has ended".to_owned());
        self.orders.send((name.to_owned(), partitions, reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(|error| LocalError::Broker(error.to_string()))
    }
}
