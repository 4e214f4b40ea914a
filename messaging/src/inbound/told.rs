//! What operators are told of messages: a log line each, and figures.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::is_well_formed;

use super::carry_out::Done;
use super::judge::Fate;
use super::{Delivered, Read, Refused};

/// Tells of messages of a partition whose outcome is stored; it took so long from when they were polled.
pub(super) fn all(messages: &[Delivered], read: &[Result<Read, Refused>], fates: &[Fate], took: Duration) {
    // Those of one kind together: a counter is looked up by all its labels.
    let mut counts: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for ((message, read), fate) in messages.iter().zip(read).zip(fates) {
        let request = match read {
            Ok(Read::Asked(request)) => Some(&**request),
            Ok(Read::Own) | Err(_) => None,
        };
        let (outcome, reason, detail) = match fate {
            Fate::Done(Done::Applied) => ("applied", "", ""),
            Fate::Done(Done::Answered) => ("answered", "", ""),
            Fate::Done(Done::Skipped { reason, .. }) => ("skipped", *reason, ""),
            Fate::Refused(refused) => ("dead_letter", refused.code, refused.detail.as_str()),
        };
        let kind = message.source.name();
        let (topic, partition, offset) = (message.topic.as_str(), message.partition, message.offset);
        let subject = request.and_then(|request| request.subject.as_deref()).filter(|id| is_well_formed(id));
        let sender = request.and_then(|request| request.sender.as_deref());
        let warns = match fate {
            Fate::Done(Done::Skipped { warn, .. }) => *warn,
            Fate::Refused(_) => true,
            Fate::Done(Done::Applied | Done::Answered) => false,
        };
        if warns {
            tracing::warn!(
                topic,
                r#type = kind,
                partition,
                offset,
                subject,
                sender,
                outcome,
                reason,
                detail,
                "Message {outcome}"
            );
        } else {
            tracing::info!(
                topic,
                r#type = kind,
                partition,
                offset,
                subject,
                sender,
                outcome,
                reason,
                "Message {outcome}"
            );
        }
        *counts.entry((outcome, reason)).or_default() += 1;
    }
    let Some(first) = messages.first() else { return };
    let (topic, kind) = (first.topic.clone(), first.source.name());
    for ((outcome, reason), count) in counts {
        metrics::counter!(
            "annuaire_inbound_messages_total",
            "topic" => topic.clone(), "type" => kind, "outcome" => outcome, "reason" => reason
        )
        .increment(count);
    }
    metrics::histogram!("annuaire_inbound_seconds", "topic" => topic).record_many(took, fates.len());
}
