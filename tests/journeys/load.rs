//! Clients that create, change and delete users, and know what was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::server::{Server, text};

/// A command with a key; its name stands in its event, once in the whole log.
#[derive(Clone)]
pub(crate) struct Sent {
    /// Of a deletion, whose event has no room for a name: `deleted.` and the user's id.
    pub(crate) name: String,
    /// [`None`]: a creation.
    user: Option<String>,
    /// [`None`]: a deletion.
    body: Option<Value>,
}

pub(crate) enum Outcome {
    Acknowledged(Sent),
    /// No answer: done or not, for later to resolve.
    Unknown(Sent),
}

impl Sent {
    /// The next one of a client; `user` is the one it works on.
    fn next(name: String, number: usize, user: Option<&String>) -> Self {
        let email = format!("{name}@example.com");
        let body = match (user, number % 10) {
            (None, _) => json!({ "matricule": name, "nom": name, "prenom": "Anne" }),
            (Some(_), 2 | 7) => json!({ "nom": name, "matricule": name, "email": email }),
            (Some(_), 3) => json!({ "nom": name, "prenom": null, "avatar": "https://example.com/a.png" }),
            (Some(id), 9) => {
                return Self { name: format!("deleted.{id}"), user: Some(id.clone()), body: None };
            }
            (Some(_), _) => json!({ "nom": name }),
        };
        Self { name, user: user.cloned(), body: Some(body) }
    }

    /// The answer; [`None`] if there was none.
    pub(crate) async fn send(&self, server: &Server) -> Option<(StatusCode, Value)> {
        let request = match (&self.user, &self.body) {
            (None, body) => server.post("/", &json!(body)),
            (Some(user), Some(body)) => server.put(&format!("/{user}"), body),
            (Some(user), None) => server.delete(&format!("/{user}")),
        };
        let response = request.header("idempotency-key", &self.name).send().await.ok()?;
        Some((response.status(), response.json().await.ok()?))
    }

    /// Sends again what had no answer.
    pub(crate) async fn repeat(&self, server: &Server) {
        let (status, body) = self.send(server).await.unwrap();
        assert!(status.is_success(), "{}: {status} {body}", self.name);
    }
}

/// Clients at work.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<Outcome>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// So many of them; `name` is in all names.
    pub(crate) fn start(server: &Arc<Server>, clients: usize, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients)
            .map(|n| tokio::spawn(client(server.clone(), format!("{name}.c{n}"), stop.clone())))
            .collect();
        Self { clients, stop }
    }

    /// Lets each bring its last command to an end.
    pub(crate) async fn stop(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcomes = Vec::new();
        for client in self.clients {
            outcomes.extend(client.await.unwrap());
        }
        outcomes
    }

    /// The same where each must have been answered; returns how many there were.
    pub(crate) async fn stop_unharmed(self) -> usize {
        let outcomes = self.stop().await;
        for outcome in &outcomes {
            if let Outcome::Unknown(sent) = outcome {
                panic!("{} had no answer", sent.name);
            }
        }
        outcomes.len()
    }
}

/// Works on users one after the other until it is told to stop.
async fn client(server: Arc<Server>, name: String, stop: Arc<AtomicBool>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut user = None;
    for number in 0.. {
        if number % 5 == 0 {
            user = None;
        }
        let sent = Sent::next(format!("{name}.{number}"), number, user.as_ref());
        match sent.send(&server).await {
            Some((status, body)) => {
                assert!(status.is_success(), "{status} {body}");
                user = sent.body.is_some().then(|| text(&body, "id"));
                outcomes.push(Outcome::Acknowledged(sent));
            }
            None => outcomes.push(Outcome::Unknown(sent)),
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    outcomes
}
