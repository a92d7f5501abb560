//! Requests to write, from the moment they are accepted, with what came of them.

use crate::table::candidate;
use crate::value::{Json, finite};
use crate::{Conflict, Result, Store, StoreError};
use domain::{
    CandidateId, Change, GenerationDetail, GenerationId, GenerationPage, GenerationSummary, Notice, Retried, Timestamp, WriteRequest,
    WriteResult,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE generation (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    -- Beside the request, for search.
    prompt TEXT NOT NULL,
    request TEXT NOT NULL,
    -- What follows is NULL until the generation has ended.
    chosen TEXT,
    seed INTEGER,
    seconds REAL,
    first_token_seconds REAL,
    tokens_per_second REAL,
    notices TEXT,
    explore_pair TEXT,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    removed_at TEXT
) STRICT;
";

pub(crate) const V4: &str = "ALTER TABLE generation ADD COLUMN retried TEXT;";

/// The first words of a text, as history shows them.
const OPENING_CHARS: usize = 140;

/// A generation that the person has not judged.
#[derive(Debug, Clone, PartialEq)]
pub struct UnjudgedGeneration {
    pub generation_id: GenerationId,
    pub request: WriteRequest,
    pub texts: Vec<String>,
}

impl Store {
    /// Stores a request before any text is written: from here on the prompt survives whatever happens.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub fn begin_generation(&self, id: &GenerationId, request: &WriteRequest) -> Result<()> {
        self.write(|tx| {
            let sql = "INSERT INTO generation (id, prompt, request, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING";
            let stored = tx.prepare_cached(sql)?.execute(params![id.0, request.prompt, Json(request), tx.now().0])?;
            if stored == 0 {
                return Err(Conflict::Exists { id: id.0.clone() }.into());
            }
            tx.record(Change::GenerationStored { generation_id: id.clone() })
        })
    }

    /// Stores the outcome of a generation with all candidates, those stored before included: their ranks and scores are
    /// final only now.
    ///
    /// # Errors
    /// `NotFound` when it was not begun.
    pub fn finish_generation(&self, result: &WriteResult) -> Result<()> {
        self.write(|tx| {
            let sql = "UPDATE generation SET chosen = ?2, seed = ?3, seconds = ?4, first_token_seconds = ?5,
                tokens_per_second = ?6, notices = ?7, explore_pair = ?8, finished_at = ?9, retried = ?10 WHERE id = ?1";
            let found = tx.execute(
                sql,
                params![
                    result.generation_id.0,
                    result.chosen.0,
                    result.seed,
                    finite(result.seconds),
                    finite(result.first_token_seconds),
                    finite(result.tokens_per_second),
                    Json(&result.notices),
                    result.explore_pair.as_ref().map(Json),
                    tx.now().0,
                    result.retried.as_ref().map(Json),
                ],
            )?;
            if found == 0 {
                return Err(StoreError::not_found("generation", &result.generation_id));
            }
            for candidate in &result.candidates {
                candidate::put(tx, &result.generation_id, candidate)?;
            }
            tx.record(Change::GenerationStored { generation_id: result.generation_id.clone() })
        })
    }

    /// A generation with its candidates in order of rank, each with its newest feedback. One that has not ended, or was cut
    /// off, has the candidates that were complete and, without any, an empty `chosen`.
    ///
    /// # Errors
    /// `NotFound`, also for a removed one.
    pub fn generation(&self, id: &GenerationId) -> Result<GenerationDetail> {
        self.read(|tx| {
            let sql = "SELECT * FROM generation WHERE id = ?1 AND removed_at IS NULL";
            let found = tx.prepare_cached(sql)?.query_row([&id.0], from_row).optional()?;
            let mut detail = found.ok_or_else(|| StoreError::not_found("text", id))?;
            detail.result.candidates = candidate::of_generation(tx, id)?;
            if detail.result.chosen.0.is_empty() {
                detail.result.chosen = detail.result.candidates.first().map_or(CandidateId(String::new()), |first| first.id.clone());
            }
            Ok(detail)
        })
    }

    /// A page of history, newest first: at most `limit`, older than `before`, and with every word of `search` in the prompt
    /// or in one of the texts, whatever its case.
    ///
    /// # Errors
    /// `NotFound` when there is no generation `before`.
    pub fn generations(&self, limit: u32, before: Option<&GenerationId>, search: Option<&str>) -> Result<GenerationPage> {
        let words = search.map(str::trim).filter(|words| !words.is_empty()).map(str::to_lowercase);
        let limit = limit.clamp(1, 1000);
        self.read(|tx| {
            let before = before.map(|id| sequence(tx, id)).transpose()?;
            let sql = "
                SELECT g.id, g.created_at, g.request,
                    (SELECT c.text FROM candidate c WHERE c.generation_id = g.id ORDER BY c.id IS g.chosen DESC, c.rank, c.seq LIMIT 1),
                    (SELECT f.verdict FROM feedback f JOIN candidate c ON c.id = f.candidate_id
                        WHERE c.generation_id = g.id ORDER BY f.seq DESC LIMIT 1),
                    (SELECT count(*) FROM candidate c WHERE c.generation_id = g.id)
                FROM generation g
                WHERE g.removed_at IS NULL AND (?1 IS NULL OR g.seq < ?1)
                    AND (?2 IS NULL OR has_words(g.prompt, ?2)
                        OR EXISTS (SELECT 1 FROM candidate c WHERE c.generation_id = g.id AND has_words(c.text, ?2))
                        OR EXISTS (SELECT 1 FROM feedback f JOIN candidate c ON c.id = f.candidate_id
                            WHERE c.generation_id = g.id AND has_words(f.edited_text, ?2)))
                ORDER BY g.seq DESC LIMIT ?3";
            let mut query = tx.prepare_cached(sql)?;
            let rows = query.query_map(params![before, words, limit + 1], summary)?;
            let mut items = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let more = items.len() > limit as usize;
            items.truncate(limit as usize);
            let next = if more { items.last().map(|last| last.generation_id.clone()) } else { None };
            Ok(GenerationPage { items, next })
        })
    }

    /// Takes a generation out of history and out of what is learned from; it can be restored until it is purged.
    ///
    /// # Errors
    /// `NotFound`, also when it is removed already.
    pub fn remove_generation(&self, id: &GenerationId) -> Result<()> {
        self.write(|tx| {
            let found =
                tx.execute("UPDATE generation SET removed_at = ?2 WHERE id = ?1 AND removed_at IS NULL", params![id.0, tx.now().0])?;
            if found == 0 {
                return Err(StoreError::not_found("text", id));
            }
            tx.record(Change::GenerationRemoved { generation_id: id.clone() })
        })
    }

    /// Undoes [`Store::remove_generation`]; doing it twice is fine.
    ///
    /// # Errors
    /// `NotFound` when it was purged or never there.
    pub fn restore_generation(&self, id: &GenerationId) -> Result<()> {
        self.write(|tx| {
            if tx.execute("UPDATE generation SET removed_at = NULL WHERE id = ?1", [&id.0])? == 0 {
                return Err(StoreError::not_found("text", id));
            }
            tx.record(Change::GenerationRestored { generation_id: id.clone() })
        })
    }

    /// Finished generations with two texts or more of which none was judged, the newest first: request and texts.
    pub fn unjudged_generations(&self, limit: u32) -> Result<Vec<UnjudgedGeneration>> {
        self.read(|tx| {
            let sql = "SELECT g.id, g.request FROM generation g
                WHERE g.removed_at IS NULL AND g.finished_at IS NOT NULL
                    AND (SELECT count(*) FROM candidate c WHERE c.generation_id = g.id) > 1
                    AND NOT EXISTS (SELECT 1 FROM feedback f JOIN candidate c ON c.id = f.candidate_id WHERE c.generation_id = g.id)
                    AND NOT EXISTS (SELECT 1 FROM preference p WHERE p.generation_id = g.id)
                ORDER BY g.seq DESC LIMIT ?1";
            let mut query = tx.prepare_cached(sql)?;
            let rows = query.query_map([limit], |row| Ok((row.get(0).map(GenerationId)?, row.get(1)?)))?;
            let rows = rows.collect::<rusqlite::Result<Vec<(GenerationId, Json<WriteRequest>)>>>()?;
            let with_texts = rows.into_iter().map(|(generation_id, Json(request))| {
                let texts = candidate::of_generation(tx, &generation_id)?.into_iter().map(|one| one.text).collect();
                Ok(UnjudgedGeneration { generation_id, request, texts })
            });
            with_texts.collect()
        })
    }

    /// Erases generations that were removed before `removed_before`, with their candidates and feedback; returns how many.
    pub fn purge_removed_generations(&self, removed_before: &Timestamp) -> Result<u32> {
        // Nothing is announced: they were announced as removed, and no surface shows them.
        self.write(|tx| Ok(tx.execute("DELETE FROM generation WHERE removed_at < ?1", [&removed_before.0])? as u32))
    }
}

/// The request of a generation, removed or not.
pub(crate) fn request(connection: &Connection, id: &str) -> Result<WriteRequest> {
    let Json(request) = connection.query_row("SELECT request FROM generation WHERE id = ?1", [id], |row| row.get(0))?;
    Ok(request)
}

fn sequence(connection: &Connection, id: &GenerationId) -> Result<i64> {
    let found = connection.query_row("SELECT seq FROM generation WHERE id = ?1", [&id.0], |row| row.get(0)).optional()?;
    found.ok_or_else(|| StoreError::not_found("text", id))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<GenerationDetail> {
    let Json(request): Json<WriteRequest> = row.get("request")?;
    let explore_pair: Option<Json<(CandidateId, CandidateId)>> = row.get("explore_pair")?;
    let notices: Option<Json<Vec<Notice>>> = row.get("notices")?;
    let retried: Option<Json<Retried>> = row.get("retried")?;
    Ok(GenerationDetail {
        created_at: Timestamp(row.get("created_at")?),
        result: WriteResult {
            generation_id: GenerationId(row.get("id")?),
            chosen: CandidateId(row.get::<_, Option<_>>("chosen")?.unwrap_or_default()),
            candidates: Vec::new(),
            seed: row.get::<_, Option<_>>("seed")?.or(request.seed).unwrap_or_default(),
            seconds: row.get::<_, Option<_>>("seconds")?.unwrap_or_default(),
            first_token_seconds: row.get::<_, Option<_>>("first_token_seconds")?.unwrap_or_default(),
            tokens_per_second: row.get::<_, Option<_>>("tokens_per_second")?.unwrap_or_default(),
            notices: notices.map(|Json(notices)| notices).unwrap_or_default(),
            explore_pair: explore_pair.map(|Json(pair)| pair),
            retried: retried.map(|Json(retried)| retried),
        },
        request,
    })
}

fn summary(row: &Row<'_>) -> rusqlite::Result<GenerationSummary> {
    let Json(request): Json<WriteRequest> = row.get(2)?;
    Ok(GenerationSummary {
        generation_id: GenerationId(row.get(0)?),
        created_at: Timestamp(row.get(1)?),
        prompt: request.prompt,
        genres: request.genres,
        style: request.style,
        opening: opening(&row.get::<_, Option<String>>(3)?.unwrap_or_default()),
        verdict: row.get(4)?,
        candidates: row.get(5)?,
    })
}

/// The first words, cut between words.
fn opening(text: &str) -> String {
    let mut words = text.split_whitespace();
    let mut opening = String::new();
    for word in words.by_ref() {
        if !opening.is_empty() && opening.chars().count() + word.chars().count() >= OPENING_CHARS {
            return opening + "…";
        }
        if !opening.is_empty() {
            opening.push(' ');
        }
        opening.push_str(word);
    }
    opening
}
