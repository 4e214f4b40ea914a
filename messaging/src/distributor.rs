//! Who is told of what: the Kafka topic of each event, and the services that get a copy on a topic of
//! their own. The documents call it `CustomerEventsDistributor`.

/// An event's topic, and the copies of what goes there.
#[derive(Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The topic for everyone; also the type of its messages.
    pub topic: &'static str,
    /// The services concerned.
    pub services: &'static [&'static str],
    /// One for each of them.
    pub copies: &'static [Copy],
}

/// A topic for one service.
#[derive(Debug, PartialEq, Eq)]
pub struct Copy {
    /// The service.
    pub service: &'static str,
    /// Its topic.
    pub topic: &'static str,
}

macro_rules! distribution {
    ($($name:ident: $event:literal => $($service:literal)*;)*) => {
        $(pub(crate) const $name: &Distribution = &Distribution {
            topic: $event,
            services: &[$($service),*],
            copies: &[$(Copy { service: $service, topic: concat!($service, ".", $event) }),*],
        };)*
        /// Every event that has a topic of its own.
        pub const ALL: &[&Distribution] = &[$($name),*];
    };
}

// THE table.
distribution! {
    USER_CREATED: "user.created" => "admin-service" "app-mobile-service";
    USER_UPDATED: "user.updated" => "admin-service" "app-mobile-service";
    USER_STATUS_CHANGED: "user.status.changed" => "admin-service" "app-mobile-service";
    USER_ROLE_CHANGED: "user.role.changed" => "admin-service" "app-mobile-service";
    USER_PASSWORD_RESET: "user.password.reset" => "admin-service" "app-mobile-service";
    USER_DELETED: "user.deleted" => "admin-service" "app-mobile-service";
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
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
