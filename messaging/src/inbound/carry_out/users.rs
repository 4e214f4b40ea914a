//! What other services say of users.

use domain::ids::CustomerId;
use domain::user::{Changes, Command, Device, NewUser, Rejection, User};
use domain::values::Patch;
use event_store::UnitOfWork;

use super::customers::{self, living};
use super::{Done, Stop, refused, stop, user};
use crate::inbound::Refused;
use crate::inbound::mobile::{Action, MobileAction};
use crate::inbound::users::{
    Mapping, NewStatus, UserCreated, UserDeleted, UserRoleChanged, UserStatusChanged,
};

const USER_TYPES: &str = "`userType` is none of SME_USER, SME_OWNER, INSTITUTION_USER, INSTITUTION_ADMIN";

/// The four rules of who is created, in their order.
pub(super) async fn created(created: &UserCreated, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let stream = user(created.user_id.as_str());
    match *unit.state::<User>(&stream).await? {
        User::Unregistered => {}
        User::Living(_) | User::Deleted { .. } => {
            return Ok(Done::Skipped { reason: "known user", warn: false });
        }
    }
    let id = created.customer_account_id.as_deref().and_then(|id| CustomerId::parse(id).ok());
    let Some(id) = id else { return Ok(Done::UNKNOWN_CUSTOMER) };
    let Some(account) = living(&id, unit).await? else { return Ok(Done::UNKNOWN_CUSTOMER) };
    let mapping = Mapping::of(&created.user_type).ok_or_else(|| Refused::invalid(USER_TYPES))?;
    let new = NewUser {
        id: created.user_id.clone(),
        matricule: None,
        nom: created.name.clone(),
        prenom: None,
        ministere: None,
        avatar: None,
        sexe: None,
        email: Some(created.email.clone()),
        username: None,
        telephone: None,
        preferences: None,
        customer_id: Some(id),
        customer_name: Some(account.name),
        user_type: Some(mapping.user_type),
        is_company_owner: mapping.is_company_owner,
        role: Some(mapping.role.name()),
    };
    decided(&created.user_id, Command::Create(new.into()), unit).await
}

pub(super) async fn status_changed(changed: &UserStatusChanged, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    match changed.to {
        NewStatus::Deleted => delete(&changed.user_id, unit).await,
        NewStatus::To(to) => {
            let command = Command::ChangeStatus { to, reason: None };
            known(&changed.user_id, command, Done::UNKNOWN_USER, unit).await
        }
    }
}

pub(super) async fn role_changed(changed: &UserRoleChanged, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let command = Command::ReplaceRole(changed.role.name());
    known(&changed.user_id, command, Done::UNKNOWN_USER, unit).await
}

pub(super) async fn deleted(deleted: &UserDeleted, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    delete(&deleted.user_id, unit).await
}

async fn delete(id: &domain::ids::UserId, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    known(id, Command::Delete, Done::HOLDS, unit).await
}

/// What the app does for a user, who must be of the customer that it names.
pub(super) async fn mobile(action: &MobileAction, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let MobileAction { user_id, customer_id, action } = action;
    let state = unit.state::<User>(&user(user_id.as_str())).await?;
    let profile = match &*state {
        User::Living(profile) => profile,
        User::Unregistered | User::Deleted { .. } => {
            return Err(refused(Refused::NOT_FOUND, &Rejection::NotFound));
        }
    };
    if customer_id.as_ref().is_some_and(|id| profile.customer_id.as_ref() != Some(id)) {
        return Err(Refused::forbidden("the user is not of that customer").into());
    }
    match action {
        Action::Preferences(update) => {
            let before = profile.preferences.clone().unwrap_or_default();
            let too_large = |rule| refused(Refused::TOO_LARGE, &rule);
            let after = before.merged_with(update).map_err(too_large)?;
            // None, and those of which there is nothing to say, are the same here.
            let preferences = if after == before {
                Patch::Keep
            } else if after.as_map().is_empty() {
                Patch::Clear
            } else {
                Patch::Set(after)
            };
            let changes = Changes { preferences, ..Changes::default() };
            decided(user_id, Command::Change(changes.into()), unit).await
        }
        Action::Device { id, device } => {
            let device = Device { device_id: id.clone(), device: device.clone() };
            decided(user_id, Command::RegisterDevice(device), unit).await
        }
        Action::Tokens(movement) => customers::usage(movement.as_ref().clone(), unit).await,
    }
}

/// Of a user who is there; `gone` is what becomes of it for one who was deleted.
async fn known(
    id: &domain::ids::UserId,
    command: Command,
    gone: Done,
    unit: &mut UnitOfWork,
) -> Result<Done, Stop> {
    match *unit.state::<User>(&user(id.as_str())).await? {
        User::Unregistered => Ok(Done::UNKNOWN_USER),
        User::Deleted { .. } => Ok(gone),
        User::Living(_) => decided(id, command, unit).await,
    }
}

async fn decided(id: &domain::ids::UserId, command: Command, unit: &mut UnitOfWork) -> Result<Done, Stop> {
    let command = Command::OfService(command.into());
    let events = unit.decide::<User>(&user(id.as_str()), command).await;
    events
        .map(Done::by)
        .map_err(|undecided| stop(undecided, |rejection| refused(code(&rejection), &rejection)))
}

/// As the errors over HTTP are called.
const fn code(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::NotFound => Refused::NOT_FOUND,
        Rejection::NoCustomer => "CUSTOMER_NOT_FOUND",
        Rejection::IdTaken => "ID_TAKEN",
        Rejection::MatriculeTaken => "MATRICULE_TAKEN",
        Rejection::EmailTaken => "EMAIL_TAKEN",
        Rejection::UsernameTaken => "USERNAME_TAKEN",
        Rejection::Administrator | Rejection::Protected => Refused::FORBIDDEN,
        Rejection::AddressNotFound
        | Rejection::TooManyAddresses
        | Rejection::NoEmail
        | Rejection::LinkVoid => Refused::INVALID_STATE,
    }
}
