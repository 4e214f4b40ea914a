//! Who is created in what is held up, and is another or gone when it comes.

use serde_json::{Value, json};

use super::Amid;
use super::callers::Service;
use crate::server::text;

/// Its name, by which a write of the cache is known.
pub(crate) fn name(number: usize) -> String {
    format!("bait-{number}-m")
}

/// A user, or a customer.
pub(crate) struct Bait {
    number: usize,
    path: String,
    is_customer: bool,
}

impl Bait {
    pub(crate) async fn put(service: &Service, number: usize, amid: Amid) -> Self {
        let is_customer = amid == Amid::Batch("customers_v1");
        let (path, id, body) = if is_customer {
            ("/customers", "customerId", json!({ "customerType": "sme", "name": name(number) }))
        } else {
            ("/", "id", json!({ "matricule": name(number), "nom": "Avant" }))
        };
        let put = service.ask(&format!("{}.put", name(number)), "POST", path, &body).await;
        let path = format!("{}/{}", path.trim_end_matches('/'), text(&put, id));
        Self { number, path, is_customer }
    }

    /// It goes; of a user another one has the matricule then.
    pub(crate) async fn take_away(self, service: &Service) {
        let Self { number, path, is_customer } = self;
        let key = |what: &str| format!("{}.{what}", name(number));
        if !is_customer {
            let renamed = json!({ "matricule": format!("bait-{number}-n"), "nom": "Après" });
            service.ask(&key("rename"), "PUT", &path, &renamed).await;
            let heir = json!({ "matricule": name(number), "nom": "Héritier" });
            service.ask(&key("heir"), "POST", "/", &heir).await;
        }
        service.ask(&key("delete"), "DELETE", &path, &Value::Null).await;
    }
}
