//! What the benches have in common: the server, the commands they send, what they are compared with.

pub mod fill;
pub mod reference;

use std::error::Error;
use std::time::Duration;

use annuaire::local;

use domain::ids::{Matricule, UserId};
use domain::user::{self, Changes, NewUser};
use domain::values::{AvatarUrl, Patch, Text};
use event_store::{IdSource, IfMatch, Metadata, Request, StreamId, UuidV7};
use sqlx::PgPool;

/// Whatever goes wrong.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Measures against a new `PostgreSQL` with the settings of the private one. `measure` gets the URL of
/// a database that has the schema and [`reference::TABLE`], and was never analyzed.
pub async fn with_postgres<F>(measure: impl FnOnce(String) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let folder = tempfile::tempdir()?;
    let server = local::Postgres::start_with(folder.path(), local::Options { max_connections: 700 }).await?;
    let measured = async {
        let url = server.url();
        let pool = PgPool::connect(&url).await?;
        event_store::MIGRATOR.run(&pool).await?;
        sqlx::raw_sql(reference::TABLE).execute(&pool).await?;
        pool.close().await;
        measure(url).await
    };
    let outcome = measured.await;
    server.stop().await;
    outcome
}

/// A count as a number to divide.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for rates")]
pub fn whole(count: i64) -> f64 {
    count as f64
}

/// Measures ours and its reference so many times: prints what `measure` says of each round and the ratio
/// it gives, and then the median of these.
pub async fn rounds(
    count: usize,
    mut measure: impl AsyncFnMut() -> Result<(String, f64), Failure>,
) -> Result<(), Failure> {
    let mut ratios = Vec::new();
    for round in 1..=count {
        let (line, ratio) = measure().await?;
        println!("  round {round}: {line}   ratio {ratio:.2}");
        ratios.push(ratio);
    }
    println!("  median ratio {:.2}", median(ratios));
    Ok(())
}

/// The one in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// In milliseconds.
#[must_use]
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The time that so many hundredths took at most; sorts them.
#[must_use]
pub fn percentile(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    times
        .get((times.len() * hundredths / 100).min(times.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

fn request(id: &str, command: user::Command, new_stream: bool) -> Request<user::Command> {
    Request {
        stream: StreamId::new("user", id),
        command,
        new_stream,
        if_match: IfMatch::Any,
        found_by: None,
        key: None,
        metadata: Metadata {
            actor: "anonymous".into(),
            correlation_id: Some(UuidV7.next().to_string()),
            traceparent: None,
        },
    }
}

/// What commands are made of, parsed once: making them is not what is measured.
pub struct Values {
    user: NewUser,
    avatars: Vec<AvatarUrl>,
}

impl Values {
    /// Parses them.
    pub fn new() -> Result<Self, Failure> {
        let user = serde_json::json!({
            "id": "x", "matricule": "x", "nom": "Dupont", "prenom": "Jean", "ministere": "Santé", "sexe": "M",
            "avatar": "https://example.com/avatars/dupont.png",
        });
        let avatar = |n: u32| AvatarUrl::parse(&format!("https://example.com/avatars/{n:012}.png"));
        let avatars = (0..1_000).map(avatar).collect::<Result<_, _>>()?;
        Ok(Self { user: serde_json::from_value(user)?, avatars })
    }

    /// A creation with two claims: id and matricule.
    pub fn create(&self, id: &str) -> Result<Request<user::Command>, Failure> {
        let new = NewUser {
            id: UserId::parse(id)?,
            matricule: Some(Matricule::parse(&format!("M{}", id.replace('-', "")))?),
            ..self.user.clone()
        };
        Ok(request(id, user::Command::Create(Box::new(new)), true))
    }

    /// A change of two fields.
    pub fn change(&self, id: &str) -> Result<Request<user::Command>, Failure> {
        let nom = Text::parse(&format!("Dupont-{:012}", fastrand::u64(..1_000_000_000_000)))?;
        let avatar = self.avatars[fastrand::usize(..self.avatars.len())].clone();
        let changes = Changes { nom: Some(nom), avatar: Patch::Set(avatar), ..Changes::default() };
        Ok(request(id, user::Command::Change(Box::new(changes)), false))
    }
}
