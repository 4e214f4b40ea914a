//! What is said on the screen once everything is up.

use std::fmt;

use crate::config::{AuthMode, Config, Database, Role};
use crate::local::Postgres;

/// What was started and what to try.
pub(crate) struct Banner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) port: u16,
    pub(crate) private: Option<&'a Postgres>,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, port, private } = self;
        let base = format!("http://{}:{port}", self.host());
        writeln!(f, "\nannuaire {} is up\n", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  HTTP        {base}   (health: /health, figures: /metrics)")?;
        match (private, &config.database) {
            (Some(server), _) => {
                writeln!(
                    f,
                    "  PostgreSQL  a private one in {}, ends with this program",
                    config.data_dir.display()
                )?;
                writeln!(f, "              psql '{}'", server.url())?;
            }
            (None, Database::Url(url)) => writeln!(f, "  PostgreSQL  {}", url.masked())?,
            (None, Database::Private) => {}
        }
        writeln!(f, "  Roles       {}", config.roles)?;
        if config.auth_mode == AuthMode::Open {
            writeln!(f, "  Access      open: no authentication, every caller is an administrator")?;
        }
        if config.roles.contains(Role::Api) {
            writeln!(
                f,
                r#"
Try it, in another terminal (each answer names the user's id):

  curl -iw '\n' -X POST {base}/ -H 'Content-Type: application/json' \
       -d '{{"matricule":"TEST123","nom":"Test","prenom":"User","ministere":"IT","sexe":"M"}}'
  curl -iw '\n' -X PUT {base}/TEST123 -H 'Content-Type: application/json' -d '{{"nom":"UpdatedName"}}'
  curl -iw '\n' {base}/TEST123
  curl -iw '\n' -X DELETE {base}/TEST123"#
            )?;
            if let Some(server) = private {
                writeln!(f, "  psql '{}' -c 'SELECT * FROM events_readable'", server.url())?;
            }
        }
        write!(f, "\nCtrl-C stops it.")
    }
}

impl Banner<'_> {
    fn host(&self) -> String {
        match self.config.http.host.sockets(self.port).first() {
            Some(socket) if self.config.http.host.is_loopback() && socket.is_ipv4() => "localhost".to_owned(),
            Some(socket) if socket.is_ipv6() => format!("[{}]", socket.ip()),
            Some(socket) => socket.ip().to_string(),
            None => "localhost".to_owned(),
        }
    }
}
