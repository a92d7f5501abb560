//! One layer of a frozen Llama stack: forward, and the hand-derived way back.

use crate::llama::Adapted;
use crate::low_rank::{LowRank, Site};
use crate::workspace::{Buffer, copy};
use crate::{PackedBatch, TrainableLlama, Workspace};
use kernels::train::{RopeTable, Store, add_bias, gated_silu, gated_silu_backward, rms_norm, rms_norm_backward, subtract_bias};
use model::LlamaConfig;
use std::sync::Arc;

/// What a layer's backward pass needs. With frozen weights neither the attention's output nor the activation is among it.
pub(crate) struct Kept {
    /// `[rows, hidden]`.
    pub input: Buffer,
    /// The rest, or nothing where it is computed again.
    pub inner: Option<Inner>,
}

pub(crate) struct Inner {
    /// `[rows, query_width + 2 · kv_width]`.
    qkv: Buffer,
    /// `[rows, hidden]`, between attention and MLP.
    middle: Buffer,
    /// `[rows, 2 · intermediate]`.
    gate_up: Buffer,
    low_rank: Option<KeptLowRank>,
}

/// What the gradients of an adapter need besides.
struct KeptLowRank {
    /// `[rows, query_width]`.
    attended: Buffer,
    /// What [`LowRank::forward`] returned, by [`Site`].
    low: [Option<Buffer>; 4],
    /// With DoRA, what was added after attention and after the MLP, `[rows, hidden]`.
    attention_output: Option<Buffer>,
    mlp_output: Option<Buffer>,
}

impl TrainableLlama {
    pub(crate) fn layer_forward(
        &self,
        index: usize,
        input: &Buffer,
        low_rank: Option<LowRank>,
        batch: &PackedBatch,
        ropes: &[Arc<RopeTable>],
        workspace: &mut Workspace,
    ) -> (Buffer, Inner) {
        let layer = self.layer(index);
        let LlamaConfig { hidden, intermediate, rms_eps, .. } = *self.config();
        let (rows, queries) = (batch.rows(), self.config().query_width());
        let attention = self.attention(index, ropes);
        let fused = attention.fused_width();

        let mut normed = workspace.take(rows, hidden);
        rms_norm(input, &layer.attention_norm, rms_eps, &mut normed);
        let mut qkv = workspace.take(rows, fused);
        layer.qkv.forward(&mut qkv, &normed, Store::Replace);
        let low_qkv = low_rank.and_then(|low_rank| low_rank.forward(index, Site::Qkv, &normed, &mut qkv, workspace));
        // After the adapter: DoRA scales what the weights make, not the bias.
        if !layer.qkv_bias.is_empty() {
            add_bias(&mut qkv, &layer.qkv_bias);
        }
        let mut attended = workspace.take(rows, queries);
        attention.forward(&qkv, &batch.packing, &mut workspace.attention, &mut attended);
        let (middle, low_output, attention_output) = self.add_projection(index, Site::Output, input, &attended, low_rank, workspace);

        rms_norm(&middle, &layer.mlp_norm, rms_eps, &mut normed);
        let mut gate_up = workspace.take(rows, 2 * intermediate);
        layer.gate_up.forward(&mut gate_up, &normed, Store::Replace);
        let low_gate_up = low_rank.and_then(|low_rank| low_rank.forward(index, Site::GateUp, &normed, &mut gate_up, workspace));
        workspace.give(normed);
        let mut active = workspace.take(rows, intermediate);
        gated_silu(&gate_up, intermediate, &mut active);
        let (output, low_down, mlp_output) = self.add_projection(index, Site::Down, &middle, &active, low_rank, workspace);
        workspace.give(active);

        let low = [low_qkv, low_output, low_gate_up, low_down];
        let low_rank = if low_rank.is_some() {
            Some(KeptLowRank { attended, low, attention_output, mlp_output })
        } else {
            workspace.give(attended);
            None
        };
        (output, Inner { qkv, middle, gate_up, low_rank })
    }

    /// `residual + projection(x)`; then what the way back needs: `u` of the adapter, and with DoRA the projection alone.
    fn add_projection(
        &self,
        index: usize,
        site: Site,
        residual: &Buffer,
        x: &Buffer,
        low_rank: Option<LowRank>,
        workspace: &mut Workspace,
    ) -> (Buffer, Option<Buffer>, Option<Buffer>) {
        let (weight, hidden) = (self.matrix(index, site), self.config().hidden);
        let rows = residual.len() / hidden;
        let mut sum = workspace.copy_of(residual);
        match low_rank {
            Some(low_rank) if low_rank.scales(index, site) => {
                let mut alone = workspace.take(rows, hidden);
                weight.forward(&mut alone, x, Store::Replace);
                let low = low_rank.forward(index, site, x, &mut alone, workspace);
                sum.iter_mut().zip(alone.iter()).for_each(|(sum, alone)| *sum += alone);
                (sum, low, Some(alone))
            }
            _ => {
                weight.forward(&mut sum, x, Store::Add);
                let low = low_rank.and_then(|low_rank| low_rank.forward(index, site, x, &mut sum, workspace));
                (sum, low, None)
            }
        }
    }

    /// Turns `dx`, the gradient of a layer's output, into that of its input (of the first layer, only where it is asked for).
    pub(crate) fn layer_backward(
        &self,
        index: usize,
        kept: Kept,
        mut adapted: Option<&mut Adapted>,
        batch: &PackedBatch,
        ropes: &[Arc<RopeTable>],
        workspace: &mut Workspace,
        dx: &mut [f32],
    ) {
        let layer = self.layer(index);
        let LlamaConfig { hidden, intermediate, rms_eps, .. } = *self.config();
        let (rows, queries) = (batch.rows(), self.config().query_width());
        let attention = self.attention(index, ropes);
        let fused = attention.fused_width();
        let Inner { mut qkv, middle, mut gate_up, low_rank } = match kept.inner {
            Some(inner) => inner,
            None => {
                let low_rank = adapted.as_ref().map(|adapted| adapted.low_rank);
                let (output, inner) = self.layer_forward(index, &kept.input, low_rank, batch, ropes, workspace);
                workspace.give(output);
                inner
            }
        };
        let (attended, [low_qkv, low_output, low_gate_up, low_down], attention_output, mlp_output) = match low_rank {
            Some(KeptLowRank { attended, low, attention_output, mlp_output }) => (Some(attended), low, attention_output, mlp_output),
            None => (None, [const { None }; 4], None, None),
        };

        let mut dactive = workspace.take(rows, intermediate);
        let active = low_down.as_ref().map(|_| {
            let mut active = workspace.take(rows, intermediate);
            gated_silu(&gate_up, intermediate, &mut active);
            active
        });
        self.add_projection_backward(index, Site::Down, adapted.as_deref_mut(), active, low_down, mlp_output, dx, &mut dactive, workspace);
        let gate_up_was = adapted.as_ref().filter(|a| a.low_rank.scales(index, Site::GateUp)).map(|_| workspace.copy_of(&gate_up));
        gated_silu_backward(&mut gate_up, intermediate, &dactive);
        workspace.give(dactive);
        let mut dnormed = workspace.take(rows, hidden);
        let norm = (&middle, &layer.mlp_norm[..]);
        self.fused_backward(
            index,
            Site::GateUp,
            adapted.as_deref_mut(),
            norm,
            low_gate_up,
            gate_up_was,
            &mut gate_up,
            Some(&mut dnormed),
            workspace,
        );
        workspace.give(gate_up);
        rms_norm_backward(&middle, &layer.mlp_norm, rms_eps, &dnormed, dx);
        workspace.give(middle);

        let mut dattended = workspace.take(rows, queries);
        self.add_projection_backward(
            index,
            Site::Output,
            adapted.as_deref_mut(),
            attended,
            low_output,
            attention_output,
            dx,
            &mut dattended,
            workspace,
        );
        let mut dqkv = workspace.take(rows, fused);
        attention.backward(&qkv, &batch.packing, &dattended, &mut workspace.attention, &mut dqkv);
        workspace.give(dattended);
        if !layer.qkv_bias.is_empty() && adapted.as_ref().is_some_and(|adapted| adapted.low_rank.scales(index, Site::Qkv)) {
            subtract_bias(&mut qkv, &layer.qkv_bias);
        }
        // Below the first layer there is nothing to train but a soft prompt.
        let ends_here = index == 0 && batch.virtual_tokens == 0;
        let norm = (&kept.input, &layer.attention_norm[..]);
        let wanted = if ends_here { None } else { Some(&mut dnormed[..]) };
        self.fused_backward(index, Site::Qkv, adapted, norm, low_qkv, Some(qkv), &mut dqkv, wanted, workspace);
        workspace.give(dqkv);
        if !ends_here {
            rms_norm_backward(&kept.input, &layer.attention_norm, rms_eps, &dnormed, dx);
        }
        workspace.give(dnormed);
        workspace.give(kept.input);
    }

    /// Back through [`Self::add_projection`] (but its residual): writes `dx`, given `dy`, and adds to the adapter's gradient.
    ///
    /// `x` is its input, there if the site has an adapter; `low` and `alone` are what it returned.
    fn add_projection_backward(
        &self,
        index: usize,
        site: Site,
        adapted: Option<&mut Adapted>,
        x: Option<Buffer>,
        low: Option<Buffer>,
        alone: Option<Buffer>,
        dy: &[f32],
        dx: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let (weight, hidden) = (self.matrix(index, site), self.config().hidden);
        if let (Some(Adapted { low_rank, gradient }), Some(x), Some(low)) = (adapted, &x, &low) {
            let mut scaled = None;
            if let Some(alone) = &alone {
                // The residual needs `dy` as it is.
                let mut apart = workspace.take(dy.len() / hidden, hidden);
                copy(dy, &mut apart);
                low_rank.unscale(index, site, alone, &mut apart, gradient);
                scaled = Some(apart);
            }
            let dy = scaled.as_deref().unwrap_or(dy);
            weight.backward(dx, dy, Store::Replace);
            low_rank.backward(index, site, x, low, dy, gradient, Some(dx), workspace);
            scaled.into_iter().for_each(|buffer| workspace.give(buffer));
        } else {
            weight.backward(dx, dy, Store::Replace);
        }
        [x, low, alone].into_iter().flatten().for_each(|buffer| workspace.give(buffer));
    }

    /// Back through projections of `norm = (input, gain)`: writes `dnormed` where it is wanted, given `dy` (which DoRA scales),
    /// and adds to the adapter's gradient. `low` is its `u`, `y` its output, there at least if the site has a DoRA.
    fn fused_backward(
        &self,
        index: usize,
        site: Site,
        adapted: Option<&mut Adapted>,
        norm: (&Buffer, &[f32]),
        low: Option<Buffer>,
        y: Option<Buffer>,
        dy: &mut [f32],
        mut dnormed: Option<&mut [f32]>,
        workspace: &mut Workspace,
    ) {
        let (weight, hidden) = (self.matrix(index, site), self.config().hidden);
        let outputs = weight.outputs();
        let adapted = adapted.zip(low.as_ref());
        let mut then = None;
        if let Some((Adapted { low_rank, gradient }, low)) = adapted {
            if let Some(y) = &y {
                low_rank.unscale(index, site, y, dy, gradient);
            }
            then = Some((low_rank, gradient, low));
        }
        if let Some(dnormed) = dnormed.as_deref_mut() {
            weight.backward(dnormed, dy, Store::Replace);
        }
        if let Some((low_rank, gradient, low)) = then {
            let (input, gain) = norm;
            let mut normed = workspace.take(dy.len() / outputs, hidden);
            rms_norm(input, gain, self.config().rms_eps, &mut normed);
            low_rank.backward(index, site, &normed, low, dy, gradient, dnormed, workspace);
            workspace.give(normed);
        }
        [low, y].into_iter().flatten().for_each(|buffer| workspace.give(buffer));
    }
}

impl Inner {
    pub fn give_to(self, workspace: &mut Workspace) {
        let Self { qkv, middle, gate_up, low_rank } = self;
        [qkv, middle, gate_up].into_iter().for_each(|buffer| workspace.give(buffer));
        if let Some(KeptLowRank { attended, low, attention_output, mlp_output }) = low_rank {
            let some = low.into_iter().chain([Some(attended), attention_output, mlp_output]);
            some.flatten().for_each(|buffer| workspace.give(buffer));
        }
    }
}
