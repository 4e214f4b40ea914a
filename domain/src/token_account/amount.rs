//! How many tokens.

use serde::{Deserialize, Serialize};

use crate::values::Invalid;

/// A number of tokens that move at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Amount(u64);

impl Amount {
    /// The largest.
    pub const MAX: u64 = 1_000_000_000_000;

    /// Accepts 1 to 10¹².
    pub fn parse(raw: u64) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&raw) { Ok(Self(raw)) } else { Err(Self::RULE) }
    }

    /// What is said of a number that is none.
    pub const RULE: Invalid = Invalid::new("entier de 1 à 1000000000000");

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What an account holds, and where it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// All that were bought.
    pub purchased: u64,
    /// All that were used.
    pub used: u64,
    /// All that were given.
    pub allocated: u64,
}

impl Totals {
    /// The largest total that a reader of JSON gets whole, in JavaScript as well.
    pub const MAX: u64 = (1 << 53) - 1;

    /// What there is to use.
    #[must_use]
    pub const fn balance(&self) -> u64 {
        (self.purchased + self.allocated).saturating_sub(self.used)
    }

    pub(super) fn purchase(self, amount: Amount) -> Option<Self> {
        Self { purchased: self.purchased + amount.get(), ..self }.countable()
    }

    pub(super) fn allocate(self, amount: Amount) -> Option<Self> {
        Self { allocated: self.allocated + amount.get(), ..self }.countable()
    }

    pub(super) fn spend(self, amount: Amount) -> Option<Self> {
        (amount.get() <= self.balance()).then_some(Self { used: self.used + amount.get(), ..self })
    }

    fn countable(self) -> Option<Self> {
        (self.purchased + self.allocated <= Self::MAX).then_some(self)
    }
}
