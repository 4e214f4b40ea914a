//! What a role in a customer allows there. What other customers have, nobody of this one knows of.

use super::caller::Caller;
use crate::error::ApiError;

/// The role of those who manage their customer.
const CUSTOMER_ADMIN: &str = "CUSTOMER_ADMIN";
/// The role of those who work for it.
const CUSTOMER_USER: &str = "CUSTOMER_USER";

/// What is asked of a customer, by what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// To read: `CUSTOMER_USER`, `CUSTOMER_ADMIN`, and services.
    Read,
    /// To use its tokens: `CUSTOMER_USER`, `CUSTOMER_ADMIN`.
    Use,
    /// To change it, to subscribe and to buy: `CUSTOMER_ADMIN`.
    Manage,
    /// To judge of it: administrators alone.
    Administer,
}

impl Right {
    /// Refuses who does not have it on the customer of that id; `missing` is for who is of another, or of none.
    pub(super) fn check(
        self,
        caller: &Caller,
        customer: Option<&str>,
        missing: ApiError,
    ) -> Result<(), ApiError> {
        let signed_in = match caller {
            _ if caller.is_admin() => return Ok(()),
            Caller::Service(_) if self == Self::Read => return Ok(()),
            Caller::User(signed_in) => signed_in,
            Caller::Anonymous | Caller::Anyone | Caller::Service(_) => return Err(ApiError::Forbidden),
        };
        if signed_in.user.customer_id.is_none() || signed_in.user.customer_id.as_deref() != customer {
            return Err(missing);
        }
        let roles: &[&str] = match self {
            Self::Read | Self::Use => &[CUSTOMER_ADMIN, CUSTOMER_USER],
            Self::Manage => &[CUSTOMER_ADMIN],
            Self::Administer => &[],
        };
        if signed_in.user.roles.iter().any(|role| roles.contains(&&**role)) {
            Ok(())
        } else {
            Err(ApiError::Forbidden)
        }
    }
}
