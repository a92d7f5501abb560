//! Wall-clock stamps. They are for people to read; order always comes from sequence numbers, because clocks jump.

use serde::{Deserialize, Serialize};
use specta::Type;

/// An RFC 3339 time in UTC with milliseconds, such as `2026-11-21T09:30:00.000Z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Type)]
#[serde(transparent)]
pub struct Timestamp(pub String);

impl Timestamp {
    pub fn now() -> Self {
        Self(humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string())
    }

    /// What the clock showed so many days ago.
    pub fn days_ago(days: u64) -> Self {
        let now = std::time::SystemTime::now();
        let then = now.checked_sub(std::time::Duration::from_secs(days * 86_400)).unwrap_or(std::time::UNIX_EPOCH);
        Self(humantime::format_rfc3339_millis(then).to_string())
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
