//! Frozen bases in the trainer's own form.

use crate::App;
use domain::{ApiError, BaseId, BasePrecision};
use model::{BaseConfig, DenseT5};
use training::{PromptBase, Quantisation, TrainableLlama, TrainableT5};

/// What training differentiates through.
pub(crate) enum TrainableBase {
    Decoder(Box<TrainableLlama>),
    T5(Box<TrainableT5>),
}

impl TrainableBase {
    /// What a soft prompt can be trained on.
    pub fn prompt_base(&self) -> &dyn PromptBase {
        match self {
            Self::Decoder(base) => &**base,
            Self::T5(base) => &**base,
        }
    }

    /// What LoRA and DoRA can be trained on.
    ///
    /// # Errors
    /// `InvalidInput` for a T5.
    pub fn decoder(&self) -> Result<&TrainableLlama, ApiError> {
        match self {
            Self::Decoder(base) => Ok(base),
            Self::T5(_) => Err(only_soft_prompts()),
        }
    }

    pub fn config(&self) -> BaseConfig {
        match self {
            Self::Decoder(base) => BaseConfig::Decoder(base.config().clone()),
            Self::T5(base) => BaseConfig::T5(base.config().clone()),
        }
    }
}

impl App {
    /// The frozen weights of a base for training. They are not kept: only a training needs them.
    pub(crate) fn trainable(&self, id: &BaseId, precision: BasePrecision) -> Result<TrainableBase, ApiError> {
        let path = self.base_path(id)?;
        if self.base_config(id)?.is_t5() {
            return Ok(TrainableBase::T5(Box::new(TrainableT5::held(DenseT5::load(&path)?, quantisation(precision)))));
        }
        Ok(TrainableBase::Decoder(Box::new(TrainableLlama::load(&path, quantisation(precision))?)))
    }
}

pub(crate) fn quantisation(precision: BasePrecision) -> Option<Quantisation> {
    match precision {
        BasePrecision::Fp32 => None,
        BasePrecision::Bf16 | BasePrecision::Fp16 => Some(Quantisation::Bf16),
        BasePrecision::Int8 => Some(Quantisation::Int8),
        BasePrecision::Int4 => Some(Quantisation::Int4),
    }
}

/// The refusal of what cannot be trained on an encoder and a decoder.
pub(crate) fn only_soft_prompts() -> ApiError {
    ApiError::field("recipe", "On a T5 only soft prompts can be trained, no LoRA or DoRA.").hint("Choose a soft prompt, or another base.")
}
