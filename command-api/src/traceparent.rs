//! The trace that a request belongs to: the header `traceparent` of W3C Trace Context,
//! <https://www.w3.org/TR/trace-context/#traceparent-header>.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// How long the version 00 is; a later one may have more behind a dash.
const LENGTH: usize = 55;
/// The only flag that version 00 knows.
const SAMPLED: u8 = 1;

/// A valid `traceparent`, in the form of version 00.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent(Arc<str>);

impl TraceParent {
    /// The one of these headers. One that is invalid, or is there twice, is as none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.to_str().ok()?)
    }

    fn parse(value: &str) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let [version, trace, parent, flags] = std::array::from_fn(|_| parts.next());
        let (version, trace, parent, flags) =
            (hex(version?, 2)?, hex(trace?, 32)?, hex(parent?, 16)?, hex(flags?, 2)?);
        let is_zero = |id: &str| id.bytes().all(|b| b == b'0');
        if parts.next().is_some() || version == "ff" || is_zero(trace) || is_zero(parent) {
            return None;
        }
        match version {
            "00" if rest.is_empty() => Some(Self(known.into())),
            "00" => None,
            // Of a later version the parts of 00 are taken, and sent on as 00.
            _ if rest.is_empty() || rest.starts_with('-') => {
                let flags = u8::from_str_radix(flags, 16).ok()? & SAMPLED;
                Some(Self(format!("00-{trace}-{parent}-{flags:02x}").into()))
            }
            _ => None,
        }
    }

    /// The header's value, to be handed on.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What all parts of a trace have in common.
    pub(crate) fn trace_id(&self) -> &str {
        self.0.split('-').nth(1).unwrap_or_default()
    }
}

/// `text`, if it is so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_digit = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parsed(value: &str) -> Option<String> {
        TraceParent::parse(value).map(|it| it.as_str().to_owned())
    }

    #[test]
    fn a_valid_header_is_kept_as_it_is() {
        for flags in ["00", "01", "ff"] {
            let value = VALID.replace("-01", &format!("-{flags}"));
            assert_eq!(parsed(&value), Some(value));
        }
        assert_eq!(TraceParent::parse(VALID).unwrap().trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn of_a_later_version_the_parts_of_the_known_one_are_kept() {
        for value in [VALID.replacen("00", "cc", 1), format!("{}-what-else", VALID.replacen("00", "01", 1))] {
            assert_eq!(parsed(&value).as_deref(), Some(VALID), "{value}");
        }
        let with_other_flags = VALID.replacen("00", "cc", 1).replace("-01", "-fe");
        assert_eq!(parsed(&with_other_flags), Some(VALID.replace("-01", "-00")));
    }

    #[test]
    fn an_invalid_header_is_as_none() {
        for value in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00.4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-6-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parsed(value), None, "{value}");
        }
    }

    #[test]
    fn two_headers_are_as_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, VALID.parse().unwrap());
        assert!(TraceParent::of(&headers).is_some());
        headers.append(TRACEPARENT, VALID.parse().unwrap());
        assert_eq!(TraceParent::of(&headers), None);
    }
}
