//! `POST /login`.
//!
//! Whoever fails learns no more than that: an unknown user, a wrong password and a user without one are
//! answered alike and after the same time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use domain::Aggregate;
use domain::access::{
    self, Access, Factor, FailureReason, LoginFailed, LoginName, NOBODY, Origin, Rejection,
};
use domain::ids::is_well_formed;
use domain::password::{Password, PasswordHash};
use domain::user::{EMAIL, LOOKUP, USERNAME, User};
use domain::values::{Email, Username};
use event_store::{ClaimValue, ExecuteError, Loaded, Metadata, Request, StreamId};
use projections::sessions::{self as rows, NewSession};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::body::text;
use super::mfa;
use super::passwords::Checked;
use super::sessions::{Grant, grant};
use super::throttle::{Try, account_of};
use crate::Api;
use crate::body::JsonObject;
use crate::client::Client;
use crate::conditions::Cause;
use crate::error::ApiError;
use crate::openapi::refusals;
use crate::tasks::to_the_end;

/// How often a login begins again because something changed meanwhile.
const AGAIN: usize = 3;
/// How much of what a client calls itself is kept.
const USER_AGENT: usize = 512;
/// How long an answer waits until the token it gives can be used.
const PATIENCE: Duration = Duration::from_millis(500);

/// Proves who one is: begins a session.
#[utoipa::path(
    post,
    path = "/login",
    operation_id = "logIn",
    tag = "authentication",
    request_body = super::schemas::LoginBody,
    responses(
        (status = 200, description = "A session; the tokens are set as cookies, too.", body = super::schemas::Session),
        refusals::Login,
    ),
)]
pub(super) async fn log_in(
    State(api): State<Arc<Api>>,
    client: Client,
    cause: Cause,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let (name, password, code) = read(body.fields)?;
    let from = origin(client.address, &headers);
    let login = Login { api, client, cause, from, code };
    // Also when the client goes away: a try that is not given back would count as failed.
    to_the_end(async move { login.carry_out(&name, &password).await }).await?
}

/// What the body says.
fn read(mut fields: Map<String, Value>) -> Result<(LoginName, Password, Option<String>), ApiError> {
    let matricule = text(&mut fields, "matricule")?.map(LoginName::Matricule);
    let email = text(&mut fields, "email")?.map(LoginName::Email);
    let username = text(&mut fields, "username")?.map(LoginName::Username);
    let name = matricule.or(email).or(username);
    let name = name.ok_or_else(|| ApiError::invalid("matricule", "matricule, email ou username attendu"));
    let password = text(&mut fields, "password")?;
    let password = password.ok_or_else(|| ApiError::invalid("password", "mot de passe attendu"));
    let code = text(&mut fields, "code")?;
    match (name, password) {
        (Ok(name), Ok(password)) => Ok((name, Password::entered(&password), code)),
        (Err(ApiError::Invalid(mut name)), Err(ApiError::Invalid(password))) => {
            name.extend(password);
            Err(ApiError::Invalid(name))
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Where a request came from.
pub(super) fn origin(ip_address: IpAddr, headers: &HeaderMap) -> Origin {
    let named = headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok());
    let user_agent = named.map(|it| it.chars().take(USER_AGENT).collect());
    Origin { ip_address, user_agent }
}

struct Login {
    api: Arc<Api>,
    client: Client,
    cause: Cause,
    from: Origin,
    /// The second factor, as it was entered.
    code: Option<String>,
}

/// Who is to be logged in.
struct Account {
    /// [`None`] if there is nobody of that name.
    id: Option<String>,
    /// What failed tries are counted under.
    key: String,
    access: Arc<Loaded<Access>>,
}

impl Login {
    async fn carry_out(&self, name: &LoginName, password: &Password) -> Result<Response, ApiError> {
        for _ in 0..AGAIN {
            if let Some(answer) = self.attempt(name, password).await? {
                return Ok(answer);
            }
        }
        Err(ApiError::unavailable("the user changed with each attempt to log in"))
    }

    /// Nothing if the user changed meanwhile.
    async fn attempt(&self, name: &LoginName, password: &Password) -> Result<Option<Response>, ApiError> {
        let Self { api, client, .. } = self;
        // First of all: who is sent away asks nothing of PostgreSQL.
        let place = api.auth.passwords.place()?;
        let begun = Instant::now();
        let account = self.account(name).await?;
        Try::look(&api.pool, &account.key, client.address).await?;
        let waits = Instant::now();
        let turn = place.turn().await?;
        let waited = waits.elapsed();
        // As late as can be: those under way count as well.
        let attempt = Try::take(&api.pool, &account.key, client.address).await?;
        // A count that is there is changed, one that isn't is made: no two names take the same time.
        let spent = begun.elapsed().saturating_sub(waited);
        let answer = match turn.check(password.clone(), account.access.state.password.clone(), spent).await {
            Ok(checked) => self.checked(name, password, &account, checked).await,
            Err(error) => Err(error),
        };
        match answer {
            Err(ApiError::InvalidCredentials | ApiError::AccountSuspended) => {}
            Ok(_) | Err(_) => attempt.give_back(&api.pool).await?,
        }
        answer
    }

    async fn checked(
        &self,
        name: &LoginName,
        password: &Password,
        account: &Account,
        checked: Checked,
    ) -> Result<Option<Response>, ApiError> {
        let (outdated, answer_at) = match checked {
            Checked::Right { outdated, answer_at } => (outdated, answer_at),
            Checked::Wrong { answer_at } => {
                let reason = match account.id {
                    Some(_) => FailureReason::WrongPassword,
                    None => FailureReason::UnknownUser,
                };
                self.note(account.id.clone(), name, reason);
                tokio::time::sleep_until(answer_at).await;
                return Err(ApiError::InvalidCredentials);
            }
        };
        let (Some(id), Some(proven)) = (&account.id, &account.access.state.password) else {
            return Err(ApiError::internal("a right password of nobody"));
        };
        let user = self.api.users.current(&StreamId::new(User::CATEGORY, id)).await?;
        match &*user.state {
            state if state.active().is_some() => {}
            User::Living(_) => {
                self.note(Some(id.clone()), name, FailureReason::Status);
                return Err(ApiError::AccountSuspended);
            }
            User::Unregistered | User::Deleted { .. } => {
                self.note(None, name, FailureReason::UnknownUser);
                tokio::time::sleep_until(answer_at).await;
                return Err(ApiError::InvalidCredentials);
            }
        }
        let begun = match self.factor(&account.access.state) {
            Ok(factor) => self.begin(id, proven, factor, &user).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(ApiError::InvalidCredentials) = begun {
            self.note(Some(id.clone()), name, FailureReason::Mfa);
            tokio::time::sleep_until(answer_at).await;
        }
        let Some(answer) = begun? else { return Ok(None) };
        if outdated {
            self.hash_again(id, password, proven.clone());
        }
        if let Some(cache) = &self.api.cache {
            cache.was_read(id);
        }
        // The token is to be good where it is used next.
        self.api.progress.reaches(user.position, PATIENCE).await;
        Ok(Some(answer))
    }

    /// The second factor that was entered, where one is asked for.
    fn factor(&self, access: &Access) -> Result<Option<Factor>, ApiError> {
        let Some(mfa) = access.active_mfa() else { return Ok(None) };
        let code = self.code.as_deref().ok_or(ApiError::MfaRequired)?;
        let factor = self.api.auth.second_factors.factor(mfa.enrolment, code);
        factor.map(Some).ok_or(ApiError::InvalidCredentials)
    }

    /// Begins a session of a user who has proven to be it; nothing if that is not so any more.
    async fn begin(
        &self,
        id: &str,
        proven: &PasswordHash,
        factor: Option<Factor>,
        user: &Loaded<User>,
    ) -> Result<Option<Response>, ApiError> {
        let Self { api, client, .. } = self;
        let (sid, with_code) = (api.ids.next(), factor.is_some());
        let command =
            access::Command::LogIn { proven: proven.clone(), factor, session: sid, from: self.from.clone() };
        let logged_in = match api.auth.access.execute(self.request(id, command)).await {
            Ok(executed) => executed.after,
            // Changed or hashed again since it was read, or a second factor was: what was entered is checked
            // again.
            Err(ExecuteError::Rejected(Rejection::PasswordHasChanged | Rejection::FactorMissing)) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let token = api.auth.refresh_key.token(sid, 0);
        let session = NewSession {
            sid,
            user_id: id,
            user_version: user.version,
            access_version: logged_in.version,
            token_hash: &token.hash(),
            ip_address: &self.from.ip_address.to_string(),
            user_agent: self.from.user_agent.as_deref(),
        };
        // Shut out since, or given another password.
        if !rows::begin(&api.auth.durable, &session).await? {
            // A code has counted by now, and would be refused as if somebody else had entered it.
            let again = ApiError::unavailable("the user changed with an attempt to log in");
            return if with_code { Err(again) } else { Ok(None) };
        }
        tracing::info!(user.id = id, session = %sid, client = %client.address, "Logged {id} in");
        let settled = self.settled(id, &logged_in.state, user).await;
        let user = settled.as_deref().unwrap_or(user);
        grant(api, *client, &Grant { user, sid, refresh: &token }).map(Some)
    }

    /// The user as it is once its own stream says whether logins ask for a second factor, should whoever changed
    /// that have been killed before. If that fails, the next login tries again.
    async fn settled(&self, id: &str, access: &Access, user: &Loaded<User>) -> Option<Arc<Loaded<User>>> {
        let says = user.state.active()?.mfa_enabled;
        if says == access.active_mfa().is_some() {
            return None;
        }
        match mfa::settle(&self.api, id, &self.cause.metadata_of(id)).await {
            Ok(settled) => Some(settled.after).filter(|it| it.state.active().is_some()),
            Err(error) => {
                let error = error.cause();
                tracing::warn!(user.id = id, error, "Could not note in a user's stream what logins ask for");
                None
            }
        }
    }

    /// Asks the same of the log whether there is such a user or not.
    async fn account(&self, name: &LoginName) -> Result<Account, ApiError> {
        let claim = claim(name);
        let holder = match &claim {
            Some(claim) => self.api.users.holder(claim).await?,
            None => None,
        };
        let id = holder.map(|stream| stream.id().to_owned());
        let stream = StreamId::new(Access::CATEGORY, id.as_deref().unwrap_or(NOBODY));
        let access = self.api.auth.access.current(&stream).await?;
        let key = match (&id, &claim) {
            (Some(id), _) => account_of(id),
            (None, Some(claim)) => format!("{} {}", claim.namespace, claim.value),
            (None, None) => format!("malformed {name:?}"),
        };
        Ok(Account { id, key, access })
    }

    fn request(&self, id: &str, command: access::Command) -> Request<access::Command> {
        request(id, command, self.cause.metadata_of(id))
    }

    /// Notes a failure in the log. Nobody waits for it: that would tell how much there is to note.
    fn note(&self, id: Option<String>, name: &LoginName, reason: FailureReason) {
        let (pool, access, from) = (self.api.pool.clone(), self.api.auth.access.clone(), self.from.clone());
        let name = claim(name).map(|_| name.clone());
        let metadata = self.cause.metadata_of("anonymous");
        tracing::info!(user.id = id, client = %from.ip_address, ?reason, "A login failed");
        tokio::spawn(async move {
            let noted: Result<(), ApiError> = async {
                let Some(id) = id else {
                    // In the log once a minute, with what there were meanwhile.
                    let address = from.ip_address.to_string();
                    let name = name.map(|it| serde_json::to_string(&it)).transpose();
                    let name = name.map_err(ApiError::internal)?;
                    let agent = from.user_agent.as_deref();
                    return Ok(rows::count_unknown(&pool, &address, name.as_deref(), agent).await?);
                };
                let failed = LoginFailed { name, reason, from, count: 1 };
                access.execute(request(&id, access::Command::NoteFailure(failed), metadata)).await?;
                Ok(())
            }
            .await;
            if let Err(error) = noted {
                let code = error.status().1;
                tracing::warn!(error = error.cause(), code, "Could not note a failed login in the log");
            }
        });
    }

    /// Keeps the password under a hash of the present cost. If that fails, the next login tries again.
    fn hash_again(&self, id: &str, password: &Password, from: PasswordHash) {
        let (request_of, id) = (self.cause.metadata_of(id), id.to_owned());
        let (password, access, passwords) =
            (password.clone(), self.api.auth.access.clone(), self.api.auth.passwords.clone());
        tokio::spawn(async move {
            let Ok(to) = passwords.hash(password).await else { return };
            let command = access::Command::Rehash { from, to };
            if let Err(error) = access.execute(request(&id, command, request_of)).await {
                tracing::warn!(user.id = id, "Could not renew the hash of a password: {error}");
            }
        });
    }
}

/// A command on how a user gets in.
pub(super) fn request(id: &str, command: access::Command, metadata: Metadata) -> Request<access::Command> {
    Request::on(StreamId::new(Access::CATEGORY, id), command, metadata)
}

/// What the user of such a name holds; nothing if nobody can have that name.
pub(super) fn claim(name: &LoginName) -> Option<ClaimValue> {
    let (namespace, value) = match name {
        LoginName::Matricule(matricule) if is_well_formed(matricule.trim()) => {
            (LOOKUP, matricule.trim().to_owned())
        }
        LoginName::Matricule(_) => return None,
        LoginName::Email(email) => (EMAIL, Email::parse(email).ok()?.folded()),
        LoginName::Username(username) => (USERNAME, Username::parse(username).ok()?.as_str().to_owned()),
    };
    Some(ClaimValue { namespace, value })
}
