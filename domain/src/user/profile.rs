//! What is known of a living user, and how a change alters it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Changes, NewUser};
use crate::ids::{CustomerId, Matricule, UserId};
use crate::values::{AvatarUrl, Email, Invalid, Preferences, RoleName, Sexe, Text, UserType, Username};

/// Everything that is known of a living user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The id.
    pub id: UserId,
    /// The matricule, which users of other services lack.
    pub matricule: Option<Matricule>,
    /// The family name.
    pub nom: Text,
    /// The given name.
    pub prenom: Option<Text>,
    /// The ministry.
    pub ministere: Option<Text>,
    /// The picture.
    pub avatar: Option<AvatarUrl>,
    /// The sex.
    pub sexe: Option<Sexe>,
    /// The e-mail address.
    pub email: Option<Email>,
    /// The name to log in with.
    pub username: Option<Username>,
    /// The telephone number.
    pub telephone: Option<Text>,
    /// What the user set up.
    pub preferences: Option<Preferences>,
    /// The customer the user acts for.
    pub customer_id: Option<CustomerId>,
    /// What kind of customer that is.
    pub user_type: Option<UserType>,
    /// Whether the customer's company is the user's own.
    pub is_company_owner: bool,
    /// Whether the user may log in.
    pub status: Status,
    /// Whether the e-mail address is known to be the user's.
    pub email_verified: bool,
    /// Whether a login asks for a second factor.
    pub mfa_enabled: bool,
    /// The roles given to the user.
    pub roles: BTreeSet<RoleName>,
}

/// Whether a living user may log in: only an active one may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// May log in.
    #[default]
    Active,
    /// Has yet to prove its e-mail address.
    Pending,
    /// Not in use for now.
    Inactive,
    /// Shut out for now.
    Suspended,
    /// Shut out.
    Banned,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Active, Self::Pending, Self::Inactive, Self::Suspended, Self::Banned];

    /// Accepts a status in lower case.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == raw.trim())
            .ok_or(Invalid::new("active, pending, inactive, suspended ou banned"))
    }

    /// The word that is stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Inactive => "inactive",
            Self::Suspended => "suspended",
            Self::Banned => "banned",
        }
    }
}

impl Profile {
    /// The name people read: given name first.
    #[must_use]
    pub fn full_name(&self) -> String {
        full_name(self.prenom.as_ref().map(Text::as_str), self.nom.as_str())
    }

    /// Whether the user has the role [`RoleName::ADMIN`], able to use it or not.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.roles.contains(RoleName::ADMIN)
    }

    /// Whether the user is an administrator who may log in.
    #[must_use]
    pub fn can_administrate(&self) -> bool {
        self.is_administrator() && self.status == Status::Active
    }

    pub(super) fn new(user: NewUser) -> Self {
        Self {
            id: user.id,
            matricule: user.matricule,
            nom: user.nom,
            prenom: user.prenom,
            ministere: user.ministere,
            avatar: user.avatar,
            sexe: user.sexe,
            email: user.email,
            username: user.username,
            telephone: user.telephone,
            preferences: user.preferences,
            customer_id: user.customer_id,
            user_type: user.user_type,
            is_company_owner: user.is_company_owner,
            status: Status::Active,
            email_verified: false,
            mfa_enabled: false,
            roles: BTreeSet::new(),
        }
    }

    pub(super) fn apply(&mut self, changes: &Changes) {
        // Named one by one: a new field that is forgotten here does not compile.
        let Changes {
            matricule,
            nom,
            prenom,
            ministere,
            avatar,
            sexe,
            email,
            username,
            telephone,
            preferences,
            user_type,
            is_company_owner,
        } = changes;
        if let Some(matricule) = matricule {
            self.matricule = Some(matricule.clone());
        }
        if let Some(nom) = nom {
            self.nom = nom.clone();
        }
        prenom.apply_to(&mut self.prenom);
        ministere.apply_to(&mut self.ministere);
        avatar.apply_to(&mut self.avatar);
        sexe.apply_to(&mut self.sexe);
        if !email.is_keep() {
            email.apply_to(&mut self.email);
            self.email_verified = false;
        }
        username.apply_to(&mut self.username);
        telephone.apply_to(&mut self.telephone);
        preferences.apply_to(&mut self.preferences);
        user_type.apply_to(&mut self.user_type);
        if let Some(is_company_owner) = is_company_owner {
            self.is_company_owner = *is_company_owner;
        }
    }
}

/// The name people read, of its parts: given name first.
#[must_use]
pub fn full_name(prenom: Option<&str>, nom: &str) -> String {
    format!("{} {nom}", prenom.unwrap_or_default()).trim().to_owned()
}
