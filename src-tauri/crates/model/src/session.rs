//! What a loaded base keeps between calls: prompts that it has read, and memory to work in.

use crate::adapted::{Applied, WeightedLora};
use crate::decoder::{Decoder, Item, Row, Workspace};
use crate::generate::Adapters;
use crate::linear::Machine;
use crate::{LlamaConfig, SoftPrompt};
use kernels::attention::KvSlot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Positions computed before the first look at the cancel flag: a tenth of a second for a base of a billion parameters.
const STRIDE: usize = 64;
/// The most between two looks: as many as the ones before took at this pace, since more rows at once read the weights less often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(120);
const LONGEST_STRIDE: usize = 512;
/// Rows of logits held at once.
const LOGITS: usize = 16;
/// Prompts that are remembered, beyond those in use; as many adapters are.
const REMEMBERED: usize = 4;

/// Caches and work space of one base.
pub(crate) struct Session {
    pub work: Workspace,
    prefixes: Vec<Prefix>,
    /// The cache of the prefix with the same index.
    pub prefix_slots: Vec<KvSlot>,
    /// The caches of candidates, each continuing a prefix.
    pub own: Vec<KvSlot>,
    /// The most recently used last.
    adapters: Vec<(WeightedLora, Arc<Applied>)>,
    calls: u64,
    /// Positions that are read at once.
    stride: usize,
}

/// What a prefix starts with, which must be equal for its cache to be of use.
#[derive(Clone, PartialEq)]
pub(crate) struct PrefixKey {
    soft_prompt: Option<Arc<SoftPrompt>>,
    strength: f32,
    lora: Option<WeightedLora>,
    /// Keys that were turned by other angles are of no use.
    stretch: usize,
}

struct Prefix {
    key: PrefixKey,
    /// Tokens whose keys and values are in the slot, behind the whole soft prompt; `None` while not even that is.
    tokens: Option<Vec<u32>>,
    /// Logits behind the last token, when they are known.
    logits: Vec<f32>,
    used: u64,
}

/// Positions from `first` on whose logits are wanted, one call of `take` each, in order.
pub(crate) struct Wanted<'a> {
    pub first: usize,
    pub take: &'a mut dyn FnMut(&[f32]),
}

impl PrefixKey {
    /// At strength 0 an adapter is left out, so that the plain base's prefix serves. `tokens` is the longest that the text can
    /// become, without a soft prompt.
    pub fn new(adapters: &Adapters, config: &LlamaConfig, tokens: usize) -> Self {
        let soft_prompt = adapters.soft_prompt.clone().filter(|_| adapters.strength > 0.0);
        let strength = if soft_prompt.is_some() { adapters.strength } else { 1.0 };
        let soft_tokens = soft_prompt.as_ref().map_or(0, |soft| soft.tokens);
        let stretch = config.rope_stretch(soft_tokens.saturating_add(tokens));
        Self { soft_prompt, strength, lora: adapters.lora.clone().filter(|lora| lora.strength > 0.0), stretch }
    }

    pub fn lora(&self) -> Option<&WeightedLora> {
        self.lora.as_ref()
    }

    /// What the angles of the text depend on.
    pub fn stretch(&self) -> usize {
        self.stretch
    }

    /// Positions that the soft prompt takes.
    pub fn soft_tokens(&self) -> usize {
        self.soft_prompt.as_ref().map_or(0, |soft| soft.tokens)
    }

    /// The strength as a term on attention scores.
    pub fn log_weight(&self) -> f32 {
        self.strength.ln()
    }
}

impl Session {
    pub fn new() -> Self {
        let (prefixes, prefix_slots, own) = (Vec::new(), Vec::new(), Vec::new());
        Self { work: Workspace::new(), prefixes, prefix_slots, own, adapters: Vec::new(), calls: 0, stride: STRIDE }
    }

    pub fn bytes(&self) -> usize {
        let slots = self.prefix_slots.iter().chain(&self.own).map(KvSlot::bytes).sum::<usize>();
        let adapters = self.adapters.iter().map(|(_, applied)| applied.bytes()).sum::<usize>();
        slots + adapters + self.work.bytes() + self.prefixes.iter().map(|prefix| 4 * prefix.logits.len()).sum::<usize>()
    }

    /// Logits behind the last token of a prefix that [`Session::prefill`] completed.
    pub fn logits(&self, prefix: usize) -> &[f32] {
        &self.prefixes[prefix].logits
    }

    /// An adapter in the form that the decoder takes, made at its first use.
    pub fn applied(&mut self, decoder: &Decoder, machine: &Machine, wanted: &WeightedLora) -> Arc<Applied> {
        let known = self.adapters.iter().position(|(known, _)| known == wanted).map(|index| self.adapters.remove(index));
        let (key, applied) = known.unwrap_or_else(|| (wanted.clone(), Arc::new(decoder.applied(machine, wanted))));
        if self.adapters.len() >= REMEMBERED {
            self.adapters.remove(0);
        }
        self.adapters.push((key, applied.clone()));
        applied
    }

    /// Makes room for `count` candidates of up to `length` tokens.
    pub fn reserve(&mut self, decoder: &Decoder, count: usize, length: usize) {
        // Any, not the first: a short request with many candidates leaves short slots behind the long ones.
        if self.own.iter().any(|slot| slot.capacity() < length) {
            self.own.clear();
        }
        while self.own.len() < count {
            self.own.push(decoder.slot(length));
        }
    }

    /// Reads a prefix into a slot, from the first position that is not there yet; returns its index, or `None` if cancelled.
    ///
    /// `in_use` are prefixes that must stay. The last position's logits are kept.
    pub fn prefill(
        &mut self,
        decoder: &Decoder,
        machine: &Machine,
        key: PrefixKey,
        tokens: &[u32],
        in_use: &[usize],
        cancel: &AtomicBool,
        mut wanted: Wanted,
    ) -> Option<usize> {
        let soft = key.soft_prompt.clone();
        let (soft_tokens, log_weight, stretch) = (key.soft_tokens(), key.log_weight(), key.stretch());
        let total = soft_tokens + tokens.len();
        let adapters: Vec<Arc<Applied>> = key.lora().map(|lora| self.applied(decoder, machine, lora)).into_iter().collect();
        let adapter = (!adapters.is_empty()).then_some(0);
        let index = self.place(decoder, key, tokens, total, in_use);
        let common = self.prefixes[index].tokens.as_ref().map(|kept| common_start(kept, tokens));
        let prefix = &mut self.prefixes[index];
        if common == Some(tokens.len()) && prefix.tokens.as_ref().is_some_and(|kept| kept.len() == tokens.len()) {
            // *Again*: nothing to read, if only the end is wanted and known.
            if wanted.first + 1 == total && !prefix.logits.is_empty() {
                (wanted.take)(&prefix.logits);
                return Some(index);
            }
        }
        let known = common.map_or(0, |common| soft_tokens + common);
        let mut next = known.min(wanted.first);
        prefix.logits.clear();
        let mut stride = self.stride;
        while next < total {
            if cancel.load(Ordering::Relaxed) {
                self.forget_beyond(index, soft_tokens, tokens, next);
                return None;
            }
            let (start, end) = (Instant::now(), total.min(next + stride));
            let row = |position: usize| {
                let item = match (&soft, position.checked_sub(soft_tokens)) {
                    (_, Some(token)) => Item::Token(tokens[token]),
                    (Some(soft), None) => Item::Vector(&soft.vectors[position * soft.hidden..][..soft.hidden]),
                    // Without a soft prompt no position lies before the tokens.
                    (None, None) => Item::Token(0),
                };
                Row { item, position, prefix: index, own: None, weighted: soft_tokens, log_weight, adapter, stretch }
            };
            let rows: Vec<Row> = (next..end).map(row).collect();
            decoder.forward(machine, &mut self.work, &mut self.prefix_slots, &mut [], &adapters, &rows);
            let with_logits: Vec<usize> = (next.max(wanted.first)..end).map(|position| position - next).collect();
            for some in with_logits.chunks(LOGITS) {
                decoder.logits(machine, &mut self.work, some);
                self.work.logits.chunks_exact(decoder.config.vocab).for_each(&mut wanted.take);
            }
            // What is short of a whole stride says little about a long one.
            if end - next == stride {
                let fitting = stride as f64 * BETWEEN_LOOKS.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-6);
                stride = (fitting as usize / STRIDE * STRIDE).clamp(STRIDE, LONGEST_STRIDE);
            }
            next = end;
        }
        self.stride = stride;
        self.prefixes[index].logits.extend_from_slice(match self.work.logits.chunks_exact(decoder.config.vocab).last() {
            Some(last) => last,
            None => &[],
        });
        self.forget_beyond(index, soft_tokens, tokens, total);
        Some(index)
    }

    /// Notes that exactly the positions before `end` are in the slot.
    fn forget_beyond(&mut self, index: usize, soft_tokens: usize, tokens: &[u32], end: usize) {
        self.prefixes[index].tokens = end.checked_sub(soft_tokens).map(|count| tokens[..count].to_vec());
    }

    /// The slot with the most to reuse, or a new or the longest unused one.
    fn place(&mut self, decoder: &Decoder, key: PrefixKey, tokens: &[u32], total: usize, in_use: &[usize]) -> usize {
        self.calls += 1;
        let shared = |prefix: &Prefix| prefix.tokens.as_ref().map_or(0, |kept| common_start(kept, tokens));
        let fits = |index: &usize| self.prefix_slots[*index].capacity() >= total;
        // A prompt that shares only its first words gets a place of its own, so that going back to the other costs nothing.
        let worthwhile = |index: &usize| {
            let prefix = &self.prefixes[*index];
            prefix.tokens.as_ref().is_none_or(|kept| 2 * shared(prefix) >= kept.len())
        };
        let same = (0..self.prefixes.len()).filter(|index| self.prefixes[*index].key == key && !in_use.contains(index));
        let best = same.filter(fits).filter(worthwhile).max_by_key(|index| shared(&self.prefixes[*index]));
        if let Some(index) = best {
            self.prefixes[index].used = self.calls;
            return index;
        }
        let fresh = Prefix { key, tokens: None, logits: Vec::new(), used: self.calls };
        let slot = decoder.slot(total.next_multiple_of(256));
        let oldest = (0..self.prefixes.len()).filter(|index| !in_use.contains(index)).min_by_key(|index| self.prefixes[*index].used);
        match oldest.filter(|_| self.prefixes.len() >= REMEMBERED) {
            Some(index) => {
                (self.prefixes[index], self.prefix_slots[index]) = (fresh, slot);
                index
            }
            None => {
                self.prefixes.push(fresh);
                self.prefix_slots.push(slot);
                self.prefixes.len() - 1
            }
        }
    }
}

/// Number of tokens that two texts start with in common.
fn common_start(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
