//! The forms of a password's hash: ours, argon2id (RFC 9106), and those that users bring from other services,
//! other argon2 and bcrypt, until they log in.

use argon2::password_hash::{self, phc};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use domain::password::{Password, PasswordHash};

/// What a hash costs, as OWASP's cheat sheet and ASVS 5.0 (appendix C) have it: memory in KiB, passes, lanes.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// The most that a kept hash may cost: one that was planted must not keep us busy.
const MOST_MEMORY: u32 = 131_072;
const MOST_PASSES: u32 = 10;
/// The same of bcrypt, as the power of two that it is written as: about a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// How many bytes of a password bcrypt looks at.
const BCRYPT_SEES: usize = 72;

const UNKNOWN_FORM: &str = "hachage bcrypt ($2a$, $2b$, $2y$) ou argon2 ($argon2id$…, forme PHC) attendu";
const BCRYPT_TOO_DEAR: &str =
    "hachage bcrypt d'un coût de 4 à 14 attendu : vérifier celui-ci durerait trop longtemps";
const ARGON2_TOO_DEAR: &str =
    "hachage argon2 de 131072 Kio et 10 passes au plus attendu : vérifier celui-ci coûterait trop";

/// What makes hashes.
pub(super) fn ours() -> Result<Argon2<'static>, password_hash::Error> {
    let (memory, passes, lanes) = COST;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory, passes, lanes, None)?))
}

/// The hash of a password.
pub(super) fn hash(argon2: &Argon2<'_>, password: &Password) -> Result<PasswordHash, password_hash::Error> {
    let made: phc::PasswordHash = argon2.hash_password(password.as_bytes())?;
    Ok(PasswordHash::new(made.to_string()))
}

/// Whether a hash is that of a password, and if so whether the password is to be hashed anew.
pub(super) fn is_same(argon2: &Argon2<'_>, password: &Password, kept: &PasswordHash) -> Option<bool> {
    if is_bcrypt(kept.as_str()) {
        return is_same_of_bcrypt(password.as_bytes(), kept.as_str());
    }
    let hash = phc::PasswordHash::new(kept.as_str()).ok()?;
    let params = Params::try_from(&hash).ok()?;
    if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES {
        return None;
    }
    argon2.verify_password(password.as_bytes(), &hash).ok()?;
    let made_at = (params.m_cost(), params.t_cost(), params.p_cost());
    Some(made_at != COST || hash.algorithm != Algorithm::Argon2id.ident())
}

/// A hash that another service made, if it is one that a login will take; otherwise why not.
pub(crate) fn of_another_service(text: &str) -> Result<PasswordHash, &'static str> {
    let text = text.trim();
    if is_bcrypt(text) {
        bcrypt_cost(text).ok_or(UNKNOWN_FORM)?.map_err(|_| BCRYPT_TOO_DEAR)?;
    } else {
        let hash = phc::PasswordHash::new(text).map_err(|_| UNKNOWN_FORM)?;
        let is_whole = hash.salt.is_some() && hash.hash.is_some();
        let is_argon2 = Algorithm::try_from(hash.algorithm.as_str()).is_ok();
        let params = Params::try_from(&hash).map_err(|_| UNKNOWN_FORM)?;
        if !is_whole || !is_argon2 {
            return Err(UNKNOWN_FORM);
        }
        if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES {
            return Err(ARGON2_TOO_DEAR);
        }
    }
    Ok(PasswordHash::new(text.to_owned()))
}

/// `$2a$` and `$2y$` are what `$2b$` is, for whoever has no password of 256 bytes. `$2x$` marks hashes of a faulty
/// program, which no other can check.
fn is_bcrypt(text: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|form| text.starts_with(form))
}

/// What a hash costs, or costs too much; nothing if it is none.
fn bcrypt_cost(text: &str) -> Option<Result<u32, u32>> {
    let cost = text.parse::<bcrypt::HashParts>().ok()?.get_cost();
    Some(if BCRYPT_COSTS.contains(&cost) { Ok(cost) } else { Err(cost) })
}

/// As [`is_same`]. Of a longer password bcrypt has not seen the end, which might be another each time: what was
/// entered is not proven to be the whole, and keeps its hash.
fn is_same_of_bcrypt(password: &[u8], kept: &str) -> Option<bool> {
    // The key is the password with a zero behind it, over and over: `ab` and `ab\0ab` are one. Some programs stop
    // at the first. So with a zero in it, it proves nothing.
    if password.contains(&0) {
        return None;
    }
    bcrypt_cost(kept)?.ok()?;
    let same = bcrypt::verify(password, kept).unwrap_or(false);
    same.then_some(password.len() <= BCRYPT_SEES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_right(password: &str, kept: &str) -> Option<bool> {
        is_same(&ours().unwrap(), &Password::entered(password), &PasswordHash::new(kept.to_owned()))
    }

    /// Openwall's `crypt_blowfish` 1.3, `wrapper.c`; the last two are of jBCrypt's tests.
    const KNOWN: [(&str, &str); 8] = [
        ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
        ("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
        ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        (
            "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored",
            "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
        ),
        ("U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
        ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
    ];

    #[test]
    fn hashes_of_bcrypt_are_what_other_programs_make() {
        for (password, kept) in KNOWN {
            assert_eq!(is_right(password, kept), Some(password.len() <= 72), "{kept}");
            assert_eq!(is_right(&format!("{password}!"), kept).is_some(), password.len() > 72, "{kept}");
            assert_eq!(of_another_service(kept).unwrap().as_str(), kept);
            let again = kept.replacen("$2a$", "$2b$", 1);
            assert_eq!(is_right(password, &again), Some(password.len() <= 72), "{again}");
        }
    }

    #[test]
    fn what_bcrypt_has_not_seen_is_not_hashed_anew() {
        let whole = "x".repeat(72);
        let kept = bcrypt::hash(&whole, 4).unwrap();
        assert_eq!(is_right(&whole, &kept), Some(true));
        assert_eq!(is_right(&format!("{whole}y"), &kept), Some(false));
        assert_eq!(is_right(&whole[..71], &kept), None);
    }

    #[test]
    fn a_password_with_a_zero_in_it_is_never_right() {
        let kept = bcrypt::hash("ab", 4).unwrap();
        assert!(bcrypt::verify("ab\0ab", &kept).unwrap(), "the same key over and over");
        assert_eq!(is_right("ab", &kept), Some(true));
        for entered in ["ab\0ab", "ab\0", "ab\0cd"] {
            assert_eq!(is_right(entered, &kept), None);
        }
    }

    #[test]
    fn what_costs_too_much_is_neither_taken_nor_computed() {
        let (_, known) = KNOWN[0];
        for cost in ["03", "15", "31"] {
            let dear = known.replacen("$05$", &format!("${cost}$"), 1);
            assert_eq!(of_another_service(&dear), Err(BCRYPT_TOO_DEAR));
            assert_eq!(is_right("U*U", &dear), None, "at once");
        }
        let dear = "$argon2id$v=19$m=262144,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b3dWRWJTmaaJObG";
        assert_eq!(of_another_service(dear), Err(ARGON2_TOO_DEAR));
    }

    #[test]
    fn what_is_no_hash_is_not_taken() {
        let (_, known) = KNOWN[0];
        let x = known.replacen("$2a$", "$2x$", 1);
        for text in
            ["", "corridor", "$2b$10$short", &x, &format!("{known}."), "$argon2id$v=19$m=19456,t=2,p=1$c2Fs"]
        {
            assert_eq!(of_another_service(text), Err(UNKNOWN_FORM), "{text}");
        }
        let other =
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E";
        assert_eq!(of_another_service(other), Err(UNKNOWN_FORM));
    }

    #[test]
    fn a_hash_of_another_argon2_is_taken() {
        let argon2 =
            Argon2::new(Algorithm::Argon2i, Version::V0x13, Params::new(65_536, 3, 4, None).unwrap());
        let kept = hash(&argon2, &Password::entered("corridor")).unwrap();
        assert_eq!(of_another_service(&format!(" {}\n", kept.as_str())), Ok(kept.clone()));
        assert_eq!(is_right("corridor", kept.as_str()), Some(true));
    }
}
