//! Between clients and Kafka: requests of the program and their answers are held up.
//!
//! <https://kafka.apache.org/protocol>

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{At, Request, Way, late_or_never};
use crate::private_kafka::Kafka;
use crate::proxy::{Trap, bind, serve};

/// Whose requests are held up; consumers that look at the topics are others.
pub(crate) const CLIENT: &str = "annuaire";

/// What was sent to Kafka since a producer was let in, or since the last transaction ended. There is
/// one at a time, so this is one for all connections.
#[derive(Default)]
struct Sent {
    let_in: bool,
    partitions: bool,
    messages: bool,
}

/// Requests by their id that have no answer yet.
type Waiting = Mutex<HashMap<[u8; 4], Request>>;

/// A Kafka that is reached through here alone.
pub(crate) struct Behind {
    pub(crate) kafka: Kafka,
    sent: Arc<Mutex<Sent>>,
}

impl Behind {
    pub(crate) async fn start(trap: Trap<At>) -> Self {
        let (listener, port) = bind().await;
        let (kafka, sent) = (Kafka::start_behind(port).await, Arc::<Mutex<Sent>>::default());
        let (broker, counted) = (kafka.broker.port(), sent.clone());
        serve(listener, move |client| pass(client, broker, counted.clone(), trap.clone()));
        Self { kafka, sent }
    }

    /// The program that sent something is gone.
    pub(crate) fn forget(&self) {
        *self.sent.lock().unwrap() = Sent::default();
    }
}

async fn pass(client: TcpStream, broker: u16, sent: Arc<Mutex<Sent>>, trap: Trap<At>) -> std::io::Result<()> {
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let ((from_client, to_client), (from_broker, to_broker)) = (client.into_split(), broker.into_split());
    let waiting = Waiting::default();
    tokio::select! {
        end = requests(from_client, to_broker, &sent, &waiting, &trap) => end,
        end = answers(from_broker, to_client, &waiting, &trap) => end,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    sent: &Mutex<Sent>,
    waiting: &Waiting,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let request = if is_ours(&frame) { sent.lock().unwrap().take(key(&frame)) } else { None };
        if let Some(request) = request {
            if trap.springs(At::Kafka(request, Way::There)) {
                return late_or_never(trap, to, &frame).await;
            }
            waiting.lock().unwrap().insert(id(&frame[8..]), request);
        }
        to.write_all(&frame).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    waiting: &Waiting,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        let request = waiting.lock().unwrap().remove(&id(&frame[4..]));
        if request.is_some_and(|request| trap.springs(At::Kafka(request, Way::Back))) {
            return trap.opened().await;
        }
        to.write_all(&frame).await?;
    }
}

impl Sent {
    /// What a request is, if it is one that may be held up.
    fn take(&mut self, key: u16) -> Option<Request> {
        match key {
            // InitProducerId
            22 => {
                *self = Self { let_in: true, ..Self::default() };
                Some(Request::LetIn)
            }
            // Fetch, ListOffsets. Before a producer is let in, they look at the topics themselves.
            1 | 2 => self.let_in.then_some(Request::Tail),
            // AddPartitionsToTxn
            24 => {
                self.let_in = false;
                let first = !std::mem::replace(&mut self.partitions, true);
                first.then_some(Request::Partitions)
            }
            // Produce
            0 => std::mem::replace(&mut self.messages, true).then_some(Request::Messages),
            // EndTxn
            26 => {
                *self = Self::default();
                Some(Request::End)
            }
            _ => None,
        }
    }
}

/// A request or an answer, with the length before it.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.resize(4 + usize::try_from(length).unwrap_or(usize::MAX), 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// What kind of request it is.
fn key(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[4], frame[5]])
}

fn id(at: &[u8]) -> [u8; 4] {
    [at[0], at[1], at[2], at[3]]
}

fn is_ours(request: &[u8]) -> bool {
    let length = [0, u8::try_from(CLIENT.len()).unwrap()];
    request.get(12..).is_some_and(|rest| rest.starts_with(&[&length, CLIENT.as_bytes()].concat()))
}
