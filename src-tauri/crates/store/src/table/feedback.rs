//! Verdicts. All are kept; the newest of a candidate counts.

use crate::value::Json;
use crate::{Conflict, Result, Store, StoreError};
use domain::{CandidateId, Change, FeedbackId, FeedbackItem, GenerationId, GenreMix, Style, Timestamp, WriteRequest};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE feedback (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    candidate_id TEXT NOT NULL REFERENCES candidate (id) ON DELETE CASCADE,
    verdict INTEGER NOT NULL CHECK (verdict IN (1, -1)),
    tags TEXT NOT NULL,
    comment TEXT,
    edited_text TEXT,
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX feedback_of_candidate ON feedback (candidate_id, seq);
";

/// A judged text, for taste.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedText {
    pub candidate_id: CandidateId,
    pub generation_id: GenerationId,
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    /// As the person edited it last, else as it was written.
    pub text: String,
    /// What it was before the edit, which the person liked less; absent without an edit.
    pub original_text: Option<String>,
    /// The newest verdict, 1 or -1.
    pub verdict: i8,
    pub tags: Vec<String>,
    pub comment: Option<String>,
    /// Sequence number of the newest verdict: what came first, whatever the clock said.
    pub at_seq: u32,
}

/// How many texts have been judged, by their newest verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thumbs {
    pub liked: u32,
    pub disliked: u32,
}

impl Thumbs {
    pub fn total(self) -> u32 {
        self.liked + self.disliked
    }
}

/// The newest verdict on each candidate in history, with the newest edit of it.
const NEWEST: &str = "
    SELECT f.seq, f.verdict, f.tags, f.comment, c.id AS candidate_id, c.generation_id, c.text, g.request,
        (SELECT e.edited_text FROM feedback e WHERE e.candidate_id = c.id AND e.edited_text IS NOT NULL ORDER BY e.seq DESC LIMIT 1)
            AS edited_text
    FROM feedback f
    JOIN candidate c ON c.id = f.candidate_id
    JOIN generation g ON g.id = c.generation_id
    WHERE g.removed_at IS NULL AND f.seq = (SELECT max(n.seq) FROM feedback n WHERE n.candidate_id = c.id)";

impl Store {
    /// Stores a verdict.
    ///
    /// # Errors
    /// `NotFound` for an unknown candidate, `Conflict` when the id is taken.
    pub fn add_feedback(&self, item: &FeedbackItem) -> Result<()> {
        self.write(|tx| {
            let known = tx.query_row("SELECT 1 FROM candidate WHERE id = ?1", [&item.candidate_id.0], |_| Ok(())).optional()?;
            known.ok_or_else(|| StoreError::not_found("text", &item.candidate_id))?;
            let sql = "INSERT INTO feedback (id, candidate_id, verdict, tags, comment, edited_text, created_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING";
            let stored = tx.prepare_cached(sql)?.execute(params![
                item.id.0,
                item.candidate_id.0,
                item.verdict,
                Json(&item.tags),
                item.comment,
                item.edited_text,
                item.created_at.0,
            ])?;
            if stored == 0 {
                return Err(Conflict::Exists { id: item.id.0.clone() }.into());
            }
            tx.record(Change::FeedbackStored { feedback_id: item.id.clone(), candidate_id: item.candidate_id.clone() })
        })
    }

    /// Every verdict on a candidate, oldest first.
    pub fn feedback_of(&self, candidate_id: &CandidateId) -> Result<Vec<FeedbackItem>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT * FROM feedback WHERE candidate_id = ?1 ORDER BY seq")?;
            Ok(query.query_map([&candidate_id.0], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Every judged text with its newest verdict, in the order in which they were given.
    pub fn feedback_for_taste(&self) -> Result<Vec<RatedText>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(&format!("{NEWEST} ORDER BY f.seq"))?;
            Ok(query.query_map([], rated)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Counts judged texts in history by their newest verdict.
    pub fn thumbs(&self) -> Result<Thumbs> {
        self.read(|tx| {
            let sql = format!("SELECT coalesce(sum(verdict = 1), 0), coalesce(sum(verdict = -1), 0) FROM ({NEWEST})");
            Ok(tx.query_row(&sql, [], |row| Ok(Thumbs { liked: row.get(0)?, disliked: row.get(1)? }))?)
        })
    }
}

/// The newest verdict on a candidate.
pub(crate) fn newest(connection: &Connection, candidate_id: &CandidateId) -> Result<Option<FeedbackItem>> {
    let sql = "SELECT * FROM feedback WHERE candidate_id = ?1 ORDER BY seq DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([&candidate_id.0], from_row).optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<FeedbackItem> {
    let Json(tags) = row.get("tags")?;
    Ok(FeedbackItem {
        id: FeedbackId(row.get("id")?),
        candidate_id: CandidateId(row.get("candidate_id")?),
        verdict: row.get("verdict")?,
        tags,
        comment: row.get("comment")?,
        edited_text: row.get("edited_text")?,
        created_at: Timestamp(row.get("created_at")?),
    })
}

fn rated(row: &Row<'_>) -> rusqlite::Result<RatedText> {
    let Json(request): Json<WriteRequest> = row.get("request")?;
    let Json(tags) = row.get("tags")?;
    let written: String = row.get("text")?;
    let (text, original_text) = match row.get::<_, Option<String>>("edited_text")? {
        Some(edited) => (edited, Some(written)),
        None => (written, None),
    };
    Ok(RatedText {
        candidate_id: CandidateId(row.get("candidate_id")?),
        generation_id: GenerationId(row.get("generation_id")?),
        prompt: request.prompt,
        genres: request.genres,
        style: request.style,
        text,
        original_text,
        verdict: row.get("verdict")?,
        tags,
        comment: row.get("comment")?,
        at_seq: row.get("seq")?,
    })
}
