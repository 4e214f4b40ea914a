//! Answering what is asked at the same moment with one query.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How many questions go into one query.
const MOST: usize = 256;
/// How many queries run beside each other: while one is answered the next is on its way.
const QUERIES: usize = 2;

/// What was asked, and who waits for the answer.
type Ask<Q, A, E> = (Q, oneshot::Sender<Result<A, Arc<E>>>);

/// Gathers questions: one that comes alone goes at once, those that come while queries are under way
/// go together in the next. So an answer is never older than its question.
pub struct Gather<Q, A, E>(mpsc::UnboundedSender<Ask<Q, A, E>>);

impl<Q, A, E> Gather<Q, A, E>
where
    Q: Send + 'static,
    A: Send + 'static,
    E: Send + Sync + 'static,
{
    /// Asks through `query`, which answers the questions in their order, as long as this lives.
    pub fn start<F>(query: impl Fn(Vec<Q>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Vec<A>, E>> + Send + 'static,
    {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer(asked, query));
        Self(asks)
    }

    /// The answer to a question; [`None`] if the query panicked.
    pub async fn ask(&self, question: Q) -> Option<Result<A, Arc<E>>> {
        let (answer, answered) = oneshot::channel();
        self.0.send((question, answer)).ok()?;
        answered.await.ok()
    }
}

async fn answer<Q, A, E, F>(mut asked: mpsc::UnboundedReceiver<Ask<Q, A, E>>, query: impl Fn(Vec<Q>) -> F)
where
    Q: Send + 'static,
    A: Send + 'static,
    E: Send + Sync + 'static,
    F: Future<Output = Result<Vec<A>, E>> + Send + 'static,
{
    let mut queries = JoinSet::new();
    loop {
        let mut asks = Vec::new();
        tokio::select! {
            Some(_) = queries.join_next() => continue,
            count = asked.recv_many(&mut asks, MOST), if queries.len() < QUERIES => if count == 0 { return },
        }
        let (questions, waiting): (Vec<_>, Vec<_>) = asks.into_iter().unzip();
        let answers = query(questions);
        queries.spawn(async move { give(waiting, answers.await) });
    }
}

/// Who asked may have gone.
fn give<A, E>(waiting: Vec<oneshot::Sender<Result<A, Arc<E>>>>, answers: Result<Vec<A>, E>) {
    match answers {
        Ok(answers) => {
            for (to, answer) in waiting.into_iter().zip(answers) {
                drop(to.send(Ok(answer)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for to in waiting {
                drop(to.send(Err(error.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_while_queries_are_under_way_go_together() {
        let (sizes, permits) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (noted, gate) = (sizes.clone(), permits.clone());
        let doubled = Arc::new(Gather::<u32, u32, String>::start(move |numbers: Vec<u32>| {
            noted.lock().unwrap().push(numbers.len());
            let gate = gate.clone();
            async move {
                let _open = gate.acquire().await;
                let double = |number| if number < 100 { Ok(number * 2) } else { Err("too large".to_owned()) };
                numbers.into_iter().map(double).collect()
            }
        }));
        let ask = |number| {
            let doubled = doubled.clone();
            tokio::spawn(async move { doubled.ask(number).await.unwrap() })
        };
        let mut asked = Vec::new();
        for number in 0..10 {
            asked.push(ask(number));
            tokio::task::yield_now().await;
        }
        while sizes.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        permits.add_permits(1);
        for (number, asked) in (0..).zip(asked) {
            assert_eq!(asked.await.unwrap(), Ok(number * 2));
        }
        let sizes_then = sizes.lock().unwrap().clone();
        assert_eq!(sizes_then.iter().sum::<usize>(), 10);
        assert!(sizes_then.len() < 10, "{sizes_then:?}");
        assert_eq!(*ask(100).await.unwrap().unwrap_err(), "too large");
    }

    #[tokio::test]
    async fn a_query_that_panics_answers_nobody_and_the_next_one_does() {
        let halved = Gather::<u32, u32, ()>::start(|numbers: Vec<u32>| async move {
            Ok(numbers.iter().map(|number| 8 / number).collect())
        });
        assert_eq!(halved.ask(0).await, None);
        assert_eq!(halved.ask(2).await, Some(Ok(4)));
    }
}
