//! What operators see of read models in `PostgreSQL`, and what they may decide: where one has stopped, events that it
//! passes by, a pause, and whether it is complete, or ever was. It stands in tables, so that every process and command sees it.

mod completeness;
mod filling;
mod pauses;
mod skips;
mod standing;
mod stops;

pub use completeness::{Checked, Examined, check};
pub use filling::{Filling, filling, note_filled};
pub(crate) use pauses::paused;
pub use pauses::{Pause, pause, resume};
pub use skips::{SkipError, Skipped, skip, skipped};
pub use standing::{Check, Standing, Unfinished, standing};
pub use stops::Stop;
pub(crate) use stops::{forget, note, stopped_at};
