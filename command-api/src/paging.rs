//! Pages of lists.

use domain::values::Invalid;
use percent_encoding::utf8_percent_encode;

use crate::answer::COMPONENT;
use crate::error::{ApiError, Detail};
use crate::query::Parameters;

/// How many a page has where nothing is said of it, and at most.
const PAGE: u16 = 100;
const MAX_PAGE: u16 = 1_000;

/// How large a page is.
pub(crate) struct Paging {
    limit: u16,
}

impl Paging {
    /// What is asked for, unless something else is wrong as well.
    pub(crate) fn of(parameters: &Parameters, mut wrong: Vec<Detail>) -> Result<Self, ApiError> {
        let limit = parameters.get("limit").map_or(Some(PAGE), limit);
        if limit.is_none() {
            wrong.push(Detail::new("limit", format!("nombre entier de 1 à {MAX_PAGE} attendu")));
        }
        limit.filter(|_| wrong.is_empty()).map(|limit| Self { limit }).ok_or(ApiError::Invalid(wrong))
    }

    /// One more than the page has tells whether there is another.
    pub(crate) fn one_more(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The rows of the page, and the address of the next one.
    pub(crate) fn cut<'a, T>(
        &self,
        rows: &'a [T],
        path: &str,
        id: impl Fn(&T) -> String,
        filters: &[(&str, Option<&str>)],
    ) -> (&'a [T], Option<String>) {
        let shown = &rows[..rows.len().min(self.limit.into())];
        let last = shown.last().filter(|_| rows.len() > shown.len());
        let next = last.map(|last| {
            let id = id(last);
            let mut address =
                format!("{path}?limit={}&after={}", self.limit, utf8_percent_encode(&id, COMPONENT));
            for (name, value) in filters {
                if let Some(value) = value {
                    address.extend(["&", name, "="]);
                    address.extend(utf8_percent_encode(value, COMPONENT));
                }
            }
            address
        });
        (shown, next)
    }
}

fn limit(text: &str) -> Option<u16> {
    // `parse` alone would take a plus sign.
    let number = text.parse().ok().filter(|number| (1..=MAX_PAGE).contains(number));
    number.filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

impl Parameters {
    /// The value of a parameter, unless it is absent, empty, or wrong, which is then told.
    pub(crate) fn read<T>(
        &self,
        name: &'static str,
        wrong: &mut Vec<Detail>,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        let refused = |invalid: Invalid| wrong.push(Detail::new(name, invalid.to_string()));
        parse(self.filled(name)?).map_err(refused).ok()
    }
}
