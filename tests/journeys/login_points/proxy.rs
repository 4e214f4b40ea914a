//! What goes between the program and PostgreSQL goes through here, and can be held up at a statement of a
//! login, of a refresh or of a mail.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream, unix};

use crate::kill_points::proxy::message;
use crate::proxy::{Trap, listen, with_length};

/// What the program says to PostgreSQL.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Statement {
    /// Appends to the log: a login, for these clients do nothing else that is in it.
    Append,
    /// Begins a session.
    Begin,
    /// Puts the successor of a refresh token in its place.
    Rotate,
    /// Ends sessions of a user who was shut out, and those of logins under way.
    End,
    /// Puts a mail down.
    PutMail,
    /// Notes what became of it.
    SettleMail,
    /// Moves the checkpoint of mails, where no read model is kept up.
    PassMail,
    /// Appends what messages of other services lead to.
    Deliver,
    /// Notes that dead letters are on their topics.
    PassLetters,
}

/// Where a statement is held up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum At {
    /// It is not passed on.
    Before(Statement),
    /// It was passed on to its last byte.
    Sent(Statement),
    /// It is committed, and PostgreSQL's word of it is not passed on.
    Done(Statement),
}

impl Statement {
    fn of(query: &[u8]) -> Option<Self> {
        let says = |text: &str| query.windows(text.len()).any(|part| part == text.as_bytes());
        match () {
            () if says("FROM append_batch(") => Some(Self::Append),
            () if says("INSERT INTO sessions (sid, user_id") => Some(Self::Begin),
            () if says("SET counter = counter + 1") => Some(Self::Rotate),
            () if says("INSERT INTO session_owners (user_id, user_floor") => Some(Self::End),
            () if says("INSERT INTO mails") => Some(Self::PutMail),
            () if says("UPDATE mails SET outcome") => Some(Self::SettleMail),
            () if says("UPDATE checkpoints SET position") => Some(Self::PassMail),
            () if says("FROM append_delivery(") => Some(Self::Deliver),
            () if says("UPDATE inbound_dead_letters SET relayed_at") => Some(Self::PassLetters),
            () => None,
        }
    }
}

pub(crate) struct ToPostgres {
    pub(crate) url: String,
    pub(crate) trap: Trap<At>,
}

impl ToPostgres {
    /// To the database of these options, whose server listens on a socket.
    pub(crate) async fn start(options: &PgConnectOptions) -> Self {
        let socket =
            options.get_socket().map(|folder| folder.join(format!(".s.PGSQL.{}", options.get_port())));
        let (socket, trap) = (socket.unwrap(), Trap::new());
        let held = trap.clone();
        let port = listen(move |program| pass(program, socket.clone(), held.clone())).await;
        let (user, database) = (options.get_username(), options.get_database().unwrap());
        Self { url: format!("postgres://{user}@127.0.0.1:{port}/{database}?sslmode=disable"), trap }
    }
}

async fn pass(program: TcpStream, socket: PathBuf, trap: Trap<At>) -> std::io::Result<()> {
    let server = UnixStream::connect(socket).await?;
    program.set_nodelay(true)?;
    let ((mut from_program, to_program), (from_server, mut to_server)) =
        (program.into_split(), server.into_split());
    // The first message alone has no type; it says who connects.
    let length = from_program.read_u32().await?;
    to_server.write_all(&with_length(&mut from_program, length).await?).await?;
    let under_way = Mutex::new(None);
    tokio::select! {
        end = requests(from_program, to_server, &under_way, &trap) => end,
        end = answers(from_server, to_program, &under_way, &trap) => end,
    }
}

/// <https://www.postgresql.org/docs/15/protocol-message-formats.html>
async fn requests(
    mut from: OwnedReadHalf,
    mut to: unix::OwnedWriteHalf,
    under_way: &Mutex<Option<Statement>>,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    let mut prepared = HashMap::new();
    loop {
        let (kind, message) = message(&mut from).await?;
        // Behind type and length: names and texts that end with a zero.
        let mut texts = message[5..].split(|byte| *byte == 0);
        let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        match kind {
            b'P' => {
                prepared.insert(first.to_vec(), Statement::of(second));
            }
            b'B' => {
                let statement = prepared.get(second).copied().flatten();
                if statement.is_some_and(|it| trap.springs(At::Before(it))) {
                    return trap.opened().await;
                }
                *under_way.lock().unwrap() = statement;
            }
            _ => {}
        }
        to.write_all(&message).await?;
        let sent = (kind == b'S').then(|| *under_way.lock().unwrap()).flatten();
        if sent.is_some_and(|it| trap.springs(At::Sent(it))) {
            return trap.opened().await;
        }
    }
}

/// That PostgreSQL is ready for the next query means that the last is committed.
async fn answers(
    mut from: unix::OwnedReadHalf,
    mut to: OwnedWriteHalf,
    under_way: &Mutex<Option<Statement>>,
    trap: &Trap<At>,
) -> std::io::Result<()> {
    loop {
        let (kind, message) = message(&mut from).await?;
        let done = (kind == b'Z').then(|| under_way.lock().unwrap().take()).flatten();
        if done.is_some_and(|it| trap.springs(At::Done(it))) {
            return trap.opened().await;
        }
        to.write_all(&message).await?;
    }
}
