//! The personal adapter: a LoRA that learns from auto-train's examples and the person's liked texts.

use crate::auto_train::checked_user;
use crate::dataset::{JudgedText, Personal};
use crate::{App, Home};
use domain::{Adapter, ApiError, ErrorCode, Objective, Recipe, TrainQueued, TrainRequest, TrainingStats, UserRef};

/// New examples at which the first training is offered (CONTRACT.md §5).
const FIRST_TRAINING: u32 = 50;

impl App {
    /// What there is to learn from, and how much is missing until the next training.
    pub fn training_stats(&self, user: UserRef) -> Result<TrainingStats, ApiError> {
        checked_user(&user.user_id).map_err(|fault| ApiError::fields(vec![fault]))?;
        let home = self.home();
        let counts = home.store.example_counts(&user.user_id)?;
        let ready_at = self.ready_at(&home, &user.user_id)?;
        let adapters = home.store.adapters()?;
        // Ids grow with time.
        let custom_model = adapters.iter().filter(|one| is_personal(one, &user.user_id)).map(|one| one.id.clone()).max();
        Ok(TrainingStats {
            user_id: user.user_id,
            training_examples: counts.kept,
            new_examples: counts.new,
            examples_until_next_training: ready_at.saturating_sub(counts.new),
            custom_model_exists: custom_model.is_some(),
            custom_model,
            ready_for_finetuning: counts.new >= ready_at,
        })
    }

    /// Queues a training of the personal adapter, whether enough examples are new or not.
    ///
    /// # Errors
    /// `NotReady` without examples and liked texts, else as [`App::train`].
    pub fn train_personal(&self, user: UserRef) -> Result<TrainQueued, ApiError> {
        self.train_personal_by(user, "person")
    }

    /// After a session: starts the training by itself, if that is set and due.
    pub(crate) fn train_personal_if_due(&self, user_id: &str) {
        let user = || UserRef { user_id: user_id.to_owned() };
        let due = || -> Result<bool, ApiError> {
            Ok(self.home().store.settings()?.auto_train_automatic && self.training_stats(user())?.ready_for_finetuning)
        };
        let started = match due() {
            Ok(true) => self.train_personal_by(user(), "auto-train").map(drop),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            tracing::warn!(code = ?error.code, message = error.message, "the personal adapter's training did not start by itself");
        }
    }

    /// New examples at which a training is due: 50 for the first, then as set.
    pub(crate) fn ready_at(&self, home: &Home, user_id: &str) -> Result<u32, ApiError> {
        let trained = home.store.adapters()?.iter().any(|adapter| is_personal(adapter, user_id));
        Ok(if trained { home.store.settings()?.auto_train_every } else { FIRST_TRAINING })
    }

    fn train_personal_by(&self, user: UserRef, triggered_by: &str) -> Result<TrainQueued, ApiError> {
        checked_user(&user.user_id).map_err(|fault| ApiError::fields(vec![fault]))?;
        let home = self.home();
        let counts = home.store.example_counts(&user.user_id)?;
        let mut texts: Vec<JudgedText> = home.store.feedback_for_taste()?.into_iter().map(JudgedText::from).collect();
        texts.retain(|text| text.liked);
        // The newest first, and what the person liked before what the app wrote for itself: when there are too many, the
        // last are left out.
        texts.reverse();
        texts.extend(home.store.examples_to_learn(&user.user_id)?.into_iter().map(JudgedText::from));
        if texts.is_empty() {
            return Err(ApiError::new(ErrorCode::NotReady, "There are no examples to learn from yet.")
                .hint("Let auto-train write some first; 50 make a good start."));
        }
        let request =
            TrainRequest { objective: Some(Objective::Sft), triggered_by: Some(triggered_by.to_owned()), ..TrainRequest::of(Recipe::Lora) };
        let (plan, mut dataset) = self.prepare_from(&request, texts, None)?;
        dataset.personal = Some(Personal { user_id: user.user_id, up_to: counts.up_to });
        self.queue_training(plan, &dataset, request.triggered_by)
    }
}

/// The name of the next personal adapter: `personal-me`, then `personal-me-2` and so on.
pub(crate) fn next_name(adapters: &[Adapter], user_id: &str) -> String {
    let name = base_name(user_id);
    match adapters.iter().filter(|one| is_personal(one, user_id)).count() {
        0 => name,
        others => format!("{name}-{}", others + 1),
    }
}

fn is_personal(adapter: &Adapter, user_id: &str) -> bool {
    let rest = adapter.name.strip_prefix(&base_name(user_id));
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok()))
}

fn base_name(user_id: &str) -> String {
    format!("personal-{user_id}")
}
