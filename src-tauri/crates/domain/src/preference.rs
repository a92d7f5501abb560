//! Comparisons: one text preferred to another, and the blind test of a trained adapter.

use crate::{CandidateId, GenerationId, GenreMix, PreferenceId, RunId, Style, TasteSummary, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;

/// `POST /api/v1/preferences`: of two candidates of one generation, the better and the worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct PreferenceRequest {
    pub better: CandidateId,
    pub worse: CandidateId,
}

/// What asked for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceSource {
    /// The pair that taste would learn most from.
    Explore,
    /// The blind test of a trained adapter.
    Blind,
}

/// A stored comparison. All are kept; of several on the same two texts the newest counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Preference {
    pub id: PreferenceId,
    pub source: PreferenceSource,
    /// Absent when the texts were written for a blind test.
    pub generation_id: Option<GenerationId>,
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    pub better: String,
    pub worse: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct PreferenceResult {
    pub preference_id: PreferenceId,
    pub taste: TasteSummary,
}

/// Which of two texts is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum BlindChoice {
    First,
    Second,
    /// Neither is better.
    Neither,
}

/// `POST /api/v1/runs/{run_id}/blind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BlindRequest {
    pub run_id: RunId,
    /// Write five other pairs, even if there is a test already.
    #[serde(default)]
    pub again: bool,
}

/// `POST /api/v1/runs/{run_id}/blind/answer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BlindAnswer {
    pub run_id: RunId,
    /// Of the pair, from 1.
    pub number: u32,
    pub choice: BlindChoice,
}

/// Two texts for one prompt, one by what was trained and one by what would write without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BlindPair {
    pub number: u32,
    pub prompt: String,
    pub genres: GenreMix,
    pub first: String,
    pub second: String,
    pub choice: Option<BlindChoice>,
    /// Which one the trained adapter wrote; told when all pairs are answered.
    pub trained: Option<BlindChoice>,
}

/// How the person judged, not knowing which was which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct BlindResult {
    /// Pairs in which the trained adapter was preferred.
    pub trained: u32,
    /// Pairs in which what would write without it was preferred.
    pub before: u32,
    pub neither: u32,
}

impl BlindResult {
    pub fn pairs(self) -> u32 {
        self.trained + self.before + self.neither
    }

    /// In plain words.
    pub fn sentence(self) -> String {
        let said = format!("Not knowing which was which, you preferred the trained one in {} of {} pairs", self.trained, self.pairs());
        let rest = match (self.before, self.neither) {
            (0, 0) => String::new(),
            (before, 0) => format!(" and the one before in {before}"),
            (0, neither) => format!("; in {neither} neither was better"),
            (before, neither) => format!(" and the one before in {before}; in {neither} neither was better"),
        };
        let advice = match self.trained.cmp(&self.before) {
            // Five of five have a chance of 1 in 32 when both are equally good; four of five of 6 in 32.
            std::cmp::Ordering::Greater if self.before == 0 && self.trained >= 5 => "That is hardly chance: keep it.",
            std::cmp::Ordering::Greater => "That speaks for it, though so few pairs may be chance.",
            std::cmp::Ordering::Equal => "That speaks for neither.",
            std::cmp::Ordering::Less => "That speaks against it, though so few pairs may be chance.",
        };
        format!("{said}{rest}. {advice}")
    }
}

/// The blind test of a run's adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BlindTest {
    pub run_id: RunId,
    pub pairs: Vec<BlindPair>,
    /// When all pairs are answered.
    pub result: Option<BlindResult>,
    /// The result in plain words, or how many answers are missing.
    pub sentence: String,
}
