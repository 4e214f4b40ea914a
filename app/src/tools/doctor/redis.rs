//! The checks of Redis.

use redis::InfoDict;
use redis::aio::ConnectionManager;

use super::Check;
use crate::config;
use crate::tools::Tools;

/// Writes as the program does, to a key of our own that is gone in a second.
const PROBE: &str = "annuaire:doctor";

/// Looks at the server, if there is one.
pub(super) async fn look(tools: &Tools) -> Vec<Check> {
    let redis = match tools.redis().await {
        Ok(Some(redis)) => redis,
        Ok(None) => return vec![Check::ok("redis", "embedded: it runs with `annuaire serve`")],
        Err(error) => return vec![Check::problem("redis", error.one_line(), "set REDIS_URL right")],
    };
    let place = match &tools.config.redis {
        config::Redis::Url(url) => url.masked(),
        config::Redis::Private => format!("embedded, in {}", tools.config.data_dir.display()),
    };
    let mut checks = Vec::new();
    if let Err(error) = look_inside(redis, &place, &tools.config.users_stream.name, &mut checks).await {
        let todo = "start it, or set REDIS_URL right; meanwhile the cache and the stream wait";
        checks.push(Check::problem("redis", format!("{place}: {error}"), todo));
    }
    checks
}

async fn look_inside(
    mut redis: ConnectionManager,
    place: &str,
    stream: &str,
    checks: &mut Vec<Check>,
) -> redis::RedisResult<()> {
    let info: InfoDict = redis::cmd("INFO").query_async(&mut redis).await?;
    checks.push(Check::ok("redis", place));
    let text = |key: &str| info.get::<String>(key).unwrap_or_default();
    checks.push(version(&text("redis_version")));
    checks.push(policy(&text("maxmemory_policy"), info.get::<u64>("maxmemory").unwrap_or(0)));
    checks.push(if text("aof_enabled") == "1" {
        Check::ok("redis appendonly", "yes")
    } else {
        let todo = "what it forgets in a crash comes again; CONFIG SET appendonly yes keeps it";
        Check::warning("redis appendonly", "no", todo)
    });
    checks.push(rights(redis, stream).await);
    Ok(())
}

fn version(version: &str) -> Check {
    let name = "redis version";
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    match (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) {
        (7.., _) => Check::ok(name, version),
        (6, 2..) => {
            Check::warning(name, version, "a stream that was lost is told apart better by 7 or newer")
        }
        _ => Check::problem(name, version, "upgrade to 6.2 or newer, better 7"),
    }
}

fn policy(policy: &str, limit: u64) -> Check {
    let name = "redis maxmemory-policy";
    let todo = "the stream must not be thrown away: CONFIG SET maxmemory-policy noeviction, or volatile-…";
    match policy {
        it if it == "noeviction" || it.starts_with("volatile-") => Check::ok(name, policy),
        _ if limit == 0 => Check::warning(name, format!("{policy}, though maxmemory is not set"), todo),
        _ => Check::problem(name, policy, todo),
    }
}

async fn rights(mut redis: ConnectionManager, stream: &str) -> Check {
    let name = "redis rights";
    let mut probe = redis::pipe();
    probe.cmd("SET").arg(PROBE).arg(1).arg("PX").arg(1_000).ignore();
    probe.cmd("EVAL").arg("return 1").arg(0).ignore();
    probe.cmd("TYPE").arg(stream);
    match probe.query_async::<(String,)>(&mut redis).await {
        Ok((found,)) if found == "stream" || found == "none" => {
            Check::ok(name, "may read, write and run scripts")
        }
        Ok((found,)) => {
            let todo = "set another USERS_STREAM, or rename that key";
            Check::problem(name, format!("{stream} is a {found}, not a stream"), todo)
        }
        Err(error) => {
            let todo = "give the user +@all on the keys of the stream, user:profile:* and annuaire:*";
            Check::problem(name, error.to_string(), todo)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn versions_and_policies_are_judged() {
        let of_version = |text| version(text).state;
        assert_eq!(of_version("7.0.15"), State::Ok);
        assert_eq!(of_version("6.2.1"), State::Warning);
        assert_eq!(of_version("6.0.9"), State::Problem);
        assert_eq!(policy("volatile-lru", 1).state, State::Ok);
        assert_eq!(policy("allkeys-lru", 0).state, State::Warning);
        assert_eq!(policy("allkeys-lru", 1).state, State::Problem);
    }
}
