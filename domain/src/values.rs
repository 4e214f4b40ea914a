//! What a person is described with: parsed once, valid ever after.
//!
//! Reading a stored value never checks it again: a rule may become stricter,
//! but what was stored has happened.

mod object;

use std::borrow::Borrow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use url::Url;

pub use object::{Details, Object, Preferences};

/// Why a value is not accepted: a sentence for who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

impl Invalid {
    pub(crate) const fn new(sentence: &'static str) -> Self {
        Self(sentence)
    }
}

/// A line of text: a name, a ministry, a telephone number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Text(String);

impl Text {
    /// Accepts 1 to 200 characters without control characters; trims, and composes accents.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        line(raw).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name to log in with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Username(String);

impl Username {
    /// Accepts what [`Text::parse`] does.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        line(raw).map(Self)
    }

    /// The name as written; case counts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn line(raw: &str) -> Result<String, Invalid> {
    let text = composed(raw);
    // Characters, not bytes: an accent must not shorten what a name may be.
    if (1..=200).contains(&text.chars().count()) && !text.contains(char::is_control) {
        Ok(text)
    } else {
        Err(Invalid("1 à 200 caractères, sans caractère de contrôle"))
    }
}

fn composed(raw: &str) -> String {
    let text = raw.trim();
    // Most are composed already, which is seen much faster than it is done.
    if is_nfc_quick(text.chars()) == IsNormalized::Yes { text.to_owned() } else { text.nfc().collect() }
}

/// An e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Email(String);

impl Email {
    /// Accepts `local@domain` in at most 254 characters.
    ///
    /// Lenient: only a mail that arrives proves an address. Quoted local parts
    /// and address literals are refused.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let text = composed(raw);
        let plausible = text.chars().count() <= 254
            && text.split_once('@').is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain));
        if plausible {
            Ok(Self(text))
        } else {
            Err(Invalid("adresse e-mail valide, 254 caractères au plus"))
        }
    }

    /// The address as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which two addresses are compared.
    #[must_use]
    pub fn folded(&self) -> String {
        // Composed once more: a few letters have a composed form in lower case only.
        self.0.to_lowercase().nfc().collect()
    }
}

fn is_local_part(local: &str) -> bool {
    !local.is_empty()
        && !local.contains(|c: char| c.is_whitespace() || c.is_control() || r#"()<>[]:;,\""#.contains(c))
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.contains(|c: char| c.is_whitespace() || c.is_control())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii())
    })
}

/// The address of a picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AvatarUrl(String);

impl AvatarUrl {
    /// Accepts an `http://` or `https://` URL of at most 2048 characters; keeps it as written.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let text = raw.trim();
        // The URL parser drops tabs and line ends in silence, and reads `http:a` as `http://a`.
        let plausible = text.chars().count() <= 2048
            && !text.contains(char::is_control)
            && (has_prefix(text, "http://") || has_prefix(text, "https://"))
            && Url::parse(text).is_ok_and(|url| url.has_host());
        if plausible {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid("URL http(s) valide, 2048 caractères au plus"))
        }
    }

    /// The URL as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A person's sex, as the civil status records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sexe {
    /// Male.
    M,
    /// Female.
    F,
}

impl Sexe {
    /// Accepts `M` and `F`.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        [Self::M, Self::F].into_iter().find(|sexe| sexe.as_str() == raw.trim()).ok_or(Invalid("M ou F"))
    }

    /// The letter that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::M => "M",
            Self::F => "F",
        }
    }
}

/// What kind of customer a user acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserType {
    /// A small or medium-sized enterprise.
    #[serde(rename = "SME")]
    Sme,
    /// A bank, an insurer, a microfinance institution.
    FinancialInstitution,
}

impl UserType {
    /// Accepts `SME` and `FINANCIAL_INSTITUTION`.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        [Self::Sme, Self::FinancialInstitution]
            .into_iter()
            .find(|user_type| user_type.as_str() == raw.trim())
            .ok_or(Invalid("SME ou FINANCIAL_INSTITUTION"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sme => "SME",
            Self::FinancialInstitution => "FINANCIAL_INSTITUTION",
        }
    }
}

/// The name of a role: what a user may do beyond what everyone may.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoleName(String);

impl RoleName {
    /// The role of those who may do everything.
    pub const ADMIN: &'static str = "admin";

    /// What a user is to its customer: of these roles, other services give one at a time.
    pub const CUSTOMER_ROLES: [&'static str; 3] = ["CUSTOMER_ADMIN", "CUSTOMER_USER", "MANAGER"];

    /// Accepts a letter and at most 63 more letters, digits, `_` and `-`, as it is: case counts.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        let shaped = raw.len() <= 64
            && raw.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
            && raw.bytes().all(allowed);
        if shaped {
            Ok(Self(raw.to_owned()))
        } else {
            Err(Invalid("1 à 64 lettres, chiffres, _ ou -, en commençant par une lettre"))
        }
    }

    /// The role [`Self::ADMIN`].
    #[must_use]
    pub fn admin() -> Self {
        Self(Self::ADMIN.to_owned())
    }

    /// The name as it is written everywhere.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// So that a set of roles can be asked for a name as it stands in code.
impl Borrow<str> for RoleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a change does to an optional field.
///
/// In JSON an absent field is kept, `null` clears and a value sets; the field
/// needs `#[serde(default, skip_serializing_if = "Patch::is_keep")]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Leaves the field as it is.
    #[default]
    Keep,
    /// Empties the field.
    Clear,
    /// Gives the field this value.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether the field is left as it is.
    #[must_use]
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Carries the change out.
    pub fn apply_to(&self, field: &mut Option<T>)
    where
        T: Clone,
    {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value.clone()),
        }
    }

    /// The same change, or `Keep` where the field has that value already.
    #[must_use]
    pub fn against(self, current: Option<&T>) -> Self
    where
        T: PartialEq,
    {
        let holds_already = match &self {
            Self::Keep => true,
            Self::Clear => current.is_none(),
            Self::Set(value) => current == Some(value),
        };
        if holds_already { Self::Keep } else { self }
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // Written as null it would be read back as `Clear`.
            Self::Keep => Err(ser::Error::custom("a kept field has no JSON: skip it")),
            Self::Clear => serializer.serialize_none(),
            Self::Set(value) => serializer.serialize_some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

#[cfg(test)]
mod tests;
