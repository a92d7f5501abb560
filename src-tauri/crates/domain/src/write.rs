//! Writing: a request, its candidates with their scores, and what is streamed while they grow.

use crate::{AdapterId, BaseId, CandidateId, FeedbackItem, GenerationId, GenreMix, Style, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;

/// What to write. Everything but the prompt has a default from the settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    pub prompt: String,
    #[serde(default)]
    pub genres: GenreMix,
    #[serde(default)]
    pub style: Option<Style>,
    /// Number of candidates, 1–16.
    #[serde(default)]
    pub n: Option<u32>,
    /// Longest text in tokens.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    #[serde(default)]
    pub temperature: Option<f64>,
    /// The same seed and settings give the same text; left out, a fresh one is drawn and reported.
    #[serde(default)]
    pub seed: Option<u32>,
    #[serde(default)]
    pub base: Option<BaseId>,
    /// Left out: the active adapters. Empty: the plain base.
    #[serde(default)]
    pub adapters: Option<Vec<AdapterChoice>>,
    /// Offer, now and then, the candidate that taste would learn most from.
    #[serde(default)]
    pub explore: Option<bool>,
    /// Go on from this candidate's text instead of starting anew.
    #[serde(default)]
    pub continue_from: Option<CandidateId>,
}

/// An adapter to write with, and how strongly (1 = as trained).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct AdapterChoice {
    pub id: AdapterId,
    #[serde(default = "full_strength")]
    pub strength: f64,
}

fn full_strength() -> f64 {
    1.0
}

/// Why a candidate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended the text.
    End,
    /// The length limit or the context was reached.
    Length,
    Cancelled,
}

/// Scores of a candidate, each 0–1 but quality, which is 0–10.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct Scores {
    /// Probability that the person likes it; absent while no taste is found.
    pub taste: Option<f64>,
    /// 0–10, from named rules.
    pub quality: f64,
    pub on_prompt: f64,
    pub fluency: f64,
    pub genre: f64,
    /// The vote: weighted Borda points over all candidates, scaled to 0–10.
    pub total: f64,
    /// Why the quality is what it is: each rule that fired and what it added or took.
    #[serde(default)]
    pub quality_parts: Vec<QualityPart>,
}

/// A quality rule that fired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct QualityPart {
    pub rule: String,
    pub points: f64,
}

/// One text offered by a member for a generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Candidate {
    pub id: CandidateId,
    /// The whole text; after *Continue* it starts with what was continued.
    pub text: String,
    /// How many characters of `text` were there before a *Continue*.
    #[serde(default)]
    pub continued_chars: u32,
    /// Who wrote it: base, adapter, sampler in words, such as `story` or `story + Warm endings`.
    pub member: String,
    /// The text was asked of another machine, which has seen the prompt.
    #[serde(default)]
    pub left_machine: bool,
    pub finish_reason: FinishReason,
    pub tokens: u32,
    /// 1 is the winner of the vote.
    pub rank: u32,
    pub scores: Scores,
    /// The newest feedback, and the text as the person edited it.
    #[serde(default)]
    pub feedback: Option<FeedbackItem>,
}

/// Something the person should know about a result that is not an error, such as a prompt that had to be cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Notice {
    pub code: NoticeCode,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum NoticeCode {
    PromptCut,
    ContinuationCut,
    LengthCut,
    AdapterSkipped,
    /// A server that the person entered was asked.
    LeavesMachine,
    /// It did not answer; the others wrote.
    MemberSkipped,
    /// The best text had a low score, so another member was asked once more.
    Retried,
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct WriteResult {
    pub generation_id: GenerationId,
    /// The winner of the vote.
    pub chosen: CandidateId,
    /// In order of rank.
    pub candidates: Vec<Candidate>,
    pub seed: u32,
    pub seconds: f64,
    pub first_token_seconds: f64,
    pub tokens_per_second: f64,
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// Two candidates whose comparison would teach taste most, when exploring.
    #[serde(default)]
    pub explore_pair: Option<(CandidateId, CandidateId)>,
    /// When the best text had a low score and another member was asked once more.
    #[serde(default)]
    pub retried: Option<Retried>,
}

/// A second try of a low-scored answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Retried {
    /// Who was asked: the member whose text stood next in the vote.
    pub member: String,
    /// How many candidates it added.
    pub candidates: u32,
    /// Standing of the best text before and after, 0–10: the weighted mean of its scores.
    pub before: f64,
    pub after: f64,
}

/// What is streamed while a generation runs. `index` counts candidates from 0 in the order they are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WriteEvent {
    Started {
        generation_id: GenerationId,
        n: u32,
        seed: u32,
        notices: Vec<Notice>,
    },
    /// The best text had a low score: a member writes `n` more, whose indices follow.
    Retrying {
        member: String,
        n: u32,
    },
    /// More text of one candidate.
    Token {
        index: u32,
        text: String,
    },
    /// A candidate is complete and scored.
    Candidate {
        index: u32,
        candidate: Box<Candidate>,
    },
    /// The vote is over; the same object that the non-streaming call returns.
    Chosen {
        result: Box<WriteResult>,
    },
}

/// A generation as history lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct GenerationSummary {
    pub generation_id: GenerationId,
    pub created_at: Timestamp,
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    /// The first words of the chosen text.
    pub opening: String,
    /// The newest verdict on any of its candidates, 1 or -1.
    pub verdict: Option<i8>,
    pub candidates: u32,
}

/// A stored generation with its request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct GenerationDetail {
    pub created_at: Timestamp,
    pub request: WriteRequest,
    pub result: WriteResult,
}

/// A page of history, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct GenerationPage {
    pub items: Vec<GenerationSummary>,
    /// Pass as `before` for the next page.
    pub next: Option<GenerationId>,
}

/// What stands in the Write view and is not written yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct Draft {
    /// The view's own JSON; the backend keeps it and does not look inside.
    pub json: String,
}

/// A text ready to be saved as a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct ExportedText {
    pub file_name: String,
    pub text: String,
}
