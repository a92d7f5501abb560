//! The eight genres, their mix, and the ten style modifiers.

use crate::{ApiError, FieldFault};
use serde::{Deserialize, Serialize};
use specta::Type;
use std::collections::BTreeMap;

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($variant:ident = $name:literal, $label:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Type)]
        #[serde(rename_all = "snake_case")]
        pub enum $kind { $($variant),* }

        impl $kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in JSON, on the command line and in the model's prompt format.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The name a person reads.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }
        }

        impl std::str::FromStr for $kind {
            type Err = ApiError;

            fn from_str(text: &str) -> Result<Self, ApiError> {
                let wanted = text.trim().to_lowercase().replace([' ', '-'], "_");
                Self::ALL.iter().copied().find(|one| one.name() == wanted).ok_or_else(|| {
                    let known = Self::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
                    let kind = stringify!($kind).to_lowercase();
                    ApiError::field(&kind, format!("\"{text}\" is not a {kind} I know.")).hint(format!("Choose from: {known}."))
                })
            }
        }
    };
}

names! {
    /// A kind of story, one slider each.
    Genre {
        Fantasy = "fantasy", "Fantasy";
        DarkFantasy = "dark_fantasy", "Dark fantasy";
        SciFi = "sci_fi", "Sci-fi";
        Mystery = "mystery", "Mystery";
        Horror = "horror", "Horror";
        Romance = "romance", "Romance";
        Adventure = "adventure", "Adventure";
        Thriller = "thriller", "Thriller";
    }
}

names! {
    /// A manner of telling, one chip each.
    Style {
        Atmospheric = "atmospheric", "Atmospheric";
        Emotional = "emotional", "Emotional";
        Sensory = "sensory", "Sensory";
        Suspenseful = "suspenseful", "Suspenseful";
        Dialogue = "dialogue", "Dialogue";
        Humorous = "humorous", "Humorous";
        Fast = "fast", "Fast";
        Twist = "twist", "Twist";
        Hopeful = "hopeful", "Hopeful";
        Melancholy = "melancholy", "Melancholy";
    }
}

/// Genre weights as a person set them; 0–1 or 0–100 alike, since only their proportions count.
///
/// An absent or empty mix means *any genre*. A mix that names genres but gives all of them zero is refused
/// by [`GenreMix::checked`], because it cannot be what was meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(transparent)]
pub struct GenreMix(pub BTreeMap<Genre, f64>);

impl GenreMix {
    /// Checks the weights and returns them normalised to a sum of 1, without zeros.
    ///
    /// # Errors
    /// `InvalidInput` for negative or non-finite weights, and for a mix whose weights are all zero.
    pub fn checked(&self) -> Result<Self, ApiError> {
        let faults: Vec<_> = self
            .0
            .iter()
            .filter(|(_, weight)| !weight.is_finite() || **weight < 0.0)
            .map(|(genre, weight)| FieldFault {
                field: format!("genres.{}", genre.name()),
                message: format!("The weight of {} is {weight}; it must be 0 or more.", genre.label()),
            })
            .collect();
        if !faults.is_empty() {
            return Err(ApiError::fields(faults));
        }
        let sum: f64 = self.0.values().sum();
        if !self.0.is_empty() && sum <= 0.0 {
            return Err(
                ApiError::field("genres", "All genre sliders are at zero.").hint("Raise at least one genre, or choose \"Any genre\".")
            );
        }
        Ok(Self(self.0.iter().filter(|(_, weight)| **weight > 0.0).map(|(genre, weight)| (*genre, weight / sum)).collect()))
    }

    /// The genre with the largest weight.
    pub fn top(&self) -> Option<Genre> {
        self.0.iter().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0))).map(|(genre, _)| *genre)
    }
}
