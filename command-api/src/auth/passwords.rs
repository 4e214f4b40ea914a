//! Making and checking hashes of passwords, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use domain::password::{Password, PasswordHash};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::hashes::{self, hash, is_same};
use crate::error::ApiError;

/// How many may wait for a core, and how long.
const QUEUE: usize = 32;
const WAIT: Duration = Duration::from_millis(1_500);
/// When a login that failed is answered, after its password began to be checked: whatever the hash cost,
/// and whether there was one. Longer than a check takes on a machine that is not overrun.
const ANSWER_AFTER: Duration = Duration::from_millis(150);

/// Hashes passwords on threads of their own, as many at once as there are cores.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// Who has one computes.
    permits: Arc<Semaphore>,
    /// Who has one computes or waits.
    queue: Arc<Semaphore>,
    /// Checked where there is nothing to check, so that it takes as long.
    nobodys: PasswordHash,
}

/// What checking a password has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is the one.
    Right {
        /// Whether it is to be hashed again, at the present cost.
        outdated: bool,
        /// When to answer, should it be of no use.
        answer_at: Instant,
    },
    /// It is another, or there is none.
    Wrong {
        /// When to say so.
        answer_at: Instant,
    },
}

impl Passwords {
    /// Computes a first hash, which takes as long as any.
    ///
    /// # Errors
    /// If the machine has no memory for it, or no source of chance.
    pub fn new() -> Result<Self, argon2::password_hash::Error> {
        let argon2 = hashes::ours()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nobodys = hash(&argon2, &Password::entered("nobody's"))?;
        let (permits, queue) = (Arc::new(Semaphore::new(cores)), Arc::new(Semaphore::new(cores + QUEUE)));
        Ok(Self { argon2, permits, queue, nobodys })
    }

    /// A place among those who wait for a core; refuses if there is none.
    pub(crate) fn place(&self) -> Result<Place<'_>, ApiError> {
        let queue = self.queue.clone().try_acquire_owned().map_err(|_| busy())?;
        Ok(Place { passwords: self, queue })
    }

    /// Waits for a core; refuses if too many wait already, or it takes too long.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, ApiError> {
        self.place()?.turn().await
    }

    /// The hash of a new password.
    pub(crate) async fn hash(&self, password: Password) -> Result<PasswordHash, ApiError> {
        self.turn().await?.hash(password).await
    }
}

fn busy() -> ApiError {
    ApiError::unavailable("too many passwords wait to be hashed")
}

/// The right to wait for a core.
pub(crate) struct Place<'a> {
    passwords: &'a Passwords,
    queue: OwnedSemaphorePermit,
}

impl<'a> Place<'a> {
    /// Waits for a core; refuses if it takes too long.
    pub(crate) async fn turn(self) -> Result<Turn<'a>, ApiError> {
        let Self { passwords, queue } = self;
        let permit = timeout(WAIT, passwords.permits.clone().acquire_owned()).await.map_err(|_| busy())?;
        let permits = (queue, permit.map_err(ApiError::internal)?);
        Ok(Turn { passwords, permits: Box::new(permits) })
    }
}

/// A core, for one hash.
pub(crate) struct Turn<'a> {
    passwords: &'a Passwords,
    permits: Box<dyn Send>,
}

impl Turn<'_> {
    pub(crate) async fn hash(self, password: Password) -> Result<PasswordHash, ApiError> {
        let argon2 = self.passwords.argon2.clone();
        let made = self.compute(move || hash(&argon2, &password)).await?;
        made.map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Checks a password against what is kept of the right one, if there is one; what had to be done before took
    /// `spent`, which is made up for.
    pub(crate) async fn check(
        self,
        password: Password,
        kept: Option<PasswordHash>,
        spent: Duration,
    ) -> Result<Checked, ApiError> {
        let argon2 = self.passwords.argon2.clone();
        let answer_at = Instant::now() + ANSWER_AFTER.saturating_sub(spent);
        let there_is = kept.is_some() && !password.is_too_long();
        let password = if password.is_too_long() { Password::entered("") } else { password };
        let against = kept.filter(|_| there_is).unwrap_or_else(|| self.passwords.nobodys.clone());
        let same = self.compute(move || is_same(&argon2, &password, &against)).await?;
        Ok(match same {
            Some(outdated) if there_is => Checked::Right { outdated, answer_at },
            Some(_) | None => Checked::Wrong { answer_at },
        })
    }

    /// On a thread that may be busy; who asked may go away, the core is taken until it is done.
    async fn compute<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let permits = self.permits;
        let computed = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permits);
            done
        });
        computed.await.map_err(ApiError::internal)
    }
}

#[cfg(test)]
mod tests {
    use argon2::{Algorithm, Params, Version};

    use super::*;

    fn passwords() -> Passwords {
        Passwords::new().unwrap()
    }

    fn password(text: &str) -> Password {
        Password::entered(text)
    }

    async fn check(passwords: &Passwords, text: &str, kept: Option<&PasswordHash>) -> Checked {
        passwords.turn().await.unwrap().check(password(text), kept.cloned(), Duration::ZERO).await.unwrap()
    }

    #[tokio::test]
    async fn a_hash_names_argon2id_and_its_cost_and_has_a_salt_of_its_own() {
        let passwords = passwords();
        let first = passwords.hash(password("corridor")).await.unwrap();
        let second = passwords.hash(password("corridor")).await.unwrap();
        assert!(first.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", first.as_str());
        assert_ne!(first, second);
    }

    #[tokio::test]
    async fn the_right_password_is_told_from_others_and_from_none() {
        let passwords = passwords();
        let kept = passwords.hash(password("corridor")).await.unwrap();
        assert!(matches!(
            check(&passwords, "corridor", Some(&kept)).await,
            Checked::Right { outdated: false, .. }
        ));
        assert!(matches!(check(&passwords, "Corridor", Some(&kept)).await, Checked::Wrong { .. }));
        assert!(matches!(check(&passwords, "corridor", None).await, Checked::Wrong { .. }));
        // Even the one that is checked where there is none.
        assert!(matches!(check(&passwords, "nobody's", None).await, Checked::Wrong { .. }));
    }

    #[tokio::test]
    async fn a_cheaper_hash_is_outdated_and_one_that_costs_too_much_is_never_right() {
        let passwords = passwords();
        let at = |memory, passes| {
            let argon2 = Argon2::new(
                Algorithm::Argon2id,
                Version::V0x13,
                Params::new(memory, passes, 1, None).unwrap(),
            );
            hash(&argon2, &password("corridor")).unwrap()
        };
        let cheap = check(&passwords, "corridor", Some(&at(1_024, 1))).await;
        assert!(matches!(cheap, Checked::Right { outdated: true, .. }));
        assert!(matches!(check(&passwords, "corridor", Some(&at(64, 11))).await, Checked::Wrong { .. }));
    }

    #[tokio::test]
    async fn who_comes_when_the_queue_is_full_is_sent_away() {
        let passwords = passwords();
        let places = u32::try_from(passwords.queue.available_permits()).unwrap();
        let _all = passwords.queue.clone().try_acquire_many_owned(places).unwrap();
        assert!(matches!(passwords.turn().await, Err(ApiError::Unavailable(_))));
    }
}
