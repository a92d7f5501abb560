//! Sortable, prefixed ids: `gen_01k…`. A newtype per noun, so that a run's id cannot be passed where a job's belongs.

use serde::{Deserialize, Serialize};
use specta::Type;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Type)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// A fresh id: the prefix and a lower-case ULID (time-ordered within a millisecond resolution).
            pub fn fresh() -> Self {
                Self(format!("{}{}", $prefix, ulid::Ulid::generate().to_string().to_lowercase()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    )*};
}

ids! {
    /// One request to write.
    GenerationId = "gen_";
    /// One text offered for a generation.
    CandidateId = "cand_";
    /// A person's verdict on a candidate.
    FeedbackId = "fb_";
    /// One text preferred to another.
    PreferenceId = "pref_";
    /// Queued work.
    JobId = "job_";
    /// The record of one training.
    RunId = "run_";
    /// A trained add-on to a base.
    AdapterId = "ad_";
    /// A session of auto-train.
    AutoTrainId = "auto_";
    /// A prompt with a wanted text, to learn from.
    ExampleId = "ex_";
    /// Frozen weights of a language model; the built-in one is `story`.
    BaseId = "base_";
}
