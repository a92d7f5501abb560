//! The person's taste: the newest model, in memory, on disk and as a card to read.

use crate::{App, Home, folder, lock};
use domain::{
    ApiError, Nothing, Preference, TasteCard, TasteQuestion, TasteScore, TasteSummary, TasteTrained, TasteTraining, TasteVersionRef,
    TasteVersionRow,
};
use std::sync::{Arc, Mutex};
use store::RatedText;
use taste::{Comparison, TasteData, TasteModel, Thumb};

/// The newest taste model; absent before the first verdict.
#[derive(Default)]
pub(crate) struct CurrentTaste {
    model: Mutex<Option<Arc<TasteModel>>>,
    /// Held while it is learned anew, so that two thumbs at once make two versions in order.
    learning: Mutex<()>,
}

impl App {
    /// What has been learned, in words and figures.
    pub fn taste(&self, _: Nothing) -> Result<TasteCard, ApiError> {
        let store = &self.home().store;
        let thumbs = store.thumbs()?;
        let mut card = self.any_taste().map(|model| model.card()).unwrap_or_default();
        if card.sentence.is_empty() {
            card.sentence = "No taste found yet: there are no thumbs to learn from.".to_owned();
        }
        card.liked_texts = thumbs.liked;
        card.disliked_texts = thumbs.disliked;
        card.summary.thumbs = thumbs.total();
        card.summary.pinned = self.taste_pinned()?;
        Ok(card)
    }

    /// Learns taste anew from all verdicts and writes the readable `preference_model.json`.
    ///
    /// # Errors
    /// `NotReady` without verdicts, `InvalidInput` for figures out of range.
    pub fn train_taste(&self, options: TasteTraining) -> Result<TasteTrained, ApiError> {
        let faults: Vec<_> = [
            ("epochs", options.epochs == 0 || options.epochs > 1000, "epochs must be 1 to 1000."),
            ("max_vocab", options.max_vocab > 1_000_000, "max_vocab must be at most 1000000."),
            ("lr", !(options.lr > 0.0 && options.lr <= 10.0), "lr must be above 0 and at most 10."),
        ]
        .into_iter()
        .filter(|(_, faulty, _)| *faulty)
        .map(|(field, _, message)| domain::FieldFault { field: field.to_owned(), message: message.to_owned() })
        .collect();
        if !faults.is_empty() {
            return Err(ApiError::fields(faults));
        }
        let model = self.learn_taste(&options)?.ok_or_else(no_thumbs)?;
        Ok(TasteTrained {
            ok: true,
            model_path: self.home().folder.preference_model().display().to_string(),
            vocab_size: model.counts.vocabulary,
            auc: model.auc,
            examples: model.counts.thumbs + model.counts.comparisons,
        })
    }

    /// The probability that the person likes a text, by the newest version whether or not it may vote.
    ///
    /// # Errors
    /// `NotReady` before the first verdict.
    pub fn score_taste(&self, question: TasteQuestion) -> Result<TasteScore, ApiError> {
        let model = self.any_taste().ok_or_else(no_thumbs)?;
        let predicted = model.predict(&question.completion);
        Ok(TasteScore { ok: true, score: predicted.probability, sd: predicted.sd, confident: model.confident })
    }

    /// Versions that can be gone back to, the newest first.
    pub fn taste_versions(&self, _: Nothing) -> Result<Vec<TasteVersionRow>, ApiError> {
        let versions = self.home().store.taste_versions()?.into_iter().enumerate();
        Ok(versions
            .map(|(at, one)| TasteVersionRow { version: one.version, created_at: one.created_at, summary: one.summary, current: at == 0 })
            .collect())
    }

    /// Goes back to an earlier version: it is stored again as the newest and stays until the person has taste learn anew, however
    /// many verdicts come meanwhile; those are kept.
    ///
    /// # Errors
    /// `NotFound` for a version that is not kept, `Damaged` for one that cannot be read.
    pub fn restore_taste(&self, wanted: TasteVersionRef) -> Result<TasteCard, ApiError> {
        {
            let _one_at_a_time = lock(&self.taste.learning);
            let home = self.home();
            let versions = home.store.taste_versions()?;
            let found = versions.iter().find(|one| one.version == wanted.version);
            let found = found.ok_or_else(|| {
                ApiError::not_found("version of your taste", wanted.version).hint("`inkling taste versions` lists those that are kept.")
            })?;
            let mut model: TasteModel = serde_json::from_str(&found.json).map_err(|error| {
                ApiError::new(domain::ErrorCode::Damaged, format!("Version {} cannot be read: {error}.", wanted.version))
            })?;
            model.version = versions.first().map_or(0, |newest| newest.version) + 1;
            let json = serde_json::to_string_pretty(&model).map_err(ApiError::internal)?;
            home.store.save_taste(&json, &TasteSummary { pinned: true, ..model.summary(true) })?;
            self.take_up(&home, model, &json);
        }
        self.taste(Nothing {})
    }

    /// Whether the person went back to a version that stays.
    pub(crate) fn taste_pinned(&self) -> Result<bool, ApiError> {
        Ok(self.home().store.newest_taste()?.is_some_and(|newest| newest.summary.pinned))
    }

    /// Fits, stores a version, and uses it from now on; nothing without verdicts.
    pub(crate) fn learn_taste(&self, options: &TasteTraining) -> Result<Option<Arc<TasteModel>>, ApiError> {
        let _one_at_a_time = lock(&self.taste.learning);
        let home = self.home();
        let (rated, preferences) = (home.store.feedback_for_taste()?, home.store.preferences()?);
        if rated.is_empty() && preferences.is_empty() {
            return Ok(None);
        }
        let mut model = TasteModel::fit(&taste_data(rated, preferences), options);
        model.version = home.store.newest_taste()?.map_or(0, |newest| newest.version) + 1;
        let json = serde_json::to_string_pretty(&model).map_err(ApiError::internal)?;
        home.store.save_taste(&json, &model.summary(true))?;
        Ok(Some(self.take_up(&home, model, &json)))
    }

    /// Uses a model that was stored from now on.
    fn take_up(&self, home: &Home, model: TasteModel, json: &str) -> Arc<TasteModel> {
        let model = Arc::new(model);
        *lock(&self.taste.model) = Some(model.clone());
        // The row in the store is the truth; the file is for people and other programs to read.
        if let Err(error) = folder::write_whole(&home.folder.preference_model(), json.as_bytes()) {
            tracing::warn!(message = error.message, "preference_model.json was not written");
        }
        model
    }

    /// Takes up the newest stored version at start; learns anew when it cannot be read, is of an older program, or thumbs
    /// came after it.
    pub(crate) fn load_taste(&self) -> Result<(), ApiError> {
        let store = &self.home().store;
        let newest = store.newest_taste()?;
        let pinned = newest.as_ref().is_some_and(|newest| newest.summary.pinned);
        let stored: Option<TasteModel> = newest.and_then(|newest| serde_json::from_str(&newest.json).ok());
        match stored {
            Some(model) if model.is_current() && (pinned || model.counts.thumbs == store.thumbs()?.total()) => {
                *lock(&self.taste.model) = Some(Arc::new(model));
            }
            _ => {
                self.learn_taste(&TasteTraining::default())?;
            }
        }
        Ok(())
    }

    pub(crate) fn any_taste(&self) -> Option<Arc<TasteModel>> {
        lock(&self.taste.model).clone()
    }

    /// The taste model if it has shown that it predicts the person better than chance.
    pub(crate) fn confident_taste(&self) -> Option<Arc<TasteModel>> {
        self.any_taste().filter(|model| model.confident)
    }

    pub(crate) fn taste_summary(&self) -> Result<TasteSummary, ApiError> {
        Ok(self.taste(Nothing {})?.summary)
    }
}

fn no_thumbs() -> ApiError {
    ApiError::new(domain::ErrorCode::NotReady, "There are no thumbs to learn from yet.").hint("Thumb a few texts up or down first.")
}

/// Verdicts as taste learns them: a thumb for each judged text, an edited text preferred to its original, and comparisons.
fn taste_data(rated: Vec<RatedText>, preferences: Vec<Preference>) -> TasteData {
    let mut data = TasteData::default();
    for one in preferences {
        // A blind test's pairs belong to no generation: each is one of its own.
        let generation = one.generation_id.map_or(one.id.0, |id| id.0);
        data.comparisons.push(Comparison { generation, better: one.better, worse: one.worse });
    }
    for one in rated {
        let generation = one.generation_id.0;
        if let Some(original) = one.original_text.filter(|original| *original != one.text) {
            data.comparisons.push(Comparison { generation: generation.clone(), better: one.text.clone(), worse: original });
        }
        data.thumbs.push(Thumb { generation, text: one.text, liked: one.verdict > 0 });
    }
    data
}
