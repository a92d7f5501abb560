//! A frozen Llama stack with a LoRA or DoRA, differentiated by the adapter's weights.

use crate::llama::{Adapted, Weigh};
use crate::low_rank::LowRank;
use crate::{Control, LoraLayout, PackedBatch, Stop, TrainableLlama, Workspace};

impl TrainableLlama {
    /// The weights that a LoRA or DoRA begins with: it changes nothing yet.
    pub fn initial_lora(&self, layout: &LoraLayout, seed: u64) -> Vec<f32> {
        layout.initial(seed, &|layer, site| self.matrix(layer, site).to_vec())
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
        let norms = self.norms(layout, weights);
        let hidden = self.pass(&[], Some(LowRank { layout, weights, norms: &norms }), batch, workspace, control)?;
        Ok(self.head_loss(hidden, &batch.targets, normalizer, workspace))
    }

    /// [`Self::lora_loss`], adding its gradient by `weights` to `gradient` (same order).
    ///
    /// # Errors
    /// The stop asked for; `gradient` is then unusable.
    pub fn lora_loss_and_gradient(
        &self,
        layout: &LoraLayout,
        weights: &[f32],
        batch: &PackedBatch,
        normalizer: f64,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<f64, Stop> {
        let norms = self.norms(layout, weights);
        let adapted = Adapted { low_rank: LowRank { layout, weights, norms: &norms }, gradient };
        self.pass_and_back(&[], Some(adapted), batch, normalizer, None, recompute, workspace, control, &mut [])
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
        let norms = adapter.map(|(layout, weights)| self.norms(layout, weights)).unwrap_or_default();
        let low_rank = adapter.map(|(layout, weights)| LowRank { layout, weights, norms: &norms });
        let hidden = self.pass(&[], low_rank, batch, workspace, control)?;
        let sums = self.sequence_log_probabilities(&hidden, batch, workspace);
        workspace.give(hidden);
        Ok(sums)
    }

    /// Adds to `gradient` that of `−Σ wᵢ · log p(answerᵢ)`, with the weights that `weigh` gives for the log-probabilities.
    ///
    /// # Errors
    /// The stop asked for; `gradient` is then unusable.
    pub(crate) fn weighed_gradient(
        &self,
        layout: &LoraLayout,
        weights: &[f32],
        batch: &PackedBatch,
        weigh: Weigh,
        recompute: bool,
        workspace: &mut Workspace,
        control: &Control,
        gradient: &mut [f32],
    ) -> Result<(), Stop> {
        let norms = self.norms(layout, weights);
        let adapted = Adapted { low_rank: LowRank { layout, weights, norms: &norms }, gradient };
        self.pass_and_back(&[], Some(adapted), batch, 1.0, Some(weigh), recompute, workspace, control, &mut []).map(drop)
    }

    fn norms(&self, layout: &LoraLayout, weights: &[f32]) -> Vec<f32> {
        layout.norms(weights, &|layer, site| self.matrix(layer, site).to_vec())
    }
}
