//! Honest clients: a command is sent with its key, and sent again as it was until it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::server::{some_time, text};

/// A command; its name is its key, and stands in its event.
#[derive(Clone)]
pub(crate) struct Operation {
    /// Of a deletion, whose event has no room for a name: `deleted.` and the user's id.
    pub(crate) name: String,
    method: Method,
    path: String,
    body: Option<Value>,
}

/// What a client knows of one sending.
enum Sent {
    Ok(u16, Value),
    Fail(u16, String),
    /// Done or not: no answer, half of one, or 503.
    Info,
}

/// How an operation ended, once it was known.
pub(crate) enum Ended {
    /// Carried out: status and body.
    Ok(u16, Value),
    /// Refused: status and code.
    Fail(u16, String),
}

pub(crate) struct History {
    pub(crate) operation: Operation,
    pub(crate) ended: Ended,
    /// How often it was sent without knowing what came of it.
    pub(crate) unknown: u64,
}

impl Operation {
    /// The next one of a client; `user` is the one it works on. Three clients in ten want an e-mail
    /// address that others want, too.
    fn next(name: String, number: usize, user: Option<&str>) -> Self {
        let contested = format!("wanted{}@example.com", fastrand::u8(..4));
        let email = if fastrand::u8(..10) < 3 { contested } else { format!("{name}@example.com") };
        let (method, path, body) = match (user, number % 10) {
            (None, _) => {
                (Method::POST, "/".to_owned(), json!({ "nom": name, "matricule": name, "email": email }))
            }
            (Some(id), 4 | 9) => {
                let name = format!("deleted.{id}");
                return Self { name, method: Method::DELETE, path: format!("/{id}"), body: None };
            }
            (Some(id), 2) => (Method::PUT, format!("/{id}"), json!({ "nom": name, "email": null })),
            (Some(id), 1 | 6) => (Method::PUT, format!("/{id}"), json!({ "nom": name, "email": email })),
            (Some(id), _) => (Method::PUT, format!("/{id}"), json!({ "nom": name, "prenom": "Awa" })),
        };
        Self { name, method, path, body: Some(body) }
    }

    async fn send(&self, client: &Client, base: &str) -> Sent {
        let mut request = client.request(self.method.clone(), format!("{base}{}", self.path));
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        let Ok(response) = request.header("idempotency-key", &self.name).send().await else {
            return Sent::Info;
        };
        let status = response.status();
        match response.json::<Value>().await {
            Ok(body) if status.is_success() => Sent::Ok(status.as_u16(), body),
            // Any other fault of the server's is none that a client should ever see.
            Ok(body) if status.as_u16() != 503 => Sent::Fail(status.as_u16(), text(&body, "code")),
            Ok(_) | Err(_) => Sent::Info,
        }
    }

    /// Sends it until it is known what came of it.
    pub(crate) async fn carry_out(&self, client: &Client, base: &str) -> (Ended, u64) {
        for unknown in 0.. {
            match self.send(client, base).await {
                Sent::Ok(status, body) => return (Ended::Ok(status, body), unknown),
                Sent::Fail(status, code) => return (Ended::Fail(status, code), unknown),
                Sent::Info => some_time(5..=50).await,
            }
        }
        unreachable!("nobody sends so often")
    }
}

/// Clients at work on one address.
pub(crate) struct Clients {
    tasks: Vec<JoinHandle<Vec<History>>>,
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
}

impl Clients {
    /// So many of them; `name` is in all names.
    pub(crate) fn start(base: &str, count: usize, name: &str) -> Self {
        let (stop, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..count).map(|n| {
            tokio::spawn(client(base.to_owned(), format!("{name}.c{n}"), stop.clone(), ended.clone()))
        });
        Self { tasks: tasks.collect(), stop: stop.clone(), ended: ended.clone() }
    }

    /// How many operations have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Lets each bring its last operation to an end.
    pub(crate) async fn stop(self) -> Vec<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut histories = Vec::new();
        for task in self.tasks {
            histories.extend(task.await.unwrap());
        }
        histories
    }
}

async fn client(base: String, name: String, stop: Arc<AtomicBool>, ended: Arc<AtomicU64>) -> Vec<History> {
    let client = http();
    let (mut histories, mut user) = (Vec::new(), None::<String>);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let operation = Operation::next(format!("{name}.{number}"), number, user.as_deref());
        let (end, unknown) = operation.carry_out(&client, &base).await;
        match &end {
            Ended::Ok(_, body) => user = operation.body.is_some().then(|| text(body, "id")),
            Ended::Fail(..) => {}
        }
        histories.push(History { operation, ended: end, unknown });
        ended.fetch_add(1, Ordering::Relaxed);
    }
    histories
}

/// A client that does not wait for ever.
pub(crate) fn http() -> Client {
    Client::builder().timeout(std::time::Duration::from_secs(20)).no_proxy().build().unwrap()
}
