//! Commands that may take an administrator away, or make one: how the set of those who can act
//! ([`domain::administrators`]) goes along, so that the last of them stays, whatever else goes on in
//! whatever process. `docs/adr/0011-last-administrator.md` says why it is right.

use domain::Aggregate;
use domain::administrators::{self, ALL, Administrators};
use domain::ids::UserId;
use domain::user::{Command, Rejection, Status, User};
use domain::values::RoleName;
use event_store::{
    Commands, ExecuteError, Executed, IfMatch, Loaded, Metadata, Request, StoreError, StreamId, Version,
};
use futures::{StreamExt, TryStreamExt, stream};
use projections::users;
use sqlx::PgPool;

use crate::Api;
use crate::error::ApiError;
use crate::tasks::to_the_end;

/// How often it is begun again because the user has changed meanwhile.
const ATTEMPTS: usize = 8;
/// How many that the set lacks are looked up at once: to go on takes one.
const LOOKED_UP: i64 = 100;
/// How many of them at the same time.
const TOGETHER: usize = 16;

/// Why a command on a user was not carried out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The user's stream refuses it.
    User(ExecuteError<Rejection>),
    /// Something else is in its way.
    Other(ApiError),
}

impl From<ExecuteError<Rejection>> for Refusal {
    fn from(error: ExecuteError<Rejection>) -> Self {
        Self::User(error)
    }
}

/// An error that is none of the user's stream.
fn other(error: impl Into<ApiError>) -> Refusal {
    Refusal::Other(error.into())
}

type Answer = Result<Executed<User>, Refusal>;

/// Carries out a command on a user. Only those that may take an administrator away, or make one, do more
/// than [`Commands::execute`] does.
pub(crate) async fn execute(api: &Api, request: Request<Command>) -> Answer {
    match &request.command {
        Command::Create(_)
        | Command::Register { .. }
        | Command::Change(_)
        | Command::AddAddress(_)
        | Command::ChangeAddress { .. }
        | Command::DeleteAddress(_)
        | Command::RequestVerification { .. }
        | Command::VouchForEmail { .. }
        | Command::EnableMfa(_)
        | Command::DisableMfa(_)
        | Command::RegisterDevice(_)
        | Command::Confirm
        | Command::OfDismissed(_)
        // Neither of these makes an administrator, or takes one away.
        | Command::ReplaceRole(_)
        | Command::OfService(_) => Ok(api.users.execute(request).await?),
        Command::AssignRole(role) | Command::RemoveRole(role) if role.as_str() != RoleName::ADMIN => {
            Ok(api.users.execute(request).await?)
        }
        // A proof lets somebody in who registered, and may have been given the role before.
        Command::AssignRole(_)
        | Command::VerifyEmail { .. }
        | Command::ChangeStatus { to: Status::Active, .. } => {
            let set = Set::of(api);
            whole(async move { set.put_in(request).await }).await
        }
        Command::RemoveRole(_) | Command::ChangeStatus { .. } | Command::Delete => {
            match api.users.execute(request.clone()).await {
                Err(ExecuteError::Rejected(Rejection::Administrator)) => {
                    let set = Set::of(api);
                    whole(async move { set.take_away(request).await }).await
                }
                answer => Ok(answer?),
            }
        }
    }
}

/// Half of it would leave the set without someone who is there.
async fn whole(work: impl Future<Output = Answer> + Send + 'static) -> Answer {
    to_the_end(work).await.unwrap_or_else(|error| Err(Refusal::Other(error)))
}

/// The set, and what it is a set of.
#[derive(Clone)]
pub(crate) struct Set {
    pub(crate) administrators: Commands<Administrators>,
    pub(crate) users: Commands<User>,
    pub(crate) pool: PgPool,
}

impl Set {
    fn of(api: &Api) -> Self {
        let Api { administrators, users, pool, .. } = api;
        Self { administrators: administrators.clone(), users: users.clone(), pool: pool.clone() }
    }

    /// A command that may make an administrator: who has become one enters the set.
    pub(crate) async fn put_in(&self, request: Request<Command>) -> Answer {
        let executed = self.users.execute(request.clone()).await?;
        self.entered(&executed.stream, &executed.after, &request.metadata).await;
        Ok(executed)
    }

    /// A command that takes an administrator away, who leaves the set first.
    async fn take_away(&self, request: Request<Command>) -> Answer {
        let Request { stream, metadata, .. } = &request;
        let mut looked_up = false;
        for _ in 0..ATTEMPTS {
            let now = self.users.current(stream).await.map_err(other)?;
            let (User::Living(profile), true) = (&*now.state, now.state.can_administrate()) else {
                match self.users.execute(request.clone()).await {
                    Err(ExecuteError::Rejected(Rejection::Administrator)) => continue,
                    answer => return Ok(answer?),
                }
            };
            if !request.if_match.holds(now.version) {
                return Err(
                    ExecuteError::VersionMismatch { stream: stream.clone(), actual: now.version }.into()
                );
            }
            match self.dismiss(&profile.id, now.version, metadata).await {
                Ok(()) => {}
                Err(ExecuteError::Rejected(administrators::Rejection::Last)) if !looked_up => {
                    looked_up = true;
                    self.look_up(metadata).await?;
                    continue;
                }
                Err(refusal) => return Err(other(refusal)),
            }
            let of_dismissed = Request {
                command: Command::OfDismissed(request.command.clone().into()),
                if_match: IfMatch::OneOf(vec![now.version]),
                ..request.clone()
            };
            match self.users.execute(of_dismissed).await {
                // It has changed since.
                Err(ExecuteError::VersionMismatch { .. }) => {}
                Err(refusal) => {
                    self.entered_again(stream, metadata).await;
                    return Err(refusal.into());
                }
                Ok(executed) => return Ok(executed),
            }
        }
        self.entered_again(stream, metadata).await;
        Err(other(StoreError::Unavailable(format!("{stream} changed each time it was looked at"))))
    }

    async fn dismiss(
        &self,
        id: &UserId,
        version: Version,
        metadata: &Metadata,
    ) -> Result<(), ExecuteError<administrators::Rejection>> {
        self.ask(administrators::Command::Dismiss { id: id.clone(), version }, metadata).await
    }

    /// Puts those into the set whom it lacks and the read model knows.
    async fn look_up(&self, metadata: &Metadata) -> Result<(), Refusal> {
        let set = self.administrators.current(&stream_of_set()).await.map_err(other)?;
        let members: Vec<String> = set.state.members().iter().map(UserId::to_string).collect();
        let missing = users::administrators(&self.pool, &members, LOOKED_UP).await.map_err(other)?;
        // The log has the last word on each.
        stream::iter(missing)
            .map(|id| async move {
                let stream = StreamId::new(User::CATEGORY, &id);
                let now = self.users.current(&stream).await.map_err(other)?;
                self.enter(&stream, &now, metadata).await
            })
            .buffer_unordered(TOGETHER)
            .try_collect()
            .await
    }

    /// Puts a user into the set who can administrate at this version.
    async fn enter(
        &self,
        stream: &StreamId,
        seen: &Loaded<User>,
        metadata: &Metadata,
    ) -> Result<(), Refusal> {
        use administrators::Rejection::{Last, Leaving, Left};
        let (User::Living(profile), true) = (&*seen.state, seen.state.can_administrate()) else {
            return Ok(());
        };
        let appoint = |version| {
            let command = administrators::Command::Appoint { id: profile.id.clone(), version };
            self.ask(command, metadata)
        };
        match appoint(seen.version).await {
            Err(ExecuteError::Rejected(Left)) => {}
            // Whoever dismissed the user will take it away, or put it in again.
            Ok(()) | Err(ExecuteError::Rejected(Leaving | Last)) => return Ok(()),
            Err(error) => return Err(other(error)),
        }
        tracing::warn!("Confirming the administrator {}, whom somebody only began to take away", profile.id);
        let confirm = Request {
            if_match: IfMatch::OneOf(vec![seen.version]),
            ..Request::on(stream.clone(), Command::Confirm, metadata.clone())
        };
        match self.users.execute(confirm).await {
            Ok(confirmed) => match appoint(confirmed.after.version).await {
                Ok(()) | Err(ExecuteError::Rejected(Last | Leaving | Left)) => Ok(()),
                Err(error) => Err(other(error)),
            },
            // It is not the same any more, which is as good.
            Err(ExecuteError::VersionMismatch { .. } | ExecuteError::Rejected(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::enter`]. If it fails, the next who takes an administrator away looks it up.
    async fn entered(&self, stream: &StreamId, seen: &Loaded<User>, metadata: &Metadata) {
        if let Err(refusal) = self.enter(stream, seen, metadata).await {
            tracing::warn!(?refusal, "Could not note in the set of administrators what became of {stream}");
        }
    }

    /// After a command that came to nothing.
    async fn entered_again(&self, stream: &StreamId, metadata: &Metadata) {
        match self.users.current(stream).await {
            Ok(now) => self.entered(stream, &now, metadata).await,
            Err(error) => tracing::warn!(%error, "Could not look at {stream} again"),
        }
    }

    async fn ask(
        &self,
        command: administrators::Command,
        metadata: &Metadata,
    ) -> Result<(), ExecuteError<administrators::Rejection>> {
        let request = Request::on(stream_of_set(), command, metadata.clone());
        self.administrators.execute(request).await.map(drop)
    }
}

pub(crate) fn stream_of_set() -> StreamId {
    StreamId::new(Administrators::CATEGORY, ALL)
}
