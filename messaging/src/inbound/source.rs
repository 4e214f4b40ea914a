//! The topics that other services ask on.

/// What a message is about: the topic that the contract names for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Another service has a new user.
    UserCreated,
    /// A user may log in, or no more, or is gone.
    UserStatusChanged,
    /// A user has another role for its customer.
    UserRoleChanged,
    /// A user is gone.
    UserDeleted,
    /// Another service has a new customer.
    CustomerCreated,
    /// What do we know of something?
    DataRequest,
    /// Fields of a customer are to change.
    UpdateRequest,
    /// An administrator decides on a customer.
    AdminAction,
    /// The accounting service bills, invoices, or was paid.
    AccountingRequest,
    /// A customer used tokens.
    TokenUsage,
    /// A user did something with the app.
    MobileAction,
    /// What the portfolio of enterprises knows of one.
    PortfolioSme,
    /// What the portfolio of institutions knows of one.
    PortfolioInstitution,
}

impl Source {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::UserCreated,
        Self::UserStatusChanged,
        Self::UserRoleChanged,
        Self::UserDeleted,
        Self::CustomerCreated,
        Self::DataRequest,
        Self::UpdateRequest,
        Self::AdminAction,
        Self::AccountingRequest,
        Self::TokenUsage,
        Self::MobileAction,
        Self::PortfolioSme,
        Self::PortfolioInstitution,
    ];

    /// The topic's name, unless `INBOUND_TOPICS` gives another.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserCreated => "user.created",
            Self::UserStatusChanged => "user.status.changed",
            Self::UserRoleChanged => "user.role.changed",
            Self::UserDeleted => "user.deleted",
            Self::CustomerCreated => "customer.created",
            Self::DataRequest => "customer.data.request",
            Self::UpdateRequest => "customer.update.request",
            Self::AdminAction => "admin.customer.action",
            Self::AccountingRequest => "accounting.customer.request",
            Self::TokenUsage => "adha-ai.token.usage",
            Self::MobileAction => "mobile.user.action",
            Self::PortfolioSme => "portfolio-sme.customer.update",
            Self::PortfolioInstitution => "portfolio-institution.customer.update",
        }
    }

    /// The one of this name, or of the name that older documents have for it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "USER_CREATED" => Some(Self::UserCreated),
            "CUSTOMER_CREATED" => Some(Self::CustomerCreated),
            _ => Self::ALL.into_iter().find(|source| source.name() == name),
        }
    }

    /// The service that the topic is named for.
    #[must_use]
    pub const fn owner(self) -> Option<&'static str> {
        match self {
            Self::AdminAction => Some("admin-service"),
            Self::AccountingRequest => Some("accounting-service"),
            Self::TokenUsage => Some("adha-ai-service"),
            Self::MobileAction => Some("app-mobile-service"),
            Self::PortfolioSme => Some("portfolio-sme-service"),
            Self::PortfolioInstitution => Some("portfolio-institution-service"),
            Self::UserCreated
            | Self::UserStatusChanged
            | Self::UserRoleChanged
            | Self::UserDeleted
            | Self::CustomerCreated
            | Self::DataRequest
            | Self::UpdateRequest => None,
        }
    }

    /// The fields without which a message can't be understood. Where they stand tells a bare value from one in
    /// an envelope.
    #[must_use]
    pub const fn required(self) -> &'static [&'static str] {
        match self {
            Self::UserCreated => &["userId", "email", "name", "role", "userType", "timestamp"],
            Self::UserStatusChanged => &["userId", "newStatus"],
            Self::UserRoleChanged => &["userId", "newRole"],
            Self::UserDeleted => &["userId"],
            Self::CustomerCreated => &["customerId", "name"],
            Self::DataRequest => &["requestingService", "requestType", "entityId"],
            Self::UpdateRequest => &["customerId", "requestingService", "updateFields", "requestId"],
            Self::AdminAction => &["customerId", "adminId", "action"],
            Self::AccountingRequest => &["customerId", "requestType", "data", "requestId"],
            Self::TokenUsage => &["customerId", "amount", "serviceType"],
            Self::MobileAction => &["userId", "action"],
            Self::PortfolioSme | Self::PortfolioInstitution => &["updateType", "data"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_found_by_its_name() {
        for source in Source::ALL {
            assert_eq!(Source::parse(source.name()), Some(source));
        }
        for name in ["", "user.events", "User.Created", "user.created.dlq", "customer.updated"] {
            assert_eq!(Source::parse(name), None, "{name}");
        }
    }

    #[test]
    fn older_documents_have_other_names_for_two() {
        assert_eq!(Source::parse("USER_CREATED"), Some(Source::UserCreated));
        assert_eq!(Source::parse("CUSTOMER_CREATED"), Some(Source::CustomerCreated));
    }

    #[test]
    fn a_topic_belongs_to_the_service_it_is_named_for() {
        let owned: Vec<_> = Source::ALL.into_iter().filter_map(|it| Some((it.name(), it.owner()?))).collect();
        assert_eq!(
            owned,
            [
                ("admin.customer.action", "admin-service"),
                ("accounting.customer.request", "accounting-service"),
                ("adha-ai.token.usage", "adha-ai-service"),
                ("mobile.user.action", "app-mobile-service"),
                ("portfolio-sme.customer.update", "portfolio-sme-service"),
                ("portfolio-institution.customer.update", "portfolio-institution-service"),
            ]
        );
    }
}
