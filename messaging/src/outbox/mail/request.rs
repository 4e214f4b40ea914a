//! Which events ask for a mail.

use chrono::{DateTime, Utc};
use domain::access;
use domain::mail::Purpose;
use domain::user;
use domain::values::Email;
use event_store::reader::Failure;
use event_store::{Position, StoreError, StoredEvent};
use uuid::Uuid;

use crate::outbox::Category;
use crate::routes::{self, MailAsked};

/// A mail that is to be sent.
pub(super) struct Request {
    pub(super) event_id: Uuid,
    pub(super) position: Position,
    pub(super) purpose: Purpose,
    pub(super) user_id: String,
    pub(super) to: Email,
    /// What the event calls it.
    pub(super) id: Uuid,
    /// The event's time, from which the link is good for a while.
    pub(super) at: DateTime<Utc>,
}

impl Request {
    /// What an event asks for, if it asks for a mail.
    pub(super) fn of(event: &StoredEvent) -> Result<Option<Self>, Failure> {
        match Category::of(event)? {
            Category::User => {
                let asking = event.decode::<user::Event>().map_err(StoreError::from)?;
                Ok(routes::mail_of_user(&asking.event).map(|asked| Self::new(event, asked)))
            }
            Category::Access => {
                let asking = event.decode::<access::Event>().map_err(StoreError::from)?;
                Ok(routes::mail_of_access(&asking.event).map(|asked| Self::new(event, asked)))
            }
            Category::Administrators
            | Category::Customer
            | Category::Subscription
            | Category::TokenAccount => Ok(None),
        }
    }

    fn new(event: &StoredEvent, asked: MailAsked<'_>) -> Self {
        let MailAsked { purpose, to, request } = asked;
        Self {
            event_id: event.event_id,
            position: event.position,
            purpose,
            user_id: event.stream.id().to_owned(),
            to: to.clone(),
            id: request,
            at: event.recorded_at,
        }
    }
}
