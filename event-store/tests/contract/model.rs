//! A small model of the log as the oracle: whatever sequence of batches, PostgreSQL gives its verdicts.

use std::collections::HashMap;

use event_store::{IdempotencyKey, MIGRATOR, Position, Proposal, StreamId, Verdict, Version};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::PgPool;

use crate::cases::{append, claim, event};

/// The rules in their simplest form, one command after another.
#[derive(Default)]
struct Model {
    streams: HashMap<StreamId, Vec<uuid::Uuid>>,
    claims: HashMap<String, StreamId>,
    keys: HashMap<uuid::Uuid, (uuid::Uuid, StreamId, Version)>,
    log: Vec<uuid::Uuid>,
}

impl Model {
    fn version(&self, stream: &StreamId) -> Version {
        Version::try_from(self.streams.get(stream).map_or(0, Vec::len)).unwrap()
    }

    fn append(&mut self, batch: &[Proposal]) -> Vec<Verdict> {
        let mut broken: Vec<&StreamId> = Vec::new();
        let mut verdicts = Vec::new();
        for group in batch.chunk_by(|_, next| next.with_previous) {
            let judged = if group.len() > 1 { self.judge_group(group) } else { vec![] };
            if judged.is_empty() {
                for proposal in group {
                    let verdict = self.judge(proposal, broken.contains(&&proposal.stream));
                    match verdict {
                        Verdict::Done { .. } => self.store(proposal),
                        Verdict::Repeated { .. }
                        | Verdict::KeyReused
                        | Verdict::Stale
                        | Verdict::ClaimTaken(_)
                        | Verdict::InCompany => {
                            broken.push(&proposal.stream);
                        }
                    }
                    verdicts.push(verdict);
                }
            } else {
                broken.extend(group.iter().map(|proposal| &proposal.stream));
                verdicts.extend(judged);
            }
        }
        verdicts
    }

    /// What becomes of a group that fails; nothing if it does not.
    fn judge_group(&self, group: &[Proposal]) -> Vec<Verdict> {
        let mut to_blame: Vec<&StreamId> = Vec::new();
        let judged = group.iter().map(|proposal| {
            let at_base = Proposal { expected: proposal.base, ..proposal.clone() };
            let verdict = match self.judge(&at_base, false) {
                Verdict::Done { .. } => return Verdict::InCompany,
                Verdict::ClaimTaken(_) if to_blame.contains(&&proposal.stream) => Verdict::Stale,
                verdict @ (Verdict::Repeated { .. }
                | Verdict::KeyReused
                | Verdict::Stale
                | Verdict::ClaimTaken(_)
                | Verdict::InCompany) => verdict,
            };
            to_blame.push(&proposal.stream);
            verdict
        });
        let judged: Vec<_> = judged.collect();
        if to_blame.is_empty() { Vec::new() } else { judged }
    }

    fn judge(&self, proposal: &Proposal, lane_is_broken: bool) -> Verdict {
        if let Some((request, stream, version)) = proposal.key.and_then(|key| self.keys.get(&key.key)) {
            return if proposal.key.is_some_and(|key| key.request == *request) {
                Verdict::Repeated { stream: stream.clone(), version: *version }
            } else {
                Verdict::KeyReused
            };
        }
        if lane_is_broken || self.version(&proposal.stream) != proposal.expected {
            return Verdict::Stale;
        }
        if let Some(index) = proposal.take.iter().position(|claim| self.claims.contains_key(&claim.value)) {
            return Verdict::ClaimTaken(index);
        }
        let first = Position::new(i64::try_from(self.log.len() + 1).unwrap());
        Verdict::Done {
            first: (!proposal.events.is_empty()).then_some(first),
            recorded_at: chrono::DateTime::default(),
        }
    }

    fn store(&mut self, proposal: &Proposal) {
        for event in &proposal.events {
            self.streams.entry(proposal.stream.clone()).or_default().push(event.id);
            self.log.push(event.id);
        }
        for claim in &proposal.release {
            self.claims.remove(&claim.value);
        }
        for claim in &proposal.take {
            self.claims.insert(claim.value.clone(), proposal.stream.clone());
        }
        if let (Some(key), true) = (proposal.key, proposal.keep_key) {
            self.keys.insert(key.key, (key.request, proposal.stream.clone(), self.version(&proposal.stream)));
        }
    }
}

/// A command to be, before it is known what version its stream will have.
#[derive(Clone, Debug)]
struct Draft {
    stream: u8,
    events: usize,
    behind: Version,
    take: Option<u8>,
    release: bool,
    key: Option<(u8, u8)>,
    keep_key: bool,
    joined: bool,
}

fn draft() -> impl Strategy<Value = Draft> {
    let behind = prop_oneof![6 => Just(0), 1 => 1..3i32];
    let key = proptest::option::weighted(0.3, (0..6u8, 0..2u8));
    let take = proptest::option::weighted(0.4, 0..4u8);
    let (yes, joined) = (any::<bool>(), proptest::bool::weighted(0.3));
    (0..6u8, 0..3usize, behind, take, yes, key, yes, joined).prop_map(
        |(stream, events, behind, take, release, key, keep_key, joined)| Draft {
            stream,
            events,
            behind,
            take,
            release,
            key,
            keep_key,
            joined,
        },
    )
}

/// Batches as the appender makes them: no claim or key twice, lanes decided on what came before, and before
/// those of a group in their lanes only others of the group.
fn batch(drafts: Vec<Draft>, model: &Model, run: u32) -> Vec<Proposal> {
    let mut lanes: HashMap<String, (Version, Version)> = HashMap::new();
    let (mut claims, mut keys) = (Vec::new(), Vec::new());
    let mut batch: Vec<Proposal> = Vec::new();
    let mut group = 0;
    for draft in drafts {
        let id = format!("{run}.{}", draft.stream);
        let mut proposal = append(&id, 0, 0);
        let version = model.version(&proposal.stream);
        let (base, expected) =
            *lanes.entry(id.clone()).or_insert((version - draft.behind, version - draft.behind));
        (proposal.base, proposal.expected) = (base, expected);
        proposal.events = (0..draft.events).map(|_| event()).collect();
        proposal.keep_key = draft.keep_key || draft.events > 0;
        if let Some(n) = draft.take.filter(|n| draft.events > 0 && !claims.contains(n)) {
            let value = claim(&format!("{run}.{n}"));
            let holder = model.claims.get(&value.value);
            if draft.release && holder == Some(&proposal.stream) {
                proposal.release.push(value);
            } else {
                proposal.take.push(value);
            }
            claims.push(n);
        }
        if let Some((n, body)) = draft.key.filter(|(n, _)| !keys.contains(n)) {
            proposal.key = Some(IdempotencyKey::new(&["model", &run.to_string(), &n.to_string()], &[body]));
            keys.push(n);
        }
        let is_first = |stream: &StreamId| batch[..group].iter().all(|earlier| earlier.stream != *stream);
        proposal.with_previous =
            draft.joined && !batch.is_empty() && is_first(&proposal.stream) && is_first(&batch[group].stream);
        if !proposal.with_previous {
            group = batch.len();
        }
        lanes.insert(id, (base, expected + Version::try_from(draft.events).unwrap()));
        batch.push(proposal);
    }
    batch
}

/// Times aside, and positions counted from where the run began.
fn comparable(verdict: &Verdict, start: i64) -> Verdict {
    match verdict.clone() {
        Verdict::Done { first, .. } => Verdict::Done {
            first: first.map(|first| Position::new(first.get() - start)),
            recorded_at: chrono::DateTime::default(),
        },
        other @ (Verdict::Repeated { .. }
        | Verdict::KeyReused
        | Verdict::Stale
        | Verdict::ClaimTaken(_)
        | Verdict::InCompany) => other,
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn postgres_judges_as_the_model_does(pool: PgPool) {
    let store: std::sync::Arc<dyn event_store::EventStore> = crate::store(&pool).await;
    let runtime = tokio::runtime::Handle::current();
    let mut run = 0;
    tokio::task::spawn_blocking(move || {
        let mut runner =
            TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
        let batches = proptest::collection::vec(proptest::collection::vec(draft(), 1..8), 1..10);
        let run = std::cell::RefCell::new(&mut run);
        runner
            .run(&batches, |batches| {
                **run.borrow_mut() += 1;
                let run = **run.borrow();
                let start = runtime.block_on(store.head()).unwrap();
                let mut model = Model::default();
                for drafts in batches {
                    let batch = batch(drafts, &model, run);
                    let ours = runtime.block_on(store.append(&batch)).unwrap();
                    let ours: Vec<_> = ours.iter().map(|verdict| comparable(verdict, start.get())).collect();
                    prop_assert_eq!(ours, model.append(&batch));
                }
                let stored = runtime.block_on(store.read_all(start, 10_000)).unwrap();
                prop_assert_eq!(
                    stored.iter().map(|event| event.event_id).collect::<Vec<_>>(),
                    &model.log[..]
                );
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}
