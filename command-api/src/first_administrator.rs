//! The administrator that a new system begins with, of whom no other could be asked.

use domain::Aggregate;
use domain::access::{self, Access};
use domain::administrators::Administrators;
use domain::ids::{Matricule, UserId};
use domain::password::Password;
use domain::user::{Command, LOOKUP, NewUser, Rejection, User};
use domain::values::{RoleName, Text};
use event_store::{ClaimValue, Commands, ExecuteError, IdSource, Metadata, Request, StreamId};
use sqlx::PgPool;

use crate::administrators::{self, Refusal, Set};
use crate::auth::Passwords;
use crate::error::ApiError;

/// How often another process that does the same is let go first.
const ATTEMPTS: usize = 3;
/// What the log says of who did it.
const ACTOR: &str = "annuaire";

/// What makes administrators.
pub struct Founder {
    /// Carries out commands on users.
    pub users: Commands<User>,
    /// On the set of those who administrate.
    pub administrators: Commands<Administrators>,
    /// On passwords.
    pub access: Commands<Access>,
    /// Hashes the password.
    pub passwords: Passwords,
    /// Where the read models are.
    pub pool: PgPool,
}

/// Whom to make an administrator.
#[derive(Clone, Debug)]
pub struct NewAdministrator {
    /// The matricule; a user who has it already becomes an administrator.
    pub matricule: Matricule,
    /// The family name of a user who is created.
    pub nom: Text,
    /// The password of a user who has none.
    pub password: Password,
}

/// Who is an administrator now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founded {
    /// The user's id.
    pub id: String,
    /// Whether the user had a password, which stays.
    pub had_password: bool,
}

/// Why nobody was made an administrator.
#[derive(Debug, thiserror::Error)]
pub enum Unfounded {
    /// The user with the matricule may not log in, and stays so.
    #[error("the user {0} has that matricule, but is not active: an administrator has to change that")]
    NotActive(String),
    /// It may go better another time.
    #[error("{0}")]
    Passing(String),
}

impl<E: Into<ApiError>> From<E> for Unfounded {
    fn from(error: E) -> Self {
        let error = error.into();
        match error {
            ApiError::Unavailable(cause) | ApiError::Internal(cause) => Self::Passing(cause.to_string()),
            other => Self::Passing(other.message()),
        }
    }
}

impl Founder {
    /// Whether there is nobody who can administrate.
    pub async fn is_needed(&self) -> Result<bool, Unfounded> {
        let set = self.administrators.current(&administrators::stream_of_set()).await?;
        if !set.state.members().is_empty() {
            return Ok(false);
        }
        Ok(projections::users::administrators(&self.pool, &[], 1).await?.is_empty())
    }

    /// Makes an administrator. Done again, or by several at once, it changes nothing more.
    pub async fn found(&self, new: &NewAdministrator, ids: &dyn IdSource) -> Result<Founded, Unfounded> {
        for _ in 0..ATTEMPTS {
            if let Some(id) = self.user(new, ids).await? {
                return self.appoint(new, id).await;
            }
        }
        Err(ApiError::unavailable("the user came and went").into())
    }

    /// The user with the matricule, who is created if there is none; nothing if somebody was faster.
    async fn user(&self, new: &NewAdministrator, ids: &dyn IdSource) -> Result<Option<String>, Unfounded> {
        let claim = ClaimValue { namespace: LOOKUP, value: new.matricule.as_str().to_owned() };
        if let Some(stream) = self.users.holder(&claim).await? {
            return Ok(Some(stream.id().to_owned()));
        }
        let id = UserId::parse(&ids.next().to_string()).map_err(|e| ApiError::internal(e.to_string()))?;
        let user = NewUser {
            id: id.clone(),
            matricule: Some(new.matricule.clone()),
            nom: new.nom.clone(),
            prenom: None,
            ministere: None,
            avatar: None,
            sexe: None,
            email: None,
            username: None,
            telephone: None,
            preferences: None,
            customer_id: None,
            role: None,
            customer_name: None,
            user_type: None,
            is_company_owner: false,
        };
        match self.users.execute(request(User::CATEGORY, id.as_str(), Command::Create(user.into()))).await {
            Ok(_) => Ok(Some(id.as_str().to_owned())),
            Err(ExecuteError::Rejected(Rejection::MatriculeTaken)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn appoint(&self, new: &NewAdministrator, id: String) -> Result<Founded, Unfounded> {
        let user = self.users.current(&StreamId::new(User::CATEGORY, &id)).await?;
        if user.state.active().is_none() {
            return Err(Unfounded::NotActive(id));
        }
        // The password first: an administrator without one would be of no use, and is not found again.
        let stream = StreamId::new(Access::CATEGORY, &id);
        let had_password = self.access.current(&stream).await?.state.password.is_some();
        if !had_password {
            let hash = self.passwords.hash(new.password.clone()).await?;
            let command = access::Command::SetPassword(hash);
            self.access.execute(request(Access::CATEGORY, &id, command)).await?;
        }
        let role = RoleName::parse(RoleName::ADMIN).map_err(|e| ApiError::internal(e.to_string()))?;
        let set = Set {
            administrators: self.administrators.clone(),
            users: self.users.clone(),
            pool: self.pool.clone(),
        };
        match set.put_in(request(User::CATEGORY, &id, Command::AssignRole(role))).await {
            Ok(_) => Ok(Founded { id, had_password }),
            Err(Refusal::User(error)) => Err(error.into()),
            Err(Refusal::Other(error)) => Err(error.into()),
        }
    }
}

fn request<C>(category: &str, id: &str, command: C) -> Request<C> {
    let metadata = Metadata { actor: ACTOR.to_owned(), ..Metadata::default() };
    Request::on(StreamId::new(category, id), command, metadata)
}
