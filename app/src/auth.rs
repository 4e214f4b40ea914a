//! Wires what logins work with.

use std::sync::Arc;
use std::time::Duration;

use command_api::auth::{
    Auth, Passwords, RefreshKey, SecondFactors, Tokens, Told, note_unknown_logins, see_to_forgotten_passwords,
};
use command_api::{Api, Founded, Founder, NewAdministrator, Unfounded};
use domain::access::Access;
use domain::values::Text;
use event_store::{Commands, SystemClock, UuidV7};
use futures::FutureExt;
use futures::future::BoxFuture;
use projections::sessions::{self, Sessions};
use projections::users::Finder;
use secrecy::ExposeSecret;
use sqlx::PgPool;

use crate::config;
use crate::fatal::Fatal;

/// After which the first administrator is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Connections through which sessions begin, go on and end.
const SESSION_CONNECTIONS: u32 = 8;

/// Everything that says who asks, and whether they may.
pub(crate) async fn wire(
    settings: &config::Auth,
    access: Commands<Access>,
    log: &PgPool,
    pool: &PgPool,
) -> Result<Auth, Fatal> {
    let durable = event_store::postgres::durable_pool((*pool.connect_options()).clone(), SESSION_CONNECTIONS);
    let key = sessions::refresh_key(log)
        .await
        .map_err(|e| Fatal::new("can't read the key of refresh tokens", e))?;
    let mfa_key =
        sessions::mfa_key(log).await.map_err(|e| Fatal::new("can't read the key of second factors", e))?;
    Ok(Auth {
        mode: settings.mode,
        open_profiles: settings.open_profiles,
        tokens: tokens(settings)?,
        refresh_key: RefreshKey::new(key),
        second_factors: SecondFactors::new(mfa_key, Arc::new(SystemClock)),
        access,
        sessions: Sessions::new(pool.clone()),
        durable,
        finder: Finder::new(pool.clone()),
        passwords: Passwords::new().map_err(|e| Fatal::new("can't hash passwords", e))?,
        secure_cookies: settings.secure_cookies,
        told: Told::default(),
    })
}

/// What is done beside the requests.
pub(crate) fn work(settings: &config::Auth, api: &Api) -> Vec<BoxFuture<'static, ()>> {
    let mut work = vec![
        sessions::keep_clear(api.pool.clone()).boxed(),
        note_unknown_logins(api.auth.access.clone(), api.pool.clone()).boxed(),
        see_to_forgotten_passwords(api.users.clone(), api.auth.access.clone(), api.pool.clone()).boxed(),
    ];
    work.extend(settings.administrator.clone().map(|it| found(it, api.founder()).boxed()));
    work
}

/// Creates the administrator of the settings where there is none. It waits for `PostgreSQL` as long as that takes.
async fn found(administrator: config::Administrator, founder: Founder) {
    let config::Administrator { matricule, password } = administrator;
    let Ok(nom) = Text::parse("Administrateur") else { return };
    let new = NewAdministrator { matricule, nom, password };
    let found = async || {
        if !founder.is_needed().await? {
            return Ok::<_, Unfounded>(None);
        }
        founder.found(&new, &UuidV7).await.map(Some)
    };
    loop {
        match found().await {
            Ok(None) => {
                tracing::info!("There is an administrator already: ADMIN_MATRICULE is not looked at");
                return;
            }
            Err(error @ Unfounded::NotActive(_)) => {
                tracing::error!("Could not make ADMIN_MATRICULE an administrator: {error}");
                return;
            }
            Ok(Some(Founded { id, had_password })) => {
                let password =
                    if had_password { "whose password stays as it is" } else { "with ADMIN_PASSWORD" };
                tracing::info!(user.id = %id, "Made {} an administrator, {password}", new.matricule.as_str());
                return;
            }
            Err(error) => tracing::warn!("Could not create the first administrator, will try again: {error}"),
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Signs with the secret of the settings or, where there is none, with one that nobody knows.
pub(crate) fn tokens(settings: &config::Auth) -> Result<Tokens, Fatal> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|e| Fatal::new("this machine has no source of chance", e))?;
    let given = settings.secret.as_ref().map(|it| it.expose_secret().as_bytes());
    let secret = given.unwrap_or(&random);
    let previous: Vec<_> =
        settings.previous.iter().map(|it| it.expose_secret().as_bytes().to_vec()).collect();
    Ok(Tokens::new(secret, &previous, Arc::new(SystemClock)))
}
