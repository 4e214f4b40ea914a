//! Whose a name is within a file: of two lines that want the same, the first has it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::{Line, Reason, What};

/// The names that lines have taken so far. Of each a hash is kept, 64 bits under a key of chance: two of a
/// million names are mistaken for one another once in forty million files.
#[derive(Default)]
pub struct Names {
    taken: HashMap<u64, u64>,
    key: RandomState,
}

/// A name that only one may have: of what, which, and in which field it stands.
pub(super) type Name = (&'static str, String, &'static str);

impl Names {
    /// Takes the names of the line of this number, or says which of them an earlier one has.
    pub fn take(&mut self, line: &Line, number: u64) -> Result<(), Vec<Reason>> {
        let names = match &line.0 {
            What::User(user) => user.names(),
            What::Customer(customer) => vec![("customer", customer.id().to_owned(), "customerId")],
            What::Balance(balance) => vec![("balance", balance.id().to_owned(), "customerId")],
        };
        let hashes: Vec<u64> =
            names.iter().map(|(space, name, _)| self.key.hash_one((space, name))).collect();
        let earlier = names.iter().zip(&hashes).filter_map(|((_, _, field), hash)| {
            let earlier = self.taken.get(hash)?;
            Some(Reason::new(field, format!("déjà pris par la ligne {earlier} de ce fichier")))
        });
        let earlier: Vec<Reason> = earlier.collect();
        if !earlier.is_empty() {
            return Err(earlier);
        }
        self.taken.extend(hashes.into_iter().map(|hash| (hash, number)));
        Ok(())
    }
}
