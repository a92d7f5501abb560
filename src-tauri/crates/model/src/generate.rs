//! Writing n candidates at once.

use crate::adapted::{Applied, WeightedLora};
use crate::decoder::{Decoder, Item, Row};
use crate::guidance::{Guidance, Guide};
use crate::linear::Machine;
use crate::sampler::{Draw, Drawn};
use crate::session::{PrefixKey, Session, Wanted};
use crate::{LlamaConfig, ModelError, Sampler, SoftPrompt, TextStream, Tokenizer};
use domain::FinishReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most candidates in one batch.
const MAX_MEMBERS: usize = 256;

/// What to write.
#[derive(Debug, Clone)]
pub struct Generate {
    pub prompt: Vec<u32>,
    /// Tokens at the prompt's end that are text already, which the new text continues; 0 for a new one. The repetition penalty
    /// counts them as used. What stands before them says what to write about, and a text shall use those words: with a penalty of
    /// 1.1 on them too, as in transformers, the built-in base used a third of a prompt's nouns instead of half.
    pub written: usize,
    /// One candidate each.
    pub members: Vec<MemberSpec>,
    /// Longest text in tokens; the context may end it earlier.
    pub max_tokens: usize,
    /// Tokens that end a text and are not part of it.
    pub stop: Vec<u32>,
    /// Texts that end a text and are not part of it, also where they are spread over several tokens.
    pub stop_texts: Vec<String>,
    /// Other prompts that the choice of tokens is led by; none by default.
    pub guidance: Guidance,
}

/// Who writes a candidate. Members with the same adapters and strengths share the reading of the prompt.
#[derive(Debug, Clone)]
pub struct MemberSpec {
    pub sampler: Sampler,
    pub soft_prompt: Option<Arc<SoftPrompt>>,
    /// How much attention the text pays to the soft prompt: its softmax weights are multiplied by this before they are
    /// normalised. 0 is exactly the plain base, 1 exactly the soft prompt as trained, more pushes beyond. (Scaling the vectors
    /// themselves would do little: the first norm of every layer takes their length away.)
    pub strength: f32,
    pub lora: Option<WeightedLora>,
}

impl MemberSpec {
    /// The plain base.
    pub fn plain(sampler: Sampler) -> Self {
        Self::with(sampler, Adapters::default())
    }

    /// The base with these adapters.
    pub fn with(sampler: Sampler, adapters: Adapters) -> Self {
        let Adapters { soft_prompt, strength, lora } = adapters;
        Self { sampler, soft_prompt, strength, lora }
    }

    pub(crate) fn adapters(&self) -> Adapters {
        Adapters { soft_prompt: self.soft_prompt.clone(), strength: self.strength, lora: self.lora.clone() }
    }
}

/// What is added to a base; nothing by default.
#[derive(Debug, Clone)]
pub struct Adapters {
    pub soft_prompt: Option<Arc<SoftPrompt>>,
    /// Of the soft prompt; see [`MemberSpec::strength`].
    pub strength: f32,
    pub lora: Option<WeightedLora>,
}

impl Default for Adapters {
    fn default() -> Self {
        Self { soft_prompt: None, strength: 1.0, lora: None }
    }
}

impl Adapters {
    pub(crate) fn check(&self, config: &LlamaConfig) -> Result<(), ModelError> {
        let strengths = [Some(self.strength), self.lora.as_ref().map(|lora| lora.strength)];
        if !strengths.into_iter().flatten().all(|strength| strength.is_finite() && strength >= 0.0) {
            return Err(ModelError::InvalidRequest { reason: "a strength must be 0 or more" });
        }
        self.lora.as_ref().map_or(Ok(()), |weighted| weighted.lora.check(config))
    }
}

/// A token that was just drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenEvent<'a> {
    /// Index of the member.
    pub candidate: usize,
    pub token: u32,
    /// Text that is complete now; empty while a character is still in pieces.
    pub text: &'a str,
}

/// A candidate's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    pub text: String,
    /// Without the stop token; with a stop text, those that the text before it needs.
    pub token_ids: Vec<u32>,
    /// Of each token under the model alone: temperature 1, no penalty, nothing cut off.
    pub logprobs: Vec<f32>,
    pub finish: FinishReason,
}

impl Completion {
    pub(crate) fn cancelled() -> Self {
        Self { text: String::new(), token_ids: Vec::new(), logprobs: Vec::new(), finish: FinishReason::Cancelled }
    }
}

impl Generate {
    /// The prompts that guide, where they do anything.
    fn guides(&self) -> impl Iterator<Item = &Guide> {
        self.guidance.beside(&self.prompt)
    }

    pub(crate) fn check(&self, config: &LlamaConfig) -> Result<(), ModelError> {
        if self.members.is_empty() || self.members.len() > MAX_MEMBERS {
            return Err(ModelError::InvalidRequest { reason: "it must have 1 to 256 members" });
        }
        for member in &self.members {
            if !member.sampler.is_valid() {
                return Err(ModelError::InvalidRequest { reason: "a sampler's setting is out of range" });
            }
            member.adapters().check(config)?;
            let soft_prompt = member.soft_prompt.as_deref();
            for prompt in std::iter::once(&self.prompt).chain(self.guides().map(|guide| &guide.prompt)) {
                // One more than the prompt: there must be room for a token.
                let needed = prompt.len() + soft_prompt.map_or(0, |soft| soft.tokens) + 1;
                check_prompt(config, soft_prompt, prompt, needed)?;
            }
        }
        if !self.guides().all(Guide::is_valid) {
            return Err(ModelError::InvalidRequest { reason: "the weight of a guiding prompt must be -10 to 10" });
        }
        if !(0.0..=1.0).contains(&self.guidance.plausible) {
            return Err(ModelError::InvalidRequest { reason: "the share that makes a token plausible must be 0 to 1" });
        }
        Ok(())
    }
}

/// Checks what a text starts with, and that `needed` positions are there.
pub(crate) fn check_prompt(
    config: &LlamaConfig,
    soft_prompt: Option<&SoftPrompt>,
    prompt: &[u32],
    needed: usize,
) -> Result<(), ModelError> {
    if let Some(soft) = soft_prompt {
        if soft.hidden != config.hidden {
            return Err(ModelError::SoftPromptWidth { found: soft.hidden, expected: config.hidden });
        }
        if soft.tokens == 0 || soft.vectors.len() != soft.tokens * soft.hidden || !soft.vectors.iter().all(|x| x.is_finite()) {
            return Err(ModelError::InvalidRequest { reason: "the soft prompt's vectors are not as many as it claims, or not finite" });
        }
    }
    if prompt.is_empty() {
        return Err(ModelError::InvalidRequest { reason: "the prompt has no tokens" });
    }
    check_tokens(config, prompt)?;
    if needed > config.context {
        return Err(ModelError::ContextExceeded { needed, context: config.context });
    }
    Ok(())
}

pub(crate) fn check_tokens(config: &LlamaConfig, tokens: &[u32]) -> Result<(), ModelError> {
    match tokens.iter().all(|token| (*token as usize) < config.vocab) {
        true => Ok(()),
        false => Err(ModelError::InvalidRequest { reason: "it holds tokens that the base does not know" }),
    }
}

/// Takes out of `held` what is certain to be text: everything before a stop text, whose end is then reported, or everything
/// but an end that a stop text may begin with.
fn release(held: &mut String, stops: &[String]) -> (String, bool) {
    let stops = || stops.iter().filter(|stop| !stop.is_empty());
    if let Some(at) = stops().filter_map(|stop| held.find(stop.as_str())).min() {
        held.truncate(at);
        return (std::mem::take(held), true);
    }
    let begins = |at: &usize| stops().any(|stop| stop.starts_with(&held[*at..]));
    let keep = held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(held.len());
    let kept = held.split_off(keep);
    (std::mem::replace(held, kept), false)
}

/// What a row of a candidate continues.
#[derive(Clone, Copy)]
struct Track {
    /// Index of the candidate's own cache.
    own: usize,
    prefix: usize,
    prefix_length: usize,
    stretch: usize,
    /// Index among the adapters of this request.
    adapter: Option<usize>,
    soft_tokens: usize,
    log_weight: f32,
}

/// A candidate that is being written.
struct Live<'a> {
    candidate: usize,
    asked: Track,
    /// The same text after the prompts that guide it.
    guides: Vec<Track>,
    limit: usize,
    draw: Draw,
    drawn: Option<Drawn>,
    tokenizer: &'a Tokenizer,
    stream: TextStream<'a>,
    /// Text that may be the beginning of a stop text.
    held: String,
    done: Completion,
    finished: bool,
}

/// Writes the candidates of a checked request.
pub(crate) fn run(
    decoder: &Decoder,
    machine: &Machine,
    tokenizer: &Tokenizer,
    session: &mut Session,
    request: &Generate,
    cancel: &AtomicBool,
    on_token: &mut dyn FnMut(TokenEvent),
) -> Vec<Completion> {
    let mut completions: Vec<Completion> = request.members.iter().map(|_| Completion::cancelled()).collect();
    if request.max_tokens == 0 {
        completions.iter_mut().for_each(|completion| completion.finish = FinishReason::Length);
        return completions;
    }
    let mut adapters: Vec<(WeightedLora, Arc<Applied>)> = Vec::new();
    let Some(mut live) = read_prompts(decoder, machine, tokenizer, session, request, &mut adapters, cancel) else { return completions };
    let adapters: Vec<Arc<Applied>> = adapters.into_iter().map(|(_, applied)| applied).collect();
    let longest = live.iter().map(|one| one.limit).max().unwrap_or(0);
    let weights: Vec<f32> = request.guides().map(|guide| guide.weight).collect();
    session.reserve(decoder, (1 + weights.len()) * live.len(), longest);
    let vocab = decoder.config.vocab;
    let mut first = true;
    loop {
        let known: &Session = session;
        let count = live.len();
        machine.pool.each(&mut live, &|row, one| {
            let logits = |track: Track, row: usize| match first {
                true => known.logits(track.prefix),
                false => &known.work.logits[row * vocab..][..vocab],
            };
            let others = one.guides.iter().zip(&weights).enumerate();
            let others = others.map(|(at, (track, weight))| (logits(*track, (at + 1) * count + row), *weight));
            one.drawn = Some(one.draw.next_guided(machine.isa, logits(one.asked, row), others, request.guidance.plausible));
        });
        first = false;
        for one in &mut live {
            one.accept(request, on_token);
        }
        for one in live.extract_if(.., |one| one.finished) {
            completions[one.candidate] = one.done;
        }
        if live.is_empty() {
            return completions;
        }
        if cancel.load(Ordering::Relaxed) {
            for mut one in live {
                one.finish(FinishReason::Cancelled, on_token);
                completions[one.candidate] = one.done;
            }
            return completions;
        }
        // First all rows after the asked prompt, then those after each guide: those that share a prefix stand together.
        let asked = live.iter().filter_map(|one| one.row(one.asked));
        let guided = (0..weights.len()).flat_map(|at| live.iter().filter_map(move |one| one.row(*one.guides.get(at)?)));
        let rows: Vec<Row> = asked.chain(guided).collect();
        let wanted: Vec<usize> = (0..rows.len()).collect();
        decoder.forward(machine, &mut session.work, &mut session.prefix_slots, &mut session.own, &adapters, &rows);
        decoder.logits(machine, &mut session.work, &wanted);
    }
}

/// Reads the prompt once for each distinct set of adapters; `None` if cancelled.
///
/// Candidates come back in the order of their prefixes, so that those that share one stand together.
fn read_prompts<'a, 'r>(
    decoder: &Decoder,
    machine: &Machine,
    tokenizer: &'a Tokenizer,
    session: &mut Session,
    request: &'r Generate,
    adapters: &mut Vec<(WeightedLora, Arc<Applied>)>,
    cancel: &AtomicBool,
) -> Option<Vec<Live<'a>>> {
    let mut read: Vec<(PrefixKey, &[u32], usize)> = Vec::new();
    let mut live = Vec::with_capacity(request.members.len());
    for (candidate, member) in request.members.iter().enumerate() {
        // Where the candidate's own text goes on after one of the prompts.
        let mut track = |own: usize, prompt: &'r [u32], written_by: &Adapters| {
            let key = PrefixKey::new(written_by, &decoder.config, prompt.len().saturating_add(request.max_tokens));
            let known = read.iter().find(|(known, text, _)| *known == key && *text == prompt).map(|(_, _, prefix)| *prefix);
            let prefix = match known {
                Some(prefix) => prefix,
                None => {
                    let in_use: Vec<usize> = read.iter().map(|(_, _, prefix)| *prefix).collect();
                    let wanted = Wanted { first: key.soft_tokens() + prompt.len() - 1, take: &mut |_| {} };
                    let prefix = session.prefill(decoder, machine, key.clone(), prompt, &in_use, cancel, wanted)?;
                    read.push((key.clone(), prompt, prefix));
                    prefix
                }
            };
            let adapter = key.lora().map(|lora| match adapters.iter().position(|(known, _)| known == lora) {
                Some(index) => index,
                None => {
                    adapters.push((lora.clone(), session.applied(decoder, machine, lora)));
                    adapters.len() - 1
                }
            });
            let (soft_tokens, log_weight, stretch) = (key.soft_tokens(), key.log_weight(), key.stretch());
            Some(Track { own, prefix, prefix_length: soft_tokens + prompt.len(), stretch, adapter, soft_tokens, log_weight })
        };
        let (own, bare) = (member.adapters(), Adapters::default());
        let asked = track(candidate, &request.prompt, &own)?;
        let mut guides = Vec::new();
        for (at, guide) in request.guides().enumerate() {
            let written_by = if guide.bare { &bare } else { &own };
            guides.push(track((at + 1) * request.members.len() + candidate, &guide.prompt, written_by)?);
        }
        let longest_prefix = guides.iter().map(|track| track.prefix_length).fold(asked.prefix_length, usize::max);
        live.push(Live {
            candidate,
            asked,
            guides,
            limit: request.max_tokens.min(decoder.config.context - longest_prefix),
            draw: Draw::new(&member.sampler, &request.prompt[request.prompt.len().saturating_sub(request.written)..]),
            drawn: None,
            tokenizer,
            stream: tokenizer.stream(),
            held: String::new(),
            done: Completion::cancelled(),
            finished: false,
        });
    }
    live.sort_by_key(|one| one.asked.prefix);
    Some(live)
}

impl Live<'_> {
    /// Takes the drawn token into the text, or ends the text.
    fn accept(&mut self, request: &Generate, on_token: &mut dyn FnMut(TokenEvent)) {
        let Some(Drawn { token, logprob }) = self.drawn else { return };
        if request.stop.contains(&token) {
            return self.finish(FinishReason::End, on_token);
        }
        self.done.token_ids.push(token);
        self.done.logprobs.push(logprob);
        self.held.push_str(&self.stream.push(token));
        let (text, stopped) = release(&mut self.held, &request.stop_texts);
        on_token(TokenEvent { candidate: self.candidate, token, text: &text });
        self.done.text.push_str(&text);
        if stopped {
            self.drop_unneeded();
            (self.done.finish, self.finished) = (FinishReason::End, true);
        } else if self.done.token_ids.len() >= self.limit {
            self.finish(FinishReason::Length, on_token);
        }
    }

    fn finish(&mut self, reason: FinishReason, on_token: &mut dyn FnMut(TokenEvent)) {
        let mut rest = std::mem::take(&mut self.held);
        rest.push_str(&self.stream.finish());
        if let Some(token) = self.done.token_ids.last().copied().filter(|_| !rest.is_empty()) {
            on_token(TokenEvent { candidate: self.candidate, token, text: &rest });
        }
        self.done.text.push_str(&rest);
        self.done.finish = reason;
        self.finished = true;
    }

    /// Drops the tokens that only spelled a stop text.
    fn drop_unneeded(&mut self) {
        let Completion { text, token_ids, logprobs, .. } = &mut self.done;
        while let Some((_, before)) = token_ids.split_last()
            && self.tokenizer.decode(before).len() >= text.len()
        {
            token_ids.pop();
        }
        logprobs.truncate(token_ids.len());
    }

    /// The last token as the next row to compute on a track.
    fn row(&self, track: Track) -> Option<Row<'static>> {
        let Track { own, prefix, prefix_length, stretch, adapter, soft_tokens, log_weight } = track;
        let token = *self.done.token_ids.last()?;
        let position = prefix_length + self.done.token_ids.len() - 1;
        let own = Some((own, prefix_length));
        Some(Row { item: Item::Token(token), position, prefix, own, weighted: soft_tokens, log_weight, adapter, stretch })
    }
}
