//! Honest clients: each logs in and refreshes, and sends again what had no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kill_points::clients::http;
use crate::server::{Server, some_time, text};
use crate::sessions::{PASSWORD, Tokens, anywhere, user};

/// So long after a token may have been used it is sent again; the program remembers uses for 10 s.
const AGAIN_WITHIN: Duration = Duration::from_secs(9);

/// A session as a client knows it.
pub(crate) struct Session {
    pub(crate) tokens: Tokens,
    /// How many refreshes were answered.
    pub(crate) refreshes: i32,
}

/// What a client has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) sessions: Vec<Session>,
    pub(crate) logins: u64,
    pub(crate) refreshes: u64,
    /// Logins and refreshes that were sent and not answered.
    pub(crate) unknown_logins: u64,
    pub(crate) unknown_refreshes: u64,
    /// Refreshes whose answer was lost and that could not be sent again in time.
    pub(crate) too_late: u64,
    pub(crate) findings: Vec<String>,
}

/// Clients at work on one address.
pub(crate) struct Clients {
    tasks: Vec<JoinHandle<Seen>>,
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
}

impl Clients {
    /// So many new users of `server`, who reach it at `base`; `name` is in all names.
    pub(crate) async fn start(server: &Server, base: &str, count: usize, name: &str) -> Self {
        let (stop, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut users = Vec::new();
        for n in 0..count {
            let matricule = format!("{name}.c{n}");
            user(server, &matricule).await;
            users.push(matricule);
        }
        let start = |matricule| {
            let (client, base) = (http(), base.to_owned());
            let one = One { client, base, matricule, seen: Seen::default(), ended: ended.clone() };
            tokio::spawn(one.work(stop.clone()))
        };
        Self { tasks: users.into_iter().map(start).collect(), stop: stop.clone(), ended: ended.clone() }
    }

    /// How many logins and refreshes were answered.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Lets each come to the end of what it does.
    pub(crate) async fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for task in self.tasks {
            seen.push(task.await.unwrap());
        }
        seen
    }
}

struct One {
    client: Client,
    base: String,
    matricule: String,
    seen: Seen,
    ended: Arc<AtomicU64>,
}

impl One {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Seen {
        while !stop.load(Ordering::Relaxed) {
            if self.seen.sessions.is_empty() || fastrand::u8(..10) < 3 {
                self.log_in().await;
            } else {
                self.refresh().await;
            }
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        self.seen
    }

    async fn log_in(&mut self) {
        let body = json!({ "matricule": self.matricule, "password": PASSWORD });
        let (status, body, unknown) = self.send("/login", &body).await;
        self.seen.unknown_logins += unknown;
        if status == 200 {
            self.seen.logins += 1;
            self.seen.sessions.push(Session { tokens: Tokens::of(&body), refreshes: 0 });
        } else {
            self.seen.findings.push(format!("a login was answered {status} {body}"));
        }
    }

    /// Refreshes one of its sessions; now and then sends the used token once more, as another tab would.
    async fn refresh(&mut self) {
        let mut session = self.seen.sessions.swap_remove(fastrand::usize(..self.seen.sessions.len()));
        let (begin, old) = (Instant::now(), session.tokens.refresh.clone());
        let (status, body, unknown) = self.send("/refresh", &json!({ "refreshToken": old })).await;
        self.seen.unknown_refreshes += unknown;
        if status != 200 {
            if unknown > 0 && begin.elapsed() > AGAIN_WITHIN {
                self.seen.too_late += 1;
            } else {
                self.seen.findings.push(format!("somebody was logged out: {status} {}", text(&body, "code")));
            }
            return;
        }
        session.tokens = Tokens::of(&body);
        session.refreshes += 1;
        self.seen.refreshes += 1;
        if fastrand::bool() {
            let begin = Instant::now();
            let (status, body, unknown) = self.send("/refresh", &json!({ "refreshToken": old })).await;
            self.seen.unknown_refreshes += unknown;
            if begin.elapsed() > AGAIN_WITHIN {
                self.seen.too_late += 1;
                return;
            }
            if status != 200 || text(&body, "refreshToken") != session.tokens.refresh {
                let code = &body["code"];
                self.seen
                    .findings
                    .push(format!("another successor, or somebody was logged out: {status} {code}"));
            }
        }
        self.seen.sessions.push(session);
    }

    /// Sends it until it is answered; how often it was not.
    async fn send(&self, path: &str, body: &Value) -> (u16, Value, u64) {
        let from = anywhere();
        for unknown in 0.. {
            let request = self.client.post(format!("{}{path}", self.base)).json(body);
            let sent = request.header("x-forwarded-for", &from).send().await;
            if let Ok(response) = sent {
                let status = response.status().as_u16();
                if let Ok(body) = response.json().await
                    && status != 503
                {
                    return (status, body, unknown);
                }
            }
            some_time(5..=50).await;
        }
        unreachable!("nobody sends so often")
    }
}
