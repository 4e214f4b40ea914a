//! Callers that change users through one process and read them through another, whichever are there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::server::{Server, answer, eventually, header};

/// How many users there are; nobody changes the last of them.
pub(crate) const USERS: usize = 2_000;
const LOADS: usize = 8;
/// Each waits for seconds.
const TRIES: usize = 20;
const UNCHANGED: usize = USERS - 1;

struct Shared {
    servers: RwLock<Vec<Arc<Server>>>,
    stop: AtomicBool,
    /// How much each has done.
    done: [AtomicUsize; LOADS],
}

impl Shared {
    fn any(&self) -> Arc<Server> {
        fastrand::choice(&*self.servers.read().unwrap()).unwrap().clone()
    }
}

pub(crate) struct Callers {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

impl Callers {
    pub(crate) fn start(servers: Vec<Arc<Server>>) -> Self {
        let shared = Arc::new(Shared {
            servers: RwLock::new(servers),
            stop: AtomicBool::new(false),
            done: std::array::from_fn(|_| AtomicUsize::new(0)),
        });
        let callers = (0..LOADS).map(|part| tokio::spawn(work(shared.clone(), part))).collect();
        Self { shared, callers }
    }

    /// From now on this one is asked, too.
    pub(crate) fn joins(&self, server: Arc<Server>) {
        self.shared.servers.write().unwrap().push(server);
    }

    /// From now on this one is not asked any more; returns once it has ended, in order.
    pub(crate) async fn leaves(&self, server: Arc<Server>) {
        self.shared.servers.write().unwrap().retain(|other| !Arc::ptr_eq(other, &server));
        // Whoever has asked it gets an answer.
        eventually("nobody asks it", async || Arc::strong_count(&server) == 1).await;
        let (code, log) = Arc::into_inner(server).unwrap().stop().await;
        assert_eq!(code, Some(0), "{log}");
    }

    /// Returns once each has done more.
    pub(crate) async fn have_gone_on(&self) {
        let before = self.done();
        eventually("callers go on", async || {
            self.callers.iter().any(JoinHandle::is_finished)
                || self.done().iter().zip(&before).all(|(now, before)| *now > before + 10)
        })
        .await;
    }

    fn done(&self) -> Vec<usize> {
        self.shared.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
    }

    pub(crate) async fn end(self) {
        let done: usize = self.done().iter().sum();
        self.shared.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        println!("{done} changes, each read as it was left");
    }
}

async fn work(shared: Arc<Shared>, part: usize) {
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        number += 1;
        let (path, nom) =
            (format!("/u-{}", number % (UNCHANGED / LOADS) * LOADS + part), format!("N{part}x{number}"));
        let changed = shared.any().put(&path, &json!({ "nom": nom })).send().await.unwrap();
        assert_eq!(changed.status(), 200, "{path}");
        let position = header(&changed, "x-event-position");
        let user = read(&shared, &path, &position).await;
        assert_eq!(user["nom"], *nom, "{user}");
        let found = read(&shared, &format!("/all?q={nom}&limit=2"), &position).await;
        let ids: Vec<&str> =
            found.as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [&path[1..]], "{nom}: {found}");
        // Without a position, too: they have been there all the time.
        let (status, user) = answer(shared.any().get(&format!("/u-{UNCHANGED}"))).await;
        assert_eq!((status, &user["nom"]), (200, &json!("Changed")), "{user}");
        let (status, page) = answer(shared.any().get("/all?limit=20")).await;
        assert_eq!((status, page.as_array().map(Vec::len)), (200, Some(20)), "{page}");
        shared.done[part].fetch_add(1, Ordering::Relaxed);
    }
}

/// What a process answers that has come as far; whoever has not says so.
async fn read(shared: &Shared, path: &str, position: &str) -> Value {
    for _ in 0..TRIES {
        let (status, body) = answer(shared.any().get(path).header("x-min-position", position)).await;
        if status == 200 {
            return body;
        }
        assert_eq!(status, 503, "{body}");
    }
    panic!("{path} is never as of {position}");
}
