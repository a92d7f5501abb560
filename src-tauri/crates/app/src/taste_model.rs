//! The person's taste: the newest model, in memory, on disk and as a card to read.

use crate::{App, folder, lock};
use domain::{ApiError, Nothing, TasteCard, TasteSummary, TasteTrained, TasteTraining};
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
        let model = self.learn_taste(&options)?.ok_or_else(|| {
            ApiError::new(domain::ErrorCode::NotReady, "There are no thumbs to learn from yet.").hint("Thumb a few texts up or down first.")
        })?;
        Ok(TasteTrained {
            ok: true,
            model_path: self.home().folder.preference_model().display().to_string(),
            vocab_size: model.counts.vocabulary,
            auc: model.auc,
            examples: model.counts.thumbs + model.counts.comparisons,
        })
    }

    /// Fits, stores a version, and uses it from now on; nothing without verdicts.
    pub(crate) fn learn_taste(&self, options: &TasteTraining) -> Result<Option<Arc<TasteModel>>, ApiError> {
        let _one_at_a_time = lock(&self.taste.learning);
        let home = self.home();
        let data = home.store.feedback_for_taste()?;
        if data.is_empty() {
            return Ok(None);
        }
        let mut model = TasteModel::fit(&taste_data(data), options);
        model.version = home.store.newest_taste()?.map_or(0, |newest| newest.version) + 1;
        let json = serde_json::to_string_pretty(&model).map_err(ApiError::internal)?;
        home.store.save_taste(&json, &model.summary(true))?;
        let model = Arc::new(model);
        *lock(&self.taste.model) = Some(model.clone());
        // The row in the store is the truth; the file is for people and other programs to read.
        if let Err(error) = folder::write_whole(&home.folder.preference_model(), json.as_bytes()) {
            tracing::warn!(message = error.message, "preference_model.json was not written");
        }
        Ok(Some(model))
    }

    /// Takes up the newest stored version at start; learns anew when it cannot be read, is of an older program, or thumbs
    /// came after it.
    pub(crate) fn load_taste(&self) -> Result<(), ApiError> {
        let store = &self.home().store;
        let stored: Option<TasteModel> = store.newest_taste()?.and_then(|newest| serde_json::from_str(&newest.json).ok());
        match stored {
            Some(model) if model.is_current() && model.counts.thumbs == store.thumbs()?.total() => *lock(&self.taste.model) = Some(Arc::new(model)),
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

/// Verdicts as taste learns them: a thumb for each judged text, and an edited text preferred to its original.
fn taste_data(rated: Vec<RatedText>) -> TasteData {
    let mut data = TasteData::default();
    for one in rated {
        let generation = one.generation_id.0;
        if let Some(original) = one.original_text.filter(|original| *original != one.text) {
            data.comparisons.push(Comparison { generation: generation.clone(), better: one.text.clone(), worse: original });
        }
        data.thumbs.push(Thumb { generation, text: one.text, liked: one.verdict > 0 });
    }
    data
}
