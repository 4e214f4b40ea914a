//! Names of the cache, of which there may be millions.

use std::hash::{BuildHasher, RandomState};

use redis::RedisError;
use redis::aio::ConnectionManager;

use super::entries::key;

/// So many keys Redis looks at before it answers somebody else.
const LOOKED_AT: usize = 1_000;

/// A set of names in eight bytes each: two whose hashes are equal are taken for one, which nobody will live to see.
#[derive(Clone, Default)]
pub(super) struct Names {
    state: RandomState,
    /// In their order, once [`Names::sort`] was called.
    hashes: Vec<u64>,
}

impl Names {
    /// None yet, but comparable with these.
    pub(super) fn like(other: &Self) -> Self {
        Self { state: other.state.clone(), hashes: Vec::new() }
    }

    pub(super) fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.hashes.extend(names.into_iter().map(|name| self.state.hash_one(name)));
    }

    /// To be called before it is asked which names it has.
    pub(super) fn sort(&mut self) {
        self.hashes.sort_unstable();
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.knows(self.state.hash_one(name))
    }

    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        other.hashes.iter().all(|hash| self.knows(*hash))
    }

    fn knows(&self, hash: u64) -> bool {
        self.hashes.binary_search(&hash).is_ok()
    }
}

/// The names of all hashes that there are, some at a time. One may come twice.
pub(super) struct Scan {
    redis: ConnectionManager,
    cursor: Option<u64>,
}

impl Scan {
    pub(super) const fn new(redis: ConnectionManager) -> Self {
        Self { redis, cursor: Some(0) }
    }

    /// [`None`] behind the last ones.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<String>>, RedisError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg(("MATCH", key("*"), "COUNT", LOOKED_AT))
            .query_async(&mut self.redis)
            .await?;
        self.cursor = (next != 0).then_some(next);
        Ok(Some(keys.iter().filter_map(|it| it.strip_prefix(&key(""))).map(str::to_owned).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_again() {
        let (mut names, mut more) = (Names::default(), Names::default());
        names.add(["b", "a", "c"]);
        names.sort();
        assert!(names.has("a") && !names.has("d"));
        assert!(names.has_all_of(&more));
        more = Names::like(&names);
        more.add(["a"]);
        assert!(names.has_all_of(&more));
        more.add(["d"]);
        assert!(!names.has_all_of(&more));
    }
}
