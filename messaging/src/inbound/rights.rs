//! What each service may ask for: the table.
//!
//! Without keys a sender is who it says it is, and the table keeps mistakes away rather than people.

use domain::customer::{CHANGEABLE, CustomerType};

use super::Source;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// A customer.
    Customer,
    /// A user.
    User,
    /// A subscription.
    Subscription,
    /// The tokens of a customer.
    Token,
}

impl Entity {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Customer, Self::User, Self::Subscription, Self::Token];

    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::User => "user",
            Self::Subscription => "subscription",
            Self::Token => "token",
        }
    }
}

/// What a service may change of customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updates {
    /// The fields.
    pub fields: &'static [&'static str],
    /// Of customers of this type; [`None`]: of all.
    pub only: Option<CustomerType>,
}

struct Rights {
    service: &'static str,
    reads: &'static [Entity],
    updates: Option<Updates>,
    sends: &'static [Source],
}

const ALL: &[Entity] = &Entity::ALL;
/// What bills are made of.
const BILLING: &[&str] = &["billingInfo", "paymentMethod", "taxId"];
/// Who a customer is, how to reach it, and what it set up.
const CONTACT: &[&str] = &["name", "phone", "address", "city", "country", "preferences"];

const TABLE: [Rights; 7] = [
    Rights {
        service: "admin-service",
        reads: ALL,
        updates: Some(Updates { fields: &CHANGEABLE, only: None }),
        sends: &[
            Source::AdminAction,
            Source::AccountingRequest,
            Source::TokenUsage,
            Source::MobileAction,
            Source::PortfolioSme,
            Source::PortfolioInstitution,
        ],
    },
    Rights { service: "analytics-service", reads: ALL, updates: None, sends: &[] },
    Rights {
        service: "accounting-service",
        reads: ALL,
        updates: Some(Updates { fields: BILLING, only: None }),
        sends: &[Source::AccountingRequest],
    },
    Rights {
        service: "portfolio-sme-service",
        reads: ALL,
        updates: Some(Updates { fields: CONTACT, only: Some(CustomerType::Sme) }),
        sends: &[Source::PortfolioSme],
    },
    Rights {
        service: "portfolio-institution-service",
        reads: ALL,
        updates: Some(Updates { fields: CONTACT, only: Some(CustomerType::Institution) }),
        sends: &[Source::PortfolioInstitution],
    },
    Rights {
        service: "app-mobile-service",
        reads: &[Entity::User],
        updates: None,
        sends: &[Source::MobileAction],
    },
    Rights { service: "adha-ai-service", reads: &[], updates: None, sends: &[Source::TokenUsage] },
];

fn of(service: Option<&str>) -> Option<&'static Rights> {
    TABLE.iter().find(|rights| Some(rights.service) == service)
}

/// Whether the service may know one of these.
#[must_use]
pub fn may_read(service: Option<&str>, entity: Entity) -> bool {
    of(service).is_some_and(|rights| rights.reads.contains(&entity))
}

/// What the service may change of customers; [`None`]: nothing.
#[must_use]
pub fn may_update(service: Option<&str>) -> Option<Updates> {
    of(service)?.updates
}

/// Whether the service may send messages of this kind at all; what one asks for may still be too much.
#[must_use]
pub fn may_act(service: Option<&str>, source: Source) -> bool {
    match source {
        // What happened elsewhere is no request.
        Source::UserCreated
        | Source::UserStatusChanged
        | Source::UserRoleChanged
        | Source::UserDeleted
        | Source::CustomerCreated => true,
        Source::DataRequest => of(service).is_some_and(|rights| !rights.reads.is_empty()),
        Source::UpdateRequest => may_update(service).is_some(),
        Source::AdminAction
        | Source::AccountingRequest
        | Source::TokenUsage
        | Source::MobileAction
        | Source::PortfolioSme
        | Source::PortfolioInstitution => of(service).is_some_and(|rights| rights.sends.contains(&source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: [Option<&str>; 10] = [
        Some("admin-service"),
        Some("analytics-service"),
        Some("accounting-service"),
        Some("portfolio-sme-service"),
        Some("portfolio-institution-service"),
        Some("app-mobile-service"),
        Some("adha-ai-service"),
        Some("Admin-Service"),
        Some(""),
        None,
    ];

    #[test]
    fn who_may_read_what() {
        let read = |service| Entity::ALL.map(|entity| may_read(service, entity));
        for (service, expected) in SERVICES.into_iter().zip([
            [true; 4],
            [true; 4],
            [true; 4],
            [true; 4],
            [true; 4],
            [false, true, false, false],
            [false; 4],
            [false; 4],
            [false; 4],
            [false; 4],
        ]) {
            assert_eq!(read(service), expected, "{service:?}");
        }
    }

    #[test]
    fn who_may_update_what() {
        let contact = ["name", "phone", "address", "city", "country", "preferences"];
        let of = |service| may_update(Some(service)).unwrap();
        assert_eq!(of("admin-service"), Updates { fields: &CHANGEABLE, only: None });
        let billing = Updates { fields: &["billingInfo", "paymentMethod", "taxId"], only: None };
        assert_eq!(of("accounting-service"), billing);
        assert_eq!(of("portfolio-sme-service").fields, contact);
        assert_eq!(of("portfolio-sme-service").only, Some(CustomerType::Sme));
        assert_eq!(of("portfolio-institution-service").fields, contact);
        assert_eq!(of("portfolio-institution-service").only, Some(CustomerType::Institution));
        for service in
            [Some("analytics-service"), Some("app-mobile-service"), Some("adha-ai-service"), Some("x"), None]
        {
            assert_eq!(may_update(service), None, "{service:?}");
        }
    }

    #[test]
    fn who_may_send_what() {
        let free =
            ["user.created", "user.status.changed", "user.role.changed", "user.deleted", "customer.created"];
        let sent = |service| {
            let all = Source::ALL.into_iter().filter(|it| may_act(service, *it)).map(Source::name);
            all.filter(|it| !free.contains(it)).collect::<Vec<_>>()
        };
        let everything: Vec<_> = Source::ALL.iter().map(|it| it.name()).skip(free.len()).collect();
        let (asks, updates) = ("customer.data.request", "customer.update.request");
        for (service, expected) in SERVICES.into_iter().zip([
            everything,
            vec![asks],
            vec![asks, updates, "accounting.customer.request"],
            vec![asks, updates, "portfolio-sme.customer.update"],
            vec![asks, updates, "portfolio-institution.customer.update"],
            vec![asks, "mobile.user.action"],
            vec!["adha-ai.token.usage"],
            vec![],
            vec![],
            vec![],
        ]) {
            assert_eq!(sent(service), expected, "{service:?}");
        }
    }

    #[test]
    fn what_happened_elsewhere_needs_no_right() {
        for source in &Source::ALL[..5] {
            assert!(may_act(None, *source), "{}", source.name());
        }
    }

    #[test]
    fn every_owner_of_a_topic_may_send_on_it() {
        for source in Source::ALL.into_iter().filter(|it| it.owner().is_some()) {
            assert!(may_act(source.owner(), source), "{}", source.name());
        }
    }
}
