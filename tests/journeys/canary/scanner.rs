//! Finds values that must not be where they are, however they are written.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A value that tells where it has got to.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Whether it is a secret, or says something of a person.
    pub(crate) secret: bool,
}

impl Canary {
    pub(crate) fn secret(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into(), secret: true }
    }

    pub(crate) fn personal(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into(), secret: false }
    }

    /// How it may be written: as it is, percent-encoded, in hexadecimal, in either base64.
    fn forms(&self) -> Vec<String> {
        let value = self.value.to_lowercase();
        let percent =
            url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().to_lowercase();
        let mut forms = vec![value.clone(), percent, hex(self.value.as_bytes()), hex(value.as_bytes())];
        for before in 0..3 {
            // Where a value stands in what is encoded decides how it looks; its ends depend on what is beside it.
            let mut bytes = vec![0; before];
            bytes.extend(self.value.bytes());
            let whole = bytes.len() / 3 * 4;
            let from = if before == 0 { 0 } else { 4 };
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                forms.push(engine.encode(&bytes)[from..whole].to_lowercase());
            }
        }
        forms
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|it| char::from(digits[usize::from(it)]))
        .collect()
}

/// Where canaries were found: name and what is around.
pub(crate) fn find(canaries: &[Canary], place: &str, text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    for canary in canaries {
        if let Some(at) = canary.forms().iter().find_map(|form| lower.find(form.as_str())) {
            let begin = lower.floor_char_boundary(at.saturating_sub(160));
            let end = lower.ceil_char_boundary((at + 80).min(lower.len()));
            found.push(format!("{} in {place}: …{}…", canary.name, &lower[begin..end]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planted_is_found_however_it_is_written() {
        let canary = Canary::secret("it", "Zx7+kanari@example.com");
        let planted = |text: &str| find(std::slice::from_ref(&canary), "a text", text).len();
        for text in [
            "before Zx7+kanari@example.com after",
            "ZX7+KANARI@EXAMPLE.COM",
            r#"{"email":"zx7+kanari@example.com"}"#,
            "?email=Zx7%2Bkanari%40example.com&x",
            "5a78372b6b616e617269406578616d706c652e636f6d",
        ] {
            assert_eq!(planted(text), 1, "{text}");
        }
        for before in ["", "a", "ab", "abc", "{\"password\":\""] {
            let text = format!("{before}{}/ and more", canary.value);
            assert_eq!(planted(&STANDARD_NO_PAD.encode(&text)), 1, "{text}");
            assert_eq!(planted(&URL_SAFE_NO_PAD.encode(&text)), 1, "{text}");
        }
        assert_eq!(planted("kanari@example.com, kanari, ***"), 0);
    }
}
