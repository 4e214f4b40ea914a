//! Lists of entity tags, as `If-Match` and `If-None-Match` hold them (RFC 9110, 8.8.3).

/// `*`, or a list of at least one tag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EntityTags<'a> {
    Any,
    List(Vec<EntityTag<'a>>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    pub(crate) weak: bool,
    pub(crate) opaque: &'a str,
}

impl<'a> EntityTags<'a> {
    /// [`None`] for what is no such list.
    pub(crate) fn parse(header: &'a str) -> Option<Self> {
        let mut rest = trim(header);
        if rest == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        while !rest.is_empty() {
            // A list may have empty elements (RFC 9110, 5.6.1.2).
            if let Some(next) = rest.strip_prefix(',') {
                rest = trim(next);
                continue;
            }
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let (opaque, behind) = quoted.strip_prefix('"')?.split_once('"')?;
            if opaque.contains(|c: char| c.is_ascii_control() || c == ' ') {
                return None;
            }
            tags.push(EntityTag { weak, opaque });
            rest = trim(behind);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
        (!tags.is_empty()).then_some(Self::List(tags))
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(tags: impl IntoIterator<Item = (bool, &'a str)>) -> EntityTags<'a> {
        let tags = tags.into_iter().map(|(weak, opaque)| EntityTag { weak, opaque });
        EntityTags::List(tags.collect())
    }

    #[test]
    fn lists_are_read_as_the_standard_writes_them() {
        assert_eq!(EntityTags::parse(" * "), Some(EntityTags::Any));
        assert_eq!(EntityTags::parse(r#""3""#), Some(list([(false, "3")])));
        assert_eq!(EntityTags::parse(r#""""#), Some(list([(false, "")])));
        assert_eq!(EntityTags::parse(r#", "1" ,, W/"a,b","#), Some(list([(false, "1"), (true, "a,b")])));
    }

    #[test]
    fn what_is_no_list_is_not_guessed_at() {
        for header in
            ["", ",", "3", r#""3"#, r#"3""#, r#"w/"3""#, r#""1" "2""#, r#"*, "1""#, r#""1 2""#, "'3'"]
        {
            assert_eq!(EntityTags::parse(header), None, "{header}");
        }
    }
}
