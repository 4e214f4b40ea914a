//! What the benches have in common: the commands they send.

use std::error::Error;

use domain::ids::{Matricule, UserId};
use domain::user::{self, Changes, NewUser};
use domain::values::{AvatarUrl, Patch, Text};
use event_store::{IdSource, IfMatch, Metadata, Request, StreamId, UuidV7};

/// Whatever goes wrong.
pub type Failure = Box<dyn Error + Send + Sync>;

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
