//! Who is told of what: the Kafka topic of each event, and the services that get a copy on a topic of
//! their own. The documents call it `CustomerEventsDistributor`.

use domain::customer::CustomerType;

/// An event's topic, and the copies of what goes there.
#[derive(Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The topic for everyone; also the type of its messages.
    pub topic: &'static str,
    /// One for each service that may be concerned.
    pub copies: &'static [Copy],
}

/// A topic for one service.
#[derive(Debug, PartialEq, Eq)]
pub struct Copy {
    /// The service.
    pub service: &'static str,
    /// Its topic.
    pub topic: &'static str,
    /// Of which customers it is told; [`None`]: of all.
    pub of: Option<CustomerType>,
    /// The fields of a customer that concern it; [`None`]: all.
    pub fields: Option<&'static [&'static str]>,
}

macro_rules! distribution {
    ($($name:ident: $event:literal => $($service:literal $(only $fields:ident)?)* $(+ $portfolio:ident $(only $part:ident)?)?;)*) => {
        $(pub(crate) const $name: &Distribution = &Distribution {
            topic: $event,
            copies: &[
                $(distribution!(@copy $event, $service, () ($($fields)?)),)*
                $(distribution!(@$portfolio $event, Sme ($($part)?)),
                distribution!(@$portfolio $event, Institution ($($part)?)),)?
            ],
        };)*
        /// Every event that has a topic of its own.
        pub const ALL: &[&Distribution] = &[$($name),*];
    };
    (@portfolio $event:literal, Sme $fields:tt) => {
        distribution!(@copy $event, "portfolio-sme-service", (Sme) $fields)
    };
    (@portfolio $event:literal, Institution $fields:tt) => {
        distribution!(@copy $event, "portfolio-institution-service", (Institution) $fields)
    };
    (@copy $event:literal, $service:literal, ($($of:ident)?) ($($fields:ident)?)) => {
        Copy {
            service: $service,
            topic: concat!($service, ".", $event),
            of: distribution!(@maybe $(CustomerType::$of)?),
            fields: distribution!(@maybe $($fields)?),
        }
    };
    (@maybe) => { None };
    (@maybe $value:expr) => { Some($value) };
}

/// What bills are made of.
const BILLING: &[&str] = &["billingInfo", "paymentMethod", "taxId"];
/// Who a customer is, and how to reach it.
const CONTACT: &[&str] = &["name", "address", "phone", "email", "city", "country"];

// THE table. `portfolio` is the service of the customer's portfolio: one for each kind of customer.
distribution! {
    CUSTOMER_CREATED: "customer.created" => "admin-service" "accounting-service" "analytics-service" + portfolio;
    CUSTOMER_UPDATED: "customer.updated" => "admin-service" "analytics-service"
        "accounting-service" only BILLING + portfolio only CONTACT;
    CUSTOMER_VALIDATED: "customer.validated" => "admin-service" "accounting-service" "app-mobile-service" + portfolio;
    CUSTOMER_SUSPENDED: "customer.suspended" => "admin-service" "accounting-service" "app-mobile-service" + portfolio;
    CUSTOMER_REACTIVATED: "customer.reactivated" => "admin-service" "accounting-service" "app-mobile-service" + portfolio;
    CUSTOMER_DELETED: "customer.deleted" => "admin-service" "accounting-service" "analytics-service" + portfolio;
    USER_CREATED: "user.created" => "admin-service" "app-mobile-service";
    USER_UPDATED: "user.updated" => "admin-service" "app-mobile-service";
    USER_STATUS_CHANGED: "user.status.changed" => "admin-service" "app-mobile-service";
    USER_ROLE_CHANGED: "user.role.changed" => "admin-service" "app-mobile-service";
    USER_PASSWORD_RESET: "user.password.reset" => "admin-service" "app-mobile-service";
    USER_DELETED: "user.deleted" => "admin-service" "app-mobile-service";
    SUBSCRIPTION_CREATED: "subscription.created" => "admin-service" "accounting-service" "app-mobile-service";
    SUBSCRIPTION_UPDATED: "subscription.updated" => "admin-service" "accounting-service" "app-mobile-service";
    SUBSCRIPTION_RENEWED: "subscription.renewed" => "admin-service" "accounting-service" "app-mobile-service";
    SUBSCRIPTION_CANCELLED: "subscription.cancelled" => "admin-service" "accounting-service" "app-mobile-service";
    SUBSCRIPTION_EXPIRED: "subscription.expired" => "admin-service" "accounting-service" "app-mobile-service";
    TOKEN_PURCHASED: "token.purchased" => "admin-service" "accounting-service" "app-mobile-service";
    TOKEN_USED: "token.used" => "admin-service" "accounting-service" "app-mobile-service";
    TOKEN_ALLOCATED: "token.allocated" => "admin-service" "accounting-service" "app-mobile-service";
}

impl Distribution {
    /// Its topic and those of its copies.
    pub fn topics(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.topic).chain(self.copies.iter().map(|copy| copy.topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_to_the_topic_named_for_its_service() {
        let all: Vec<_> = USER_CREATED.topics().collect();
        assert_eq!(all, ["user.created", "admin-service.user.created", "app-mobile-service.user.created"]);
    }

    #[test]
    fn no_topic_is_another_ones_too() {
        let mut all: Vec<_> = crate::routes::topics().collect();
        assert_eq!(all.len(), 87, "as many as there are in the contract");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 87);
    }

    /// Of nothing else a part can be made: the service would never hear of it.
    #[test]
    fn fields_are_named_of_changed_customers_alone() {
        for event in ALL.iter().filter(|it| **it != CUSTOMER_UPDATED) {
            assert!(event.copies.iter().all(|copy| copy.fields.is_none()), "{}", event.topic);
        }
    }
}
