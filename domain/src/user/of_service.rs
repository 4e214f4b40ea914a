//! What other services may not ask of users: anything of administrators.

use super::{Command, NewUser, Profile};
use crate::values::RoleName;

impl Profile {
    /// Whether another service may not ask this of the user.
    pub(super) fn is_protected_from(&self, command: &Command) -> bool {
        command.is_of_admin() || (self.is_administrator() && !command.is_first())
    }
}

impl NewUser {
    /// Whether it would be one.
    pub(super) fn makes_administrator(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.as_str() == RoleName::ADMIN)
    }
}

impl Command {
    /// Whether it makes users: of one who is there it only says so.
    fn is_first(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Register { .. })
    }

    /// Whether it gives or takes the role of administrators.
    fn is_of_admin(&self) -> bool {
        match self {
            Self::AssignRole(role) | Self::RemoveRole(role) | Self::ReplaceRole(role) => {
                role.as_str() == RoleName::ADMIN
            }
            Self::Create(user) | Self::Register { user, .. } => user.makes_administrator(),
            Self::OfDismissed(command) | Self::OfService(command) => command.is_of_admin(),
            Self::Change(_)
            | Self::ChangeStatus { .. }
            | Self::AddAddress(_)
            | Self::ChangeAddress { .. }
            | Self::DeleteAddress(_)
            | Self::RequestVerification { .. }
            | Self::VerifyEmail { .. }
            | Self::VouchForEmail { .. }
            | Self::EnableMfa(_)
            | Self::DisableMfa(_)
            | Self::RegisterDevice(_)
            | Self::Delete
            | Self::Confirm => false,
        }
    }
}
