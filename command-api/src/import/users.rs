//! Users.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::Aggregate;
use domain::access::{self, Access};
use domain::administrators;
use domain::ids::UserId;
use domain::password::PasswordHash;
use domain::user::{Command, Event, NewUser, Profile, Rejection, Status, User};
use domain::values::RoleName;
use event_store::{ClaimValue, Company, IfMatch, Loaded, Part, StreamId, Version};
use serde_json::{Map, Value};

use super::names::Name;
use super::{
    Failure, Importer, Outcome, Unreadable, as_text, differing, name_id, refused, rejection, request,
    unreadable,
};
use crate::administrators::stream_of_set;
use crate::auth;
use crate::customers;
use crate::fields::{Fields, set};
use crate::users::new_user;

const CLEAR_TEXT: &str = "un mot de passe en clair n'est pas importé, car il aurait été lisible en chemin : mettre son \
                          hachage bcrypt ou argon2 dans passwordHash, ou l'omettre (POST /password/forgot)";

/// A user of another service.
pub(super) struct Incoming {
    new: NewUser,
    names_user_type: bool,
    hash: Option<PasswordHash>,
    roles: BTreeSet<RoleName>,
    status: Status,
    email_verified: Option<bool>,
}

/// Reads a line: what `POST /` takes, and what only other routes give.
pub(super) fn read(mut fields: Map<String, Value>) -> Result<Incoming, Unreadable> {
    name_id(&mut fields, &["id", "_id"]);
    if let Some(id) = fields.remove("customerId") {
        fields.insert("customerId".to_owned(), as_text(id));
    }
    let of_customer = fields.get("customerId").is_some_and(|id| !id.is_null());
    let mut fields = Fields::of(fields);
    let id = fields.required("id", UserId::parse);
    let told = id.as_ref().map(UserId::to_string);
    let hash = hash(&mut fields);
    let roles = roles(&mut fields);
    let status = set(fields.optional("status", Status::parse)).unwrap_or_default();
    let email_verified = fields.boolean("emailVerified");
    // The rest is looked at even where there is no id: all that is wrong is told at once.
    let id = id.or_else(|| UserId::parse("none").ok());
    let new = id.and_then(|id| {
        // Users whom a customer's service created have none.
        let optional = |fields: &mut Fields, name, parse| set(fields.optional(name, parse));
        new_user(&mut fields, id, if of_customer { optional } else { Fields::required })
    });
    match new {
        Some(new) if fields.wrong.is_empty() => {
            let email_verified = email_verified.filter(|_| new.email.is_some());
            let names_user_type = new.user_type.is_some();
            Ok(Incoming { new, names_user_type, hash, roles, status, email_verified })
        }
        _ => Err(unreadable(told, fields.wrong)),
    }
}

fn hash(fields: &mut Fields) -> Option<PasswordHash> {
    let text = |fields: &mut Fields, name: &'static str| match fields.take(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(text),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            fields.refuse(name, "chaîne de caractères attendue")
        }
    };
    let mut parse = |name: &'static str, is_clear: fn(&str) -> bool| {
        let text = text(fields, name)?;
        if is_clear(&text) {
            return fields.refuse(name, CLEAR_TEXT);
        }
        auth::of_another_service(&text).map_or_else(|why| fields.refuse(name, why), Some)
    };
    let hash = parse("passwordHash", |_| false);
    // What has the form of a hash is told what is wrong with it.
    let password = parse("password", |text| !text.trim_start().starts_with('$'));
    hash.or(password)
}

fn roles(fields: &mut Fields) -> BTreeSet<RoleName> {
    let rule = "tableau de noms de rôles attendu";
    let items = match fields.take("roles") {
        None | Some(Value::Null) => return BTreeSet::new(),
        Some(Value::Array(items)) => items,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            fields.refuse::<()>("roles", rule);
            return BTreeSet::new();
        }
    };
    let parsed: Option<Result<BTreeSet<_>, _>> = items
        .iter()
        .map(Value::as_str)
        .map(|it| it.map(RoleName::parse))
        .collect::<Option<Vec<_>>>()
        .map(|it| it.into_iter().collect());
    match parsed {
        Some(Ok(roles)) => roles,
        Some(Err(invalid)) => fields.refuse("roles", invalid.to_string()).unwrap_or_default(),
        None => fields.refuse("roles", rule).unwrap_or_default(),
    }
}

impl Incoming {
    pub(super) fn id(&self) -> &str {
        self.new.id.as_str()
    }

    /// The names that no other user may have.
    pub(super) fn names(&self) -> Vec<Name> {
        let user = created(&self.new);
        let names = user.claims().into_iter();
        names.map(|claim| (claim.namespace, claim.value.into_owned(), field(&claim.refusal))).collect()
    }

    /// What follows the creation, on the user's own stream.
    fn steps(&self, importer: &Importer) -> Vec<Command> {
        let roles = self.roles.iter().cloned().map(Command::AssignRole);
        let proof = (self.email_verified == Some(true))
            .then(|| Command::VouchForEmail { request: importer.ids.next() });
        let status = (self.status != Status::default())
            .then_some(Command::ChangeStatus { to: self.status, reason: None });
        // The status first: who is given a role and may not log in was never an administrator.
        status.into_iter().chain(roles).chain(proof).collect()
    }

    fn can_administrate(&self) -> bool {
        self.roles.contains(RoleName::ADMIN) && self.status == Status::Active
    }

    /// What of a user who is there is not as the line says. A password that was changed or hashed anew since
    /// can't be told from another, so that there is one is enough.
    fn compared_to(&self, profile: &Profile, has_password: bool) -> Outcome {
        // Named one by one: a new field that is forgotten here does not compile.
        let NewUser {
            id: _,
            matricule,
            nom,
            prenom,
            ministere,
            avatar,
            sexe,
            email,
            username,
            telephone,
            preferences,
            customer_id,
            customer_name: _,
            user_type,
            is_company_owner,
            role: _,
        } = &self.new;
        differing([
            ("matricule", *matricule == profile.matricule),
            ("nom", *nom == profile.nom),
            ("prenom", *prenom == profile.prenom),
            ("ministere", *ministere == profile.ministere),
            ("avatar", *avatar == profile.avatar),
            ("sexe", *sexe == profile.sexe),
            ("email", *email == profile.email),
            ("username", *username == profile.username),
            ("telephone", *telephone == profile.telephone),
            ("preferences", *preferences == profile.preferences),
            ("customerId", *customer_id == profile.customer_id),
            ("userType", !self.names_user_type || *user_type == profile.user_type),
            ("isCompanyOwner", *is_company_owner == profile.is_company_owner),
            ("status", self.status == profile.status),
            ("roles", self.roles == profile.roles),
            ("emailVerified", self.email_verified.is_none_or(|it| it == profile.email_verified)),
            ("password", self.hash.is_none() || has_password),
        ])
    }
}

fn created(new: &NewUser) -> User {
    User::default().evolve(&Event::Created(new.clone().into()))
}

/// The field that a refusal is about.
fn field(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::MatriculeTaken => "matricule",
        Rejection::EmailTaken | Rejection::NoEmail | Rejection::LinkVoid => "email",
        Rejection::UsernameTaken => "username",
        Rejection::NoCustomer => "customerId",
        Rejection::Administrator | Rejection::Protected => "roles",
        Rejection::IdTaken
        | Rejection::NotFound
        | Rejection::AddressNotFound
        | Rejection::TooManyAddresses => "id",
    }
}

fn told(rejection: &Rejection) -> Outcome {
    refused(field(rejection), rejection.to_string())
}

impl Importer {
    pub(super) async fn user(&self, incoming: &Incoming, is_trial: bool) -> Result<Outcome, Failure> {
        let stream = StreamId::new(User::CATEGORY, incoming.id());
        let mut id_was_taken = false;
        loop {
            let now = self.users.current(&stream).await?;
            match &*now.state {
                User::Living(profile) => {
                    let access = StreamId::new(Access::CATEGORY, incoming.id());
                    let has_password = match incoming.hash {
                        Some(_) => self.access.current(&access).await?.state.password.is_some(),
                        None => false,
                    };
                    return Ok(incoming.compared_to(profile, has_password));
                }
                User::Deleted { .. } => return Ok(Outcome::Different(vec!["deleted"])),
                // Not the stream, then: it is the matricule of another user.
                User::Unregistered if id_was_taken => return Ok(told(&Rejection::IdTaken)),
                User::Unregistered => {}
            }
            let Some(new) = self.joined(incoming).await? else { return Ok(told(&Rejection::NoCustomer)) };
            if is_trial {
                return self.names_are_free(incoming).await;
            }
            match self.create(incoming, new, &stream).await? {
                None => return Ok(Outcome::Imported),
                // Somebody may have been faster, who may be ourselves.
                Some(Rejection::IdTaken) => id_was_taken = true,
                Some(rejection) => return Ok(told(&rejection)),
            }
        }
    }

    /// The user with what is known of the customer; nothing if that is not there. A customer that is deleted at
    /// this very moment leaves behind what it would leave a moment later: users stay. To bind each of its users
    /// to its stream would let them in one by one.
    async fn joined(&self, incoming: &Incoming) -> Result<Option<NewUser>, Failure> {
        let new = incoming.new.clone();
        let Some(id) = &new.customer_id else { return Ok(Some(new)) };
        let customer = self.customers.current(&customers::stream(id)).await?;
        Ok(customer.state.living().map(|account| customers::joining(new, account)))
    }

    /// Creates the user with all that the line says, in one append; why not, if it is refused.
    async fn create(
        &self,
        incoming: &Incoming,
        new: NewUser,
        stream: &StreamId,
    ) -> Result<Option<Rejection>, Failure> {
        let nothing = Arc::<Loaded<User>>::default();
        let steps = incoming.steps(self);
        let version = Version::try_from(1 + steps.len()).unwrap_or(Version::MAX);
        let mut after: Vec<Part<Rejection>> = steps
            .into_iter()
            .map(|step| self.users.part_of(stream.clone(), nothing.clone(), step, |it| it))
            .collect();
        if let Some(hash) = incoming.hash.clone() {
            let stream = StreamId::new(Access::CATEGORY, incoming.id());
            let command = access::Command::SetPassword(hash);
            after.push(self.access.part_of(stream, Arc::default(), command, |_| Rejection::IdTaken));
        }
        let turn = if incoming.can_administrate() {
            // Behind the user's own events, so that the set is never larger than the truth.
            let command = administrators::Command::Appoint { id: incoming.new.id.clone(), version };
            let refusal = |_| Rejection::Administrator;
            after.push(self.administrators.part(stream_of_set(), command, IfMatch::Any, refusal));
            Some(self.administrator.lock().await)
        } else {
            None
        };
        let request = request(stream.clone(), Command::Create(new.into()));
        let done = self.users.execute_with(request, Company { before: Vec::new(), after }).await;
        drop(turn);
        match done {
            Ok(_) => Ok(None),
            Err(error) => rejection(error).map(Some),
        }
    }

    /// Whether the log knows nobody of one of these names.
    async fn names_are_free(&self, incoming: &Incoming) -> Result<Outcome, Failure> {
        let user = created(&incoming.new);
        for claim in user.claims() {
            if self.users.holder(&ClaimValue::of(&claim)).await?.is_some() {
                return Ok(told(&claim.refusal));
            }
        }
        Ok(Outcome::Imported)
    }
}
