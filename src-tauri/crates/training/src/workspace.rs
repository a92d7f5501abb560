//! Buffers kept from one pass to the next: allocating them anew costs 7–13% of a step in page faults.

use kernels::train::{AttentionScratch, LossScratch, RopeTable};
use model::LlamaConfig;
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Tables of angles that are kept: with a dynamic rope every length has its own.
const ROPES: usize = 32;

/// Everything a pass through the base needs besides weights and batch. It serves one base.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) attention: AttentionScratch,
    pub(crate) loss: LossScratch,
    /// By target.
    pub(crate) losses: Vec<f64>,
    /// By what their angles depend on ([`LlamaConfig::rope_stretch`]).
    ropes: HashMap<usize, Arc<RopeTable>>,
    /// By columns: rows differ from batch to batch, so each kind of buffer grows to the largest batch and no further.
    free: HashMap<usize, Vec<Buffer>>,
}

/// A `[rows, columns]` matrix that goes back to its [`Workspace`].
#[derive(Debug)]
pub(crate) struct Buffer {
    columns: usize,
    /// What is in use, of `data`, which keeps its length: making it longer again would fill it.
    len: usize,
    data: Vec<f32>,
}

impl Workspace {
    /// A buffer whose content is whatever was there before: the taker overwrites all of it.
    pub(crate) fn take(&mut self, rows: usize, columns: usize) -> Buffer {
        let len = rows * columns;
        let free = self.free.get_mut(&columns).and_then(Vec::pop);
        let mut buffer = free.unwrap_or(Buffer { columns, len, data: Vec::new() });
        if buffer.data.len() < len {
            // Not grown in place: that would copy what nobody reads and reserve more than was estimated.
            drop(std::mem::take(&mut buffer.data));
            buffer.data = vec![0.0; len];
        }
        buffer.len = len;
        buffer
    }

    pub(crate) fn copy_of(&mut self, source: &Buffer) -> Buffer {
        let mut buffer = self.take(source.len() / source.columns, source.columns);
        copy(source, &mut buffer);
        buffer
    }

    pub(crate) fn give(&mut self, buffer: Buffer) {
        self.free.entry(buffer.columns).or_default().push(buffer);
    }

    /// The angles of a text of so many tokens, a soft prompt counted in.
    pub(crate) fn rope(&mut self, base: &LlamaConfig, tokens: usize) -> Arc<RopeTable> {
        let stretch = base.rope_stretch(tokens);
        if let Some(rope) = self.ropes.get(&stretch).filter(|rope| rope.positions() >= tokens) {
            return rope.clone();
        }
        if self.ropes.len() >= ROPES {
            self.ropes.retain(|_, rope| Arc::strong_count(rope) > 1);
        }
        let (frequencies, attention) = base.rope_frequencies(stretch);
        let rope = Arc::new(RopeTable::new(&frequencies, attention, base.head_dim, tokens.next_power_of_two()));
        self.ropes.insert(stretch, rope.clone());
        rope
    }
}

/// Numbers that one task copies or clears.
const PIECE: usize = 1 << 14;

/// Copies on all threads: one alone would keep the others waiting.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Zeros on all threads.
pub(crate) fn clear(values: &mut [f32]) {
    values.par_chunks_mut(PIECE).for_each(|piece| piece.fill(0.0));
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}
