//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For all that is no client: databases, Redis, Kafka, files.
const OURS: usize = 512;

/// How many of so many clients there is room for; makes room where the system lets us.
pub(crate) fn room_for(clients: usize) -> usize {
    let needed = (clients + OURS) as u64;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: Some(limit.maximum.map_or(needed, |most| most.min(needed))), ..limit };
    // Many systems begin with 1024 and allow more to who asks.
    let is_low = limit.current.is_some_and(|current| current < needed);
    if is_low && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("The system lets us have no more open files");
    }
    let most = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
    most.map_or(clients, |most| shared(most, clients))
}

/// Of `most` descriptors clients get what is left, and never less than half.
fn shared(most: usize, clients: usize) -> usize {
    clients.min(most.saturating_sub(OURS).max(most / 2)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_for_all_else() {
        for (most, room) in
            [(1_000_000, 10_000), (10_512, 10_000), (8192, 7680), (1024, 512), (256, 128), (0, 1)]
        {
            assert_eq!(shared(most, 10_000), room, "{most}");
        }
    }
}
