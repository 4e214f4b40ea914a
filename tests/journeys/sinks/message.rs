//! What stands in a sink or must stand there, and how the two are compared.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// A message of a sink.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// Its identity, by which a repeat is told from another message.
    pub(crate) id: String,
    /// All that is compared, each part with its name.
    pub(crate) parts: Vec<(String, String)>,
}

impl Message {
    /// One of its parts; empty where it has none of that name.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.parts.iter().find(|(part, _)| part == name).map_or("", |(_, value)| value)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = self.parts.first().map_or(("", ""), |(name, value)| (name, value));
        write!(f, "{} ({name} {value})", self.id)
    }
}

/// Whether each message that must be there is, once, and no other.
pub(crate) fn each_once(must: &[Message], found: &[Message]) -> Result<(), String> {
    let mut times = HashMap::<&str, usize>::new();
    for message in found {
        *times.entry(&message.id).or_default() += 1;
    }
    let known: HashSet<&str> = must.iter().map(|message| message.id.as_str()).collect();
    report("there more than once", found, |message| times[message.id.as_str()] > 1)?;
    report("missing", must, |message| !times.contains_key(message.id.as_str()))?;
    report("not to be there", found, |message| !known.contains(message.id.as_str()))
}

fn report(what: &str, of: &[Message], is_so: impl Fn(&Message) -> bool) -> Result<(), String> {
    let wrong: Vec<&Message> = of.iter().filter(|message| is_so(message)).collect();
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {} are {what}, first {first}", wrong.len(), of.len())),
    }
}

/// Whether these are the same messages in the same order.
pub(crate) fn in_order(must: &[&Message], found: &[&Message]) -> Result<(), String> {
    for (number, (must, found)) in must.iter().zip(found).enumerate() {
        if must.id != found.id {
            return Err(format!("out of order: number {number} is {found}, must be {must}"));
        }
        if let Some(((name, must), (other, is))) =
            must.parts.iter().zip(&found.parts).find(|(must, is)| must != is)
        {
            return Err(format!("{found} differs: {other} is {is:?}, must be {name} {must:?}"));
        }
        if must.parts.len() != found.parts.len() {
            return Err(format!("{found} has the parts {:?}, must have {:?}", found.parts, must.parts));
        }
    }
    if must.len() != found.len() {
        return Err(format!("there are {}, must be {}", found.len(), must.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message { id: id.to_owned(), parts: vec![("value".to_owned(), format!("of {id}"))] }
    }

    fn differ(must: &[Message], found: &[Message]) -> String {
        let (all, there): (Vec<_>, Vec<_>) = (must.iter().collect(), found.iter().collect());
        each_once(must, found).and_then(|()| in_order(&all, &there)).unwrap_err()
    }

    #[test]
    fn what_is_as_it_must_be_passes() {
        let all = ["a", "b", "c"].map(message);
        each_once(&all, &all).unwrap();
        in_order(&all.iter().collect::<Vec<_>>(), &all.iter().collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn each_difference_is_found() {
        let [a, b, c] = ["a", "b", "c"].map(message);
        let must = [a.clone(), b.clone()];
        for (found, difference) in [
            (vec![a.clone(), a.clone(), b.clone()], "2 of 3 are there more than once, first a (value of a)"),
            (vec![a.clone(), b.clone(), a.clone()], "2 of 3 are there more than once, first a (value of a)"),
            (vec![a.clone()], "1 of 2 are missing, first b (value of b)"),
            (vec![], "2 of 2 are missing, first a (value of a)"),
            (vec![a.clone(), b.clone(), c], "1 of 3 are not to be there, first c (value of c)"),
            (vec![b.clone(), a.clone()], "out of order: number 0 is b (value of b), must be a (value of a)"),
        ] {
            assert_eq!(differ(&must, &found), difference);
        }
        let mut other = b.clone();
        other.parts[0].1 = "x".to_owned();
        assert_eq!(
            differ(&must, &[a.clone(), other]),
            "b (value x) differs: value is \"x\", must be value \"of b\""
        );
        let mut more = b;
        more.parts.push(("header traceparent".to_owned(), "1".to_owned()));
        assert!(differ(&must, &[a, more]).starts_with("b (value of b) has the parts"));
    }
}
