//! The query string of a request.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// The decoded parameters in the order they came in.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8().map(String::from)
        };
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, std::str::Utf8Error>>()
            .map(Self)
            .map_err(|_| ApiError::invalid("query", "UTF-8 attendu"))
    }

    /// The values of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter; the last, should it come more than once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Refuses a parameter that clients know and this release does not: to leave
    /// it out would promise what is not done.
    pub(crate) fn refuse(&self, name: &'static str) -> Result<(), ApiError> {
        match self.get(name) {
            None | Some("false") => Ok(()),
            Some(_) => Err(ApiError::invalid(name, "n'est pas disponible dans cette version")),
        }
    }

    /// As [`Self::get`], an empty value counting as none: forms send their empty fields too.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.trim().is_empty())
    }
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let found = Parameters::parse("q=Jean+d%27Arc%2B&&empty=&bare&%71=last").unwrap();
        assert_eq!(found.get("q"), Some("last"));
        assert_eq!(found.all("q").collect::<Vec<_>>(), ["Jean d'Arc+", "last"]);
        assert_eq!((found.get("empty"), found.filled("empty")), (Some(""), None));
        assert_eq!((found.get("bare"), found.get("none")), (Some(""), None));
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        assert!(Parameters::parse("q=%FF").is_err());
    }
}
