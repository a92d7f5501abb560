//! The texts offered for a generation.

use crate::table::change_log::Recorder;
use crate::table::{feedback, generation};
use crate::value::{Json, Name, finite};
use crate::{Result, Store, StoreError};
use domain::{Candidate, CandidateId, GenerationId, QualityPart, Scores, WriteRequest};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE candidate (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    generation_id TEXT NOT NULL REFERENCES generation (id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    continued_chars INTEGER NOT NULL,
    member TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    scores TEXT NOT NULL
) STRICT;
CREATE INDEX candidate_of_generation ON candidate (generation_id, rank);
";

/// Whether the text was asked of another machine.
pub(crate) const V3: &str = "ALTER TABLE candidate ADD COLUMN left_machine INTEGER NOT NULL DEFAULT 0";

/// A candidate with what it was written for.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCandidate {
    pub candidate: Candidate,
    pub generation_id: GenerationId,
    pub request: WriteRequest,
}

impl Store {
    /// A candidate with its newest feedback and its generation's request.
    ///
    /// # Errors
    /// `NotFound`, also when its generation is removed.
    pub fn candidate(&self, id: &CandidateId) -> Result<StoredCandidate> {
        self.read(|tx| {
            let sql = "SELECT c.* FROM candidate c JOIN generation g ON g.id = c.generation_id WHERE c.id = ?1 AND g.removed_at IS NULL";
            let found = tx.prepare_cached(sql)?.query_row([&id.0], |row| Ok((from_row(row)?, row.get("generation_id")?))).optional()?;
            let (mut candidate, generation_id): (Candidate, String) = found.ok_or_else(|| StoreError::not_found("text", id))?;
            candidate.feedback = feedback::newest(tx, id)?;
            let request = generation::request(tx, &generation_id)?;
            Ok(StoredCandidate { candidate, generation_id: GenerationId(generation_id), request })
        })
    }
}

/// Stores or replaces a row; its generation is there.
pub(crate) fn put(tx: &Recorder<'_>, generation_id: &GenerationId, candidate: &Candidate) -> Result<()> {
    let sql = "INSERT INTO candidate (id, generation_id, text, continued_chars, member, finish_reason, tokens, rank, scores, left_machine)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
        ON CONFLICT (id) DO UPDATE SET text = excluded.text, continued_chars = excluded.continued_chars, member = excluded.member,
            finish_reason = excluded.finish_reason, tokens = excluded.tokens, rank = excluded.rank, scores = excluded.scores,
            left_machine = excluded.left_machine
        WHERE generation_id = excluded.generation_id";
    tx.prepare_cached(sql)?.execute(params![
        candidate.id.0,
        generation_id.0,
        candidate.text,
        candidate.continued_chars,
        candidate.member,
        Name(candidate.finish_reason),
        candidate.tokens,
        candidate.rank,
        Json(&storable(&candidate.scores)),
        candidate.left_machine,
    ])?;
    Ok(())
}

/// The candidates of a generation in order of rank, with their newest feedback.
pub(crate) fn of_generation(connection: &Connection, id: &GenerationId) -> Result<Vec<Candidate>> {
    let mut query = connection.prepare_cached("SELECT * FROM candidate WHERE generation_id = ?1 ORDER BY rank, seq")?;
    let mut candidates = query.query_map([&id.0], from_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for candidate in &mut candidates {
        candidate.feedback = feedback::newest(connection, &candidate.id)?;
    }
    Ok(candidates)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    let Name(finish_reason) = row.get("finish_reason")?;
    let Json(scores) = row.get("scores")?;
    Ok(Candidate {
        id: CandidateId(row.get("id")?),
        text: row.get("text")?,
        continued_chars: row.get("continued_chars")?,
        member: row.get("member")?,
        left_machine: row.get("left_machine")?,
        finish_reason,
        tokens: row.get("tokens")?,
        rank: row.get("rank")?,
        scores,
        feedback: None,
    })
}

/// A score that is not a number must not cost the text it belongs to.
fn storable(scores: &Scores) -> Scores {
    Scores {
        taste: scores.taste.filter(|taste| taste.is_finite()),
        quality: finite(scores.quality),
        on_prompt: finite(scores.on_prompt),
        fluency: finite(scores.fluency),
        genre: finite(scores.genre),
        total: finite(scores.total),
        quality_parts: scores
            .quality_parts
            .iter()
            .map(|part| QualityPart { rule: part.rule.clone(), points: finite(part.points) })
            .collect(),
    }
}
