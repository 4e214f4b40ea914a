//! Between the program and Redis: scripts and their answers are held up.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{At, Script, Way, late_or_never};
use crate::proxy::{Trap, listen};

/// Returns where the program finds the Redis of this address.
pub(super) async fn to_redis(url: &str, trap: Trap<At>) -> String {
    let address = url::Url::parse(url).unwrap();
    let redis = (address.host_str().unwrap().to_owned(), address.port().unwrap());
    let port = listen(move |program| pass(program, redis.clone(), trap.clone())).await;
    format!("redis://127.0.0.1:{port}")
}

async fn pass(program: TcpStream, redis: (String, u16), trap: Trap<At>) -> std::io::Result<()> {
    let redis = TcpStream::connect(redis).await?;
    program.set_nodelay(true)?;
    redis.set_nodelay(true)?;
    let ((from_program, to_program), (from_redis, to_redis)) = (program.into_split(), redis.into_split());
    // What each request was that has no answer yet.
    let waiting = Mutex::default();
    tokio::select! {
        end = requests(BufReader::new(from_program), to_redis, &waiting, &trap) => end,
        end = answers(BufReader::new(from_redis), to_program, &waiting, &trap) => end,
    }
}

async fn requests(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    waiting: &Mutex<VecDeque<Option<Script>>>,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let (bytes, words) = message(&mut from).await?;
        let script = script(&words);
        if script.is_some_and(|script| trap.springs(At::Redis(script, Way::There))) {
            return late_or_never(trap, to, &bytes).await;
        }
        waiting.lock().unwrap().push_back(script);
        to.write_all(&bytes).await?;
    }
}

async fn answers(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    waiting: &Mutex<VecDeque<Option<Script>>>,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let (bytes, _) = message(&mut from).await?;
        let script = waiting.lock().unwrap().pop_front().flatten();
        if script.is_some_and(|script| trap.springs(At::Redis(script, Way::Back))) {
            return trap.opened().await;
        }
        to.write_all(&bytes).await?;
    }
}

/// Which script is called, as its first key says.
fn script(words: &[Vec<u8>]) -> Option<Script> {
    let [command, _, _, key, ..] = words else { return None };
    if !command.eq_ignore_ascii_case(b"EVALSHA") && !command.eq_ignore_ascii_case(b"EVAL") {
        return None;
    }
    if key == crate::sinks::STREAM.as_bytes() {
        return Some(Script::Stream);
    }
    let of_cache = key.starts_with(b"user:profile:") || key == b"annuaire:profile-cache";
    of_cache.then_some(Script::Cache)
}

/// The next request or answer, and the strings in it.
pub(crate) async fn message(from: &mut BufReader<OwnedReadHalf>) -> std::io::Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut bytes, mut words, mut parts) = (Vec::new(), Vec::new(), 1);
    while parts > 0 {
        parts -= 1;
        let begin = bytes.len();
        if from.read_until(b'\n', &mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&bytes[begin..]).into_owned();
        // What is not there has the length -1.
        let length = || line[1..].trim().parse::<usize>().ok();
        match line.as_bytes()[0] {
            b'*' => parts += length().unwrap_or(0),
            b'$' => {
                let Some(length) = length() else { continue };
                let begin = bytes.len();
                bytes.resize(begin + length + 2, 0);
                from.read_exact(&mut bytes[begin..]).await?;
                words.push(bytes[begin..begin + length].to_vec());
            }
            _ => {}
        }
    }
    Ok((bytes, words))
}
