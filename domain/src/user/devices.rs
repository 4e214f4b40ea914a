//! The devices that a user has registered.

use crate::values::{Preferences, Text};

/// How many devices of a user are known at a time.
pub const DEVICES: usize = 32;

/// A device as the user's application describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What tells it from the user's others.
    pub device_id: Text,
    /// All there is to say of it.
    pub device: Preferences,
}

/// The devices registered last, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl Devices {
    /// The device of that id.
    #[must_use]
    pub fn get(&self, id: &Text) -> Option<&Preferences> {
        self.iter().find(|it| it.device_id == *id).map(|it| &it.device)
    }

    /// All of them, the one registered longest ago first.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.0.iter()
    }

    /// Takes one in as the last; of too many the one registered longest ago goes.
    pub(super) fn register(&mut self, device: Device) {
        self.0.retain(|it| it.device_id != device.device_id);
        if self.0.len() >= DEVICES {
            self.0.remove(0);
        }
        self.0.push(device);
    }
}
