//! Sessions that end because of what the log says.
//!
//! Who carries out such a command ends them itself before it answers; this makes up for who was killed in
//! between.

use domain::Aggregate;
use domain::access::{self, Access, PasswordChanged, SessionEnded};
use domain::user::{self, Status, StatusChanged};
use event_store::{Recorded, StoredEvent};
use sqlx::PgConnection;

use super::{Floor, end_below};
use crate::table::ApplyError;

/// Ends the sessions of those who may not log in any more, or have another password.
pub(crate) async fn follow(
    connection: &mut PgConnection,
    users: &[Recorded<user::Event>],
    events: &[StoredEvent],
) -> Result<(), ApplyError> {
    for event in users {
        if shuts_out(&event.event) {
            end_below(connection, event.stream.id(), Floor::User(event.version)).await?;
        }
    }
    for event in events.iter().filter(|event| event.stream.category() == Access::CATEGORY) {
        let event = event.decode::<access::Event>().map_err(ApplyError::at(event))?;
        match &event.event {
            access::Event::PasswordChanged(PasswordChanged { kept_session, .. }) => {
                let floor = Floor::Password { version: event.version, kept: *kept_session };
                end_below(connection, event.stream.id(), floor).await?;
            }
            access::Event::PasswordReset(_) => {
                let floor = Floor::Password { version: event.version, kept: None };
                end_below(connection, event.stream.id(), floor).await?;
            }
            access::Event::PasswordSet(_)
            | access::Event::ResetRequested(_)
            | access::Event::MfaEnrolled(_)
            | access::Event::MfaConfirmed(_)
            | access::Event::MfaRemoved(_)
            | access::Event::PasswordRehashed(_)
            | access::Event::LoggedIn(_)
            | access::Event::LoginFailed(_) => {}
            access::Event::SessionEnded(SessionEnded { session, .. }) => {
                super::end(&mut *connection, *session).await?;
            }
        }
    }
    Ok(())
}

fn shuts_out(event: &user::Event) -> bool {
    match event {
        user::Event::StatusChanged(StatusChanged { status, .. }) => *status != Status::Active,
        user::Event::Deleted(_) => true,
        user::Event::Created(_)
        | user::Event::Registered(_)
        | user::Event::AddressAdded(_)
        | user::Event::AddressUpdated(_)
        | user::Event::AddressDeleted(_)
        | user::Event::VerificationRequested(_)
        | user::Event::EmailVerified(_)
        | user::Event::MfaEnabled(_)
        | user::Event::MfaDisabled(_)
        | user::Event::DeviceRegistered(_)
        | user::Event::Changed(_)
        | user::Event::RoleAssigned(_)
        | user::Event::RoleRemoved(_)
        | user::Event::AdministratorConfirmed(_) => false,
    }
}
