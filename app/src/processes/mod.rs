//! What happens by itself as time goes by: driven by the log and the clock, and done by one process for all.

mod completeness;
mod renewals;

pub(crate) use completeness::Completeness;
pub(crate) use renewals::Renewals;
