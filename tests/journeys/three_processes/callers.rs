//! Callers that change users and customers through any process that is not frozen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use super::process::Process;
use crate::server::text;

/// Who was not answered within this time asks another process.
const PATIENCE: Duration = Duration::from_secs(3);
/// The number of no process.
const NONE: usize = usize::MAX;

/// The processes as callers see them.
pub(crate) struct Service {
    pub(crate) processes: Vec<Process>,
    frozen: AtomicUsize,
    /// Who holds it alone is the only caller.
    pub(crate) gate: RwLock<()>,
    unanswered: AtomicUsize,
}

impl Service {
    pub(crate) fn new(processes: Vec<Process>) -> Self {
        Self { processes, frozen: NONE.into(), gate: RwLock::default(), unanswered: 0.into() }
    }

    pub(crate) fn freeze(&self, number: usize) {
        self.frozen.store(number, Ordering::SeqCst);
        self.processes[number].server.signal("STOP");
    }

    pub(crate) fn thaw(&self, number: usize) {
        self.processes[number].server.signal("CONT");
        self.frozen.store(NONE, Ordering::SeqCst);
    }

    /// How many requests were settled by asking again.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    fn any(&self) -> &Process {
        let frozen = self.frozen.load(Ordering::SeqCst);
        let others: Vec<_> = (0..self.processes.len()).filter(|number| *number != frozen).collect();
        &self.processes[fastrand::choice(others).unwrap()]
    }

    /// Asks one process after the other, under one key, until one says that it is done.
    pub(crate) async fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Value {
        loop {
            let server = &self.any().server;
            let request = match method {
                "POST" => server.post(path, body),
                "PUT" => server.put(path, body),
                _ => server.delete(path),
            };
            let answered = tokio::time::timeout(PATIENCE, async {
                let response = request.header("idempotency-key", key).send().await.ok()?;
                Some((response.status(), response.json().await.unwrap_or(Value::Null)))
            });
            match answered.await.ok().flatten() {
                Some((status, body)) if status.is_success() => return body,
                Some((status, body)) if status.is_client_error() => panic!("{key}: {status} {body}"),
                _ => self.unanswered.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// One user is renamed and deleted, another one gets its matricules, and a customer comes and goes;
    /// returns how many changes these were.
    async fn live(&self, name: &str) -> usize {
        let step = async |number: usize, method: &str, path: &str, body: Value| {
            let _open = self.gate.read().await;
            self.ask(&format!("{name}.{number}"), method, path, &body).await
        };
        let user = |matricule: &str| json!({ "matricule": format!("{name}-{matricule}"), "nom": name });
        let first = format!("/{}", text(&step(0, "POST", "/", user("a")).await, "id"));
        step(1, "PUT", &first, json!({ "nom": format!("{name}, autrement"), "prenom": "Anne" })).await;
        step(2, "PUT", &first, user("b")).await;
        let second = format!("/{}", text(&step(3, "POST", "/", user("a")).await, "id"));
        step(4, "DELETE", &first, Value::Null).await;
        step(5, "PUT", &second, user("b")).await;
        let customer = json!({ "customerType": "sme", "name": name });
        let customer = text(&step(6, "POST", "/customers", customer).await, "customerId");
        let customer = format!("/customers/{customer}");
        step(7, "PUT", &customer, json!({ "phone": "+243 1" })).await;
        if fastrand::bool() {
            step(8, "DELETE", &customer, Value::Null).await;
            return 9;
        }
        8
    }
}

/// Callers at work.
pub(crate) struct Callers {
    callers: Vec<JoinHandle<usize>>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    pub(crate) fn start(service: &Arc<Service>, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |caller: usize| {
            let (service, stop) = (service.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut done, mut lives) = (0, 0_usize);
                while !stop.load(Ordering::Relaxed) {
                    done += service.live(&format!("c{caller}-{lives}")).await;
                    lives += 1;
                }
                done
            })
        };
        Self { callers: (0..count).map(caller).collect(), stop }
    }

    /// Lets each come to its end; how many changes they made.
    pub(crate) async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut done = 0;
        for caller in self.callers {
            done += caller.await.unwrap();
        }
        done
    }
}
