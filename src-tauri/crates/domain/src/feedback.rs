//! A person's verdicts, and what taste has made of them.

use crate::{CandidateId, FeedbackId, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;

/// A thumb, tags, a comment, or an edit that the person kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct FeedbackRequest {
    pub candidate_id: CandidateId,
    /// 1 or -1; may be left out when tags, or an edit, say it.
    #[serde(default)]
    pub verdict: Option<i8>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub comment: Option<String>,
    /// The text as the person changed it: they prefer it to the original.
    #[serde(default)]
    pub edited_text: Option<String>,
}

/// A stored verdict. All are kept; the newest counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct FeedbackItem {
    pub id: FeedbackId,
    pub candidate_id: CandidateId,
    /// 1 or -1.
    pub verdict: i8,
    pub tags: Vec<String>,
    pub comment: Option<String>,
    pub edited_text: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct FeedbackResult {
    pub feedback_id: FeedbackId,
    pub taste: TasteSummary,
}

/// Where taste stands, in figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteSummary {
    /// Whether this verdict led to a new version of the taste model.
    pub trained: bool,
    /// Verdicts it knows.
    pub thumbs: u32,
    /// Area under the ROC curve on verdicts it had not seen (cross-validated); absent with too few.
    pub auc: Option<f64>,
    /// Whether the vote uses it: there are enough thumbs, and it predicts held-out ones better than chance.
    pub confident: bool,
    /// Whether the person went back to this version: new verdicts are kept but not learned from until they ask.
    #[serde(default)]
    pub pinned: bool,
}

/// What has been learned, in words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteCard {
    pub summary: TasteSummary,
    pub likes: Vec<String>,
    pub dislikes: Vec<String>,
    pub unsure: Vec<String>,
    /// One or two sentences: what it likes and dislikes, or "no taste found yet" and why.
    pub sentence: String,
    pub liked_texts: u32,
    pub disliked_texts: u32,
    pub version: u32,
}

/// Body of `train preference`; the numbers are accepted for the old commands' sake and bound the fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(default)]
pub struct TasteTraining {
    pub epochs: u32,
    pub max_vocab: u32,
    pub lr: f64,
}

impl Default for TasteTraining {
    fn default() -> Self {
        Self { epochs: 5, max_vocab: 5000, lr: 0.1 }
    }
}

/// A version of the taste model that can be gone back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteVersionRow {
    pub version: u32,
    pub created_at: Timestamp,
    pub summary: TasteSummary,
    /// The newest, which is used.
    pub current: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteVersionRef {
    pub version: u32,
}

/// `POST /training/preference/score`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteQuestion {
    /// Taste judges texts by themselves; kept for programs that send it.
    #[serde(default)]
    pub prompt: String,
    pub completion: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteScore {
    pub ok: bool,
    /// Probability that the person likes the text, 0–1; near one half while little is known.
    pub score: f64,
    /// Standard deviation of the log-odds behind it.
    pub sd: f64,
    /// Whether a taste is found at all.
    pub confident: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TasteTrained {
    pub ok: bool,
    pub model_path: String,
    pub vocab_size: u32,
    pub auc: Option<f64>,
    pub examples: u32,
}
