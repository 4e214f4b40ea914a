//! Who may do what, and what tokens are signed with.

use std::fmt;

use command_api::auth::{AuthMode, SecureCookies};
use domain::ids::Matricule;
use domain::password::Password;
use secrecy::SecretString;

use super::reader::Reader;
use super::settings as s;
use super::values::{self, Host};

/// What logins and rules go by.
#[derive(Debug, Clone)]
pub struct Auth {
    /// What a request without a token may do.
    pub mode: AuthMode,
    /// Whether profiles can be read without a token.
    pub open_profiles: bool,
    /// What tokens are signed with; `None`: something else at each start.
    pub secret: Option<SecretString>,
    /// Secrets of before, whose tokens are still good.
    pub previous: Vec<SecretString>,
    /// How cookies are given.
    pub secure_cookies: SecureCookies,
    /// The first administrator.
    pub administrator: Option<Administrator>,
    /// Whether people may register by themselves.
    pub self_registration: bool,
}

/// The administrator to create where there is none.
#[derive(Clone)]
pub struct Administrator {
    /// The matricule.
    pub matricule: Matricule,
    /// The password.
    pub password: Password,
}

impl fmt::Debug for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administrator").field("matricule", &self.matricule).finish_non_exhaustive()
    }
}

pub(super) fn auth(read: &mut Reader<'_>, host: Option<Host>) -> Option<Auth> {
    let mode = mode(read, host);
    let secret = mode.as_ref().and_then(|(_, secret)| secret.clone());
    let previous = read.optional(&s::JWT_SECRET_PREVIOUS, |text| {
        text.split(',').map(|secret| values::jwt_secret(secret.trim())).collect::<Result<Vec<_>, _>>()
    });
    let loopback = host.is_none_or(Host::is_loopback);
    let profiles = if loopback { "open" } else { "authenticated" };
    let open_profiles = read.value_or(&s::PROFILE_READS, profiles, |text| match text {
        "open" => Ok(true),
        "authenticated" => Ok(false),
        _ => Err("open or authenticated".to_owned()),
    });
    let secure_cookies = read.value(&s::COOKIE_SECURE, |text| match text {
        "auto" => Ok(SecureCookies::Auto),
        "true" => Ok(SecureCookies::Always),
        "false" => Ok(SecureCookies::Never),
        _ => Err("true, false or auto".to_owned()),
    });
    let administrator = administrator(read);
    let self_registration = read.value(&s::SELF_REGISTRATION, values::boolean);
    Some(Auth {
        mode: mode?.0,
        open_profiles: open_profiles?,
        secret,
        previous: previous.unwrap_or_default(),
        secure_cookies: secure_cookies?,
        administrator,
        self_registration: self_registration?,
    })
}

fn administrator(read: &mut Reader<'_>) -> Option<Administrator> {
    let before = read.problems.len();
    let matricule =
        read.optional(&s::ADMIN_MATRICULE, |text| Matricule::parse(text).map_err(|wrong| wrong.to_string()));
    let password =
        read.optional(&s::ADMIN_PASSWORD, |text| Password::parse(text).map_err(|wrong| wrong.to_string()));
    match (matricule, password) {
        (Some(matricule), Some(password)) => Some(Administrator { matricule, password }),
        (Some(_), None) if read.problems.len() == before => {
            read.refuse(&s::ADMIN_PASSWORD, "the password of ADMIN_MATRICULE");
            None
        }
        (None, Some(_)) if read.problems.len() == before => {
            read.refuse(&s::ADMIN_MATRICULE, "the matricule that ADMIN_PASSWORD is of");
            None
        }
        _ => None,
    }
}

fn mode(read: &mut Reader<'_>, host: Option<Host>) -> Option<(AuthMode, Option<SecretString>)> {
    let before = read.problems.len();
    let secret = read.optional(&s::JWT_SECRET, values::jwt_secret);
    let allow_open = read.value(&s::ALLOW_OPEN, values::boolean);
    // A secret that is too short was still meant to close the door.
    let closed = secret.is_some() || read.problems.len() > before;
    let mode = read.value_or(&s::AUTH_MODE, if closed { "required" } else { "open" }, |text| match text {
        "open" => Ok(AuthMode::Open),
        "required" => Ok(AuthMode::Required),
        _ => Err("open or required".to_owned()),
    })?;
    if let (AuthMode::Open, Some(host), Some(false)) = (mode, host, allow_open)
        && !host.is_loopback()
    {
        read.refuse(&s::AUTH_MODE, "open only with HTTP_HOST=localhost (or another loopback address), or with ALLOW_OPEN=true: anyone who reaches the port acts as an administrator");
    }
    Some((mode, secret))
}
