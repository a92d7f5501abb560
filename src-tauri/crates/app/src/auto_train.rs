//! Auto-train: sessions in which the app writes examples for itself, queued as jobs.
//!
//! What is written goes into the examples, never among the person's own stories. `spread` says what is asked for,
//! `writing` writes and judges it, `crate::personal` learns from it.

mod spread;
pub(crate) mod writing;

use crate::App;
use domain::{
    ApiError, AutoTrain, AutoTrainAttempt, AutoTrainId, AutoTrainRef, AutoTrainRequest, AutoTrainResult, AutoTrainSettings, FieldFault,
    Genre, Job, JobId, JobKind, JobState, Limit, Nothing, Priority, Style, Timestamp, TrainingGenres, UserRef,
};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The person of this app, when nobody else is named.
pub(crate) const SOMEBODY: &str = "me";

/// Bars of the histogram; each is half a point wide.
const BARS: usize = 20;

impl App {
    /// The genres, prompts and styles that examples are drawn from.
    pub fn training_genres(&self, _: Nothing) -> Result<TrainingGenres, ApiError> {
        Ok(TrainingGenres { genres: Genre::ALL.to_vec(), prompts: spread::prompts()?, styles: spread::modifiers()? })
    }

    /// Queues a session.
    ///
    /// # Errors
    /// `InvalidInput` with every fault, unknown genres and styles among them; `Conflict` while a session is queued or running.
    pub fn auto_train(&self, request: AutoTrainRequest) -> Result<AutoTrain, ApiError> {
        let home = self.home();
        let defaults = home.store.settings()?;
        let settings = checked(request, defaults.candidates, defaults.max_tokens)?;
        let (id, job_id) = (AutoTrainId::fresh(), JobId::fresh());
        let job = Job {
            id: job_id,
            kind: JobKind::AutoTrain,
            state: JobState::Queued,
            priority: Priority::Normal,
            phase: None,
            progress: 0.0,
            run_id: None,
            attempts: 0,
            error: None,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            title: title(&settings),
        };
        let session = home.store.enqueue_auto_train(&job, &id, &settings)?;
        self.worker.wake();
        Ok(session)
    }

    /// Sessions, newest first.
    pub fn auto_trains(&self, limit: Limit) -> Result<Vec<AutoTrain>, ApiError> {
        Ok(self.home().store.auto_trains(crate::job::checked_limit(limit)?)?)
    }

    /// # Errors
    /// `NotFound`.
    pub fn auto_train_session(&self, which: AutoTrainRef) -> Result<AutoTrain, ApiError> {
        Ok(self.home().store.auto_train(&which.auto_train_id)?)
    }

    /// What became of each example that a session tried so far, in order.
    pub fn auto_train_attempts(&self, which: AutoTrainRef) -> Result<Vec<AutoTrainAttempt>, ApiError> {
        let store = &self.home().store;
        store.auto_train(&which.auto_train_id)?;
        Ok(store.auto_attempts(&which.auto_train_id)?)
    }

    /// A session's outcome, or how it stands while it is under way.
    pub fn auto_train_result(&self, which: AutoTrainRef) -> Result<AutoTrainResult, ApiError> {
        let store = &self.home().store;
        let session = store.auto_train(&which.auto_train_id)?;
        let attempts = store.auto_attempts(&session.id)?;
        let training_stats = self.training_stats(UserRef { user_id: session.settings.user_id.clone() })?;
        let mut genre_distribution: BTreeMap<Genre, u32> = session.settings.genres.iter().map(|genre| (*genre, 0)).collect();
        let mut failure_reasons = BTreeMap::new();
        let mut quality_histogram = vec![0; BARS];
        for attempt in attempts {
            if attempt.example_id.is_some() {
                *genre_distribution.entry(attempt.genre).or_default() += 1;
            }
            if let Some(reason) = attempt.reason {
                *failure_reasons.entry(reason).or_default() += 1;
            }
            if let Some(quality) = attempt.quality {
                quality_histogram[((quality * 2.0).max(0.0) as usize).min(BARS - 1)] += 1;
            }
        }
        Ok(AutoTrainResult {
            auto_train_id: session.id,
            state: session.state,
            seed: session.settings.seed,
            total_requested: session.settings.num_examples,
            successful: session.successful,
            failed: session.failed,
            genre_distribution,
            average_quality: session.average_quality.unwrap_or(0.0),
            total_time: session.seconds,
            stored_in_memory: session.settings.store_in_memory,
            ready_for_finetuning: training_stats.ready_for_finetuning,
            training_stats,
            failure_reasons,
            quality_histogram,
        })
    }
}

/// A user id that can stand in an adapter's name and in a path.
pub(crate) fn checked_user(user_id: &str) -> Result<&str, FieldFault> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if (1..=64).contains(&user_id.len()) && user_id.chars().all(fits) {
        return Ok(user_id);
    }
    let message = "A user id has 1 to 64 letters, digits, dots, dashes, underscores or @.".to_owned();
    Err(FieldFault { field: "user_id".to_owned(), message })
}

/// The request with every default filled in, or everything that is wrong with it.
fn checked(request: AutoTrainRequest, candidates: u32, length: u32) -> Result<AutoTrainSettings, ApiError> {
    let mut faults = Vec::new();
    let user_id = request.user_id.unwrap_or_else(|| SOMEBODY.to_owned());
    faults.extend(checked_user(&user_id).err());
    let genres: Vec<Genre> = named("genres", request.genres, Genre::ALL, &mut faults);
    let styles: Vec<Style> = named("styles", request.styles, Style::ALL, &mut faults);
    let mut whole = |field: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
        if !range.contains(&value) {
            let message = format!("{field} is {value}; it must be {} to {}.", range.start(), range.end());
            faults.push(FieldFault { field: field.to_owned(), message });
        }
        value
    };
    let num_examples = whole("num_examples", request.num_examples, 1..=500);
    let n = whole("n", request.n.unwrap_or(candidates), 1..=16);
    let max_tokens = whole("max_tokens", request.max_tokens.unwrap_or(length), 16..=900);
    if !faults.is_empty() {
        let known = Genre::ALL.iter().map(|genre| genre.name()).collect::<Vec<_>>().join(", ");
        let unknown_genre = faults.iter().any(|fault| fault.field == "genres");
        let hint = if unknown_genre { format!("Genres are: {known}.") } else { "Change the values named, then try again.".to_owned() };
        return Err(ApiError::fields(faults).hint(hint));
    }
    let seed = request.seed.unwrap_or_else(crate::write::fresh_seed);
    Ok(AutoTrainSettings { user_id, num_examples, genres, styles, store_in_memory: request.store_in_memory, seed, n, max_tokens })
}

/// Names as what they name, each once, in the order of declaration; all when there are none.
fn named<T: FromStr<Err = ApiError> + Copy + PartialEq>(
    field: &str,
    names: Option<Vec<String>>,
    all: &[T],
    faults: &mut Vec<FieldFault>,
) -> Vec<T> {
    let names = names.unwrap_or_default();
    if names.is_empty() {
        return all.to_vec();
    }
    let mut wanted = Vec::new();
    for name in names {
        match T::from_str(&name) {
            Ok(one) => wanted.push(one),
            Err(error) => faults.push(FieldFault { field: field.to_owned(), message: error.message }),
        }
    }
    all.iter().copied().filter(|one| wanted.contains(one)).collect()
}

fn title(settings: &AutoTrainSettings) -> String {
    let genres = match settings.genres.as_slice() {
        all if all.len() == Genre::ALL.len() => "all genres".to_owned(),
        some => some.iter().map(|genre| genre.label().to_lowercase()).collect::<Vec<_>>().join(", "),
    };
    let examples = if settings.num_examples == 1 { "1 example".to_owned() } else { format!("{} examples", settings.num_examples) };
    format!("Auto-train: {examples} of {genres}")
}
