//! What recipes and objectives know of a base: a function of one flat vector of weights, and its gradient.
//!
//! A base of another family can be trained by the same recipes once it has these two traits.

use crate::batch::rows_of;
use crate::data::fault;
use crate::llama::Adapted;
use crate::low_rank::{Dropout, LowRank};
use crate::seed::{DROPOUT, Draws};
use crate::{Control, Example, LoraLayout, PackedBatch, Stop, TrainableLlama, Workspace};

/// From the log-probability of each text's answer to the derivative of the loss by it.
pub type Slopes<'a> = &'a mut dyn FnMut(&[f64]) -> Vec<f64>;

/// A frozen base with something trained beside it.
pub trait Tuned: Sync {
    /// Why a text cannot be learned from, if so.
    fn fault(&self, text: &Example) -> Option<String>;

    /// Rows that a text takes on its way through the base.
    fn rows(&self, text: &Example) -> usize;

    /// Log-probability of each text's answer (its tokens' sum); without `weights`, of the bare base.
    ///
    /// # Errors
    /// The stop asked for through `control`, which is looked at between layers.
    fn log_probabilities(
        &self,
        weights: Option<&[f32]>,
        texts: &[&Example],
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop>;

    /// Adds to `gradient` that of a loss with these `slopes`. `pass` tells apart what is drawn at random in each pass of a run.
    ///
    /// # Errors
    /// The stop asked for; `gradient` is then unusable.
    fn gradient(
        &self,
        weights: &[f32],
        texts: &[&Example],
        pass: u64,
        slopes: Slopes,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop>;
}

/// A base that can be differentiated by vectors before its text.
pub trait PromptBase: Sync {
    /// SHA-256 over shape and weights, in hexadecimal.
    fn identity(&self) -> &str;
    /// Numbers of a vector.
    fn hidden(&self) -> usize;
    fn vocab(&self) -> usize;
    /// The longest text, soft prompt included.
    fn context(&self) -> usize;
    /// The embedding of a token of the vocabulary, `[hidden]`.
    fn embedding_of(&self, token: u32) -> &[f32];
    /// Weights are the vectors, `[virtual_tokens, hidden]`.
    fn with_prompt(&self, virtual_tokens: usize, recompute: bool) -> Box<dyn Tuned + '_>;
}

impl PromptBase for TrainableLlama {
    fn identity(&self) -> &str {
        self.identity()
    }

    fn hidden(&self) -> usize {
        self.config().hidden
    }

    fn vocab(&self) -> usize {
        self.config().vocab
    }

    fn context(&self) -> usize {
        self.config().context
    }

    fn embedding_of(&self, token: u32) -> &[f32] {
        self.embedding_of(token)
    }

    fn with_prompt(&self, virtual_tokens: usize, recompute: bool) -> Box<dyn Tuned + '_> {
        Box::new(PromptedLlama { base: self, virtual_tokens, recompute })
    }
}

/// A Llama base behind a soft prompt.
struct PromptedLlama<'a> {
    base: &'a TrainableLlama,
    virtual_tokens: usize,
    recompute: bool,
}

impl Tuned for PromptedLlama<'_> {
    fn fault(&self, text: &Example) -> Option<String> {
        fault(text, self.base.config(), self.virtual_tokens)
    }

    fn rows(&self, text: &Example) -> usize {
        rows_of(text, self.virtual_tokens)
    }

    fn log_probabilities(
        &self,
        weights: Option<&[f32]>,
        texts: &[&Example],
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop> {
        let virtual_tokens = if weights.is_some() { self.virtual_tokens } else { 0 };
        let batch = PackedBatch::new(texts.iter().copied(), virtual_tokens);
        self.base.answers(weights.unwrap_or_default(), None, &batch, workspace, control)
    }

    fn gradient(
        &self,
        weights: &[f32],
        texts: &[&Example],
        _pass: u64,
        slopes: Slopes,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let batch = PackedBatch::new(texts.iter().copied(), self.virtual_tokens);
        self.base.pass_and_back(weights, None, &batch, slopes, self.recompute, workspace, control, gradient)
    }
}

/// A Llama base with a LoRA or DoRA.
pub(crate) struct AdaptedLlama<'a> {
    pub base: &'a TrainableLlama,
    pub layout: &'a LoraLayout,
    pub dropout: f32,
    pub seed: u64,
    pub recompute: bool,
}

impl Tuned for AdaptedLlama<'_> {
    fn fault(&self, text: &Example) -> Option<String> {
        fault(text, self.base.config(), 0)
    }

    fn rows(&self, text: &Example) -> usize {
        rows_of(text, 0)
    }

    fn log_probabilities(
        &self,
        weights: Option<&[f32]>,
        texts: &[&Example],
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop> {
        let batch = PackedBatch::new(texts.iter().copied(), 0);
        self.base.log_probabilities(weights.map(|weights| (self.layout, weights)), &batch, workspace, control)
    }

    fn gradient(
        &self,
        weights: &[f32],
        texts: &[&Example],
        pass: u64,
        slopes: Slopes,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let batch = PackedBatch::new(texts.iter().copied(), 0);
        let key = Draws::new(self.seed ^ DROPOUT, pass).next();
        let dropout = (self.dropout > 0.0).then_some(Dropout { share: self.dropout, key });
        self.base.lora_gradient(self.layout, weights, dropout, &batch, slopes, self.recompute, workspace, control, gradient)
    }
}

impl TrainableLlama {
    /// The weights that a LoRA or DoRA begins with: it changes nothing yet.
    pub fn initial_lora(&self, layout: &LoraLayout, seed: u64) -> Vec<f32> {
        layout.initial(seed, self)
    }

    /// [`Self::loss`] with a LoRA or DoRA whose weights are `weights`, in the order of `layout`.
    ///
    /// # Errors
    /// As [`Self::loss`].
    pub fn lora_loss(
        &self,
        layout: &LoraLayout,
        weights: &[f32],
        batch: &PackedBatch,
        normalizer: f64,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<f64, Stop> {
        Ok(batch.loss(&self.log_probabilities(Some((layout, weights)), batch, workspace, control)?, normalizer))
    }

    /// [`Self::lora_loss`], adding its gradient by `weights` to `gradient` (same order).
    ///
    /// # Errors
    /// The stop asked for; `gradient` is then unusable.
    pub fn lora_loss_and_gradient(
        &self,
        layout: &LoraLayout,
        weights: &[f32],
        dropout: Option<Dropout>,
        batch: &PackedBatch,
        normalizer: f64,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<f64, Stop> {
        let mut loss = 0.0;
        let mut slopes = |found: &[f64]| {
            loss = batch.loss(found, normalizer);
            batch.slopes(normalizer)
        };
        self.lora_gradient(layout, weights, dropout, batch, &mut slopes, recompute, workspace, control, gradient)?;
        Ok(loss)
    }

    /// Log-probability of each answer of `batch`, with an adapter or on the bare base.
    ///
    /// # Errors
    /// As [`Self::loss`].
    pub fn log_probabilities(
        &self,
        adapter: Option<(&LoraLayout, &[f32])>,
        batch: &PackedBatch,
        workspace: &mut Workspace,
        control: &Control,
    ) -> Result<Vec<f64>, Stop> {
        let norms = adapter.map(|(layout, weights)| layout.norms(weights, self)).unwrap_or_default();
        let low_rank = adapter.map(|(layout, weights)| LowRank { layout, weights, norms: &norms, dropout: None });
        self.answers(&[], low_rank, batch, workspace, control)
    }

    fn lora_gradient(
        &self,
        layout: &LoraLayout,
        weights: &[f32],
        dropout: Option<Dropout>,
        batch: &PackedBatch,
        slopes: Slopes,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let norms = layout.norms(weights, self);
        let adapted = Adapted { low_rank: LowRank { layout, weights, norms: &norms, dropout }, gradient };
        self.pass_and_back(&[], Some(adapted), batch, slopes, recompute, workspace, control, &mut [])
    }
}
