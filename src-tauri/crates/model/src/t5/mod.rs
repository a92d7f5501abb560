//! T5 and flan-t5: an encoder that reads the prompt and a decoder that writes the answer.

mod config;
mod dense;
mod forward;
mod position;
mod weights;

pub use config::T5Config;
pub use dense::{DenseT5, DenseT5Cross, DenseT5Layer, DenseT5Stack, DistanceTable};

pub(crate) use dense::T5Source;

use crate::decoder::Item;
use crate::generate::{Completion, TokenEvent};
use crate::linear::Machine;
use crate::sampler::{Draw, Drawn};
use crate::{LoadOptions, ModelError, Sampler, SoftPrompt, TextStream, Tokenizer, files};
use domain::FinishReason;
use forward::{Answer, Workspace};
use kernels::pool::Pool;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use weights::T5Weights;

/// Most candidates in one batch, as for [`crate::Generate`].
const MAX_MEMBERS: usize = 256;

/// A T5 base with packed weights. One call computes at a time; others wait for their turn.
///
/// Results depend on the request alone: not on the number of threads, the instructions, or what is computed beside it.
pub struct T5Model {
    weights: T5Weights,
    tokenizer: Tokenizer,
    machine: Machine,
    work: Mutex<Workspace>,
}

/// What to write, and how.
#[derive(Debug, Clone)]
pub struct T5Generate {
    /// What the encoder reads, the end token included where the base was trained with one.
    pub prompt: Vec<u32>,
    /// One candidate each.
    pub members: Vec<Sampler>,
    /// Stands before what the encoder reads, for all members.
    pub soft_prompt: Option<SoftPrompt>,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// Tokens that end an answer and are not part of it.
    pub stop: Vec<u32>,
}

impl T5Model {
    /// Loads a folder with `config.json`, `tokenizer.json` and safetensors (one file or several with an index).
    ///
    /// Where `model.json` is there, each file it names must have the size and SHA-256 it gives.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        files::verify_manifest(dir)?;
        let weights = T5Weights::load(dir, options.precision)?;
        let tokenizer = Tokenizer::load(dir)?;
        if tokenizer.ids() > weights.config.vocab {
            let reason = format!("it has ids up to {}, but the base has {} tokens", tokenizer.ids(), weights.config.vocab);
            return Err(ModelError::damaged(&dir.join("tokenizer.json"), reason));
        }
        let machine = Machine { isa: options.isa, pool: Pool::new(options.threads), precision: options.precision };
        Ok(Self { weights, tokenizer, machine, work: Mutex::new(Workspace::default()) })
    }

    pub fn config(&self) -> &T5Config {
        &self.weights.config
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes of weights, without the tokenizer.
    pub fn memory_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// A text as the base was trained to read it: its tokens and the end token.
    pub fn prompt(&self, text: &str) -> Vec<u32> {
        let mut tokens = self.tokenizer.encode(text);
        tokens.extend(self.config().eos);
        tokens
    }

    /// Logits `[answer, vocab]` of each pair of prompt and answer: row i is what the base expects in place of token i.
    ///
    /// # Errors
    /// `InvalidRequest` for an empty prompt or unknown tokens, `ContextExceeded`, `SoftPromptWidth`.
    pub fn logits(&self, soft_prompt: Option<&SoftPrompt>, pairs: &[(&[u32], &[u32])]) -> Result<Vec<Vec<f32>>, ModelError> {
        for (prompt, answer) in pairs {
            self.check(soft_prompt, prompt, answer.len())?;
            self.check_tokens(answer)?;
        }
        let (machine, vocab) = (&self.machine, self.config().vocab);
        // A panic leaves nothing in the work space that the next call does not overwrite.
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<Vec<Item>> = pairs.iter().map(|(prompt, _)| encoder_items(soft_prompt, prompt)).collect();
        let encoded = self.weights.encode(machine, &mut work, &texts);
        let read = |answer: &[u32]| -> Vec<Item<'_>> {
            // Each token is read in the place after it; the last one is only predicted.
            let tokens = [self.config().start].into_iter().chain(answer.iter().copied()).take(answer.len());
            tokens.map(Item::Token).collect()
        };
        let new: Vec<Vec<Item>> = pairs.iter().map(|(_, answer)| read(answer)).collect();
        let answer = |(encoded, new): (_, &Vec<Item>)| Answer::new(&self.weights, encoded, new.len());
        let mut answers: Vec<Answer> = encoded.iter().zip(&new).map(answer).collect();
        self.weights.decode(machine, &mut work, &mut answers, &new);
        let (mut end, mut all) = (0, Vec::with_capacity(pairs.len()));
        for ((_, answer), new) in pairs.iter().zip(&new) {
            end += new.len();
            self.weights.logits(machine, &mut work, &(end - answer.len()..end).collect::<Vec<_>>());
            all.push(work.logits[..answer.len() * vocab].to_vec());
        }
        Ok(all)
    }

    /// Writes all members' answers in one batch; the prompt is read once.
    ///
    /// `cancel` is looked at before every step; what was written until then is returned as [`FinishReason::Cancelled`].
    ///
    /// # Errors
    /// As [`T5Model::logits`], and `InvalidRequest` for a sampler out of range or no member.
    pub fn generate(
        &self,
        request: &T5Generate,
        cancel: &AtomicBool,
        on_token: &mut dyn FnMut(TokenEvent),
    ) -> Result<Vec<Completion>, ModelError> {
        if request.members.is_empty() || request.members.len() > MAX_MEMBERS || !request.members.iter().all(Sampler::is_valid) {
            return Err(ModelError::InvalidRequest { reason: "it must have 1 to 256 members with settings in range" });
        }
        let soft_prompt = request.soft_prompt.as_ref();
        self.check(soft_prompt, &request.prompt, request.max_tokens)?;
        let mut done: Vec<Completion> = request.members.iter().map(|_| Completion::cancelled()).collect();
        if request.max_tokens == 0 {
            done.iter_mut().for_each(|one| one.finish = FinishReason::Length);
            return Ok(done);
        }
        let (machine, vocab) = (&self.machine, self.config().vocab);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let encoded = self.weights.encode(machine, &mut work, &[encoder_items(soft_prompt, &request.prompt)]);
        let Some(encoded) = encoded.first() else { return Ok(done) };
        let mut live: Vec<Live> = request.members.iter().enumerate().map(|(index, sampler)| self.live(index, sampler)).collect();
        let mut answers: Vec<Answer> = live.iter().map(|_| Answer::new(&self.weights, encoded, request.max_tokens)).collect();
        let mut new = vec![vec![Item::Token(self.config().start)]; live.len()];
        while !live.is_empty() && !cancel.load(Ordering::Relaxed) {
            self.weights.decode(machine, &mut work, &mut answers, &new);
            let ends = new.iter().scan(0, |end, new| {
                *end += new.len();
                Some(*end - 1)
            });
            self.weights.logits(machine, &mut work, &ends.collect::<Vec<_>>());
            let logits = &work.logits;
            machine.pool.each(&mut live, &|row, one| one.drawn = Some(one.draw.next(machine.isa, &logits[row * vocab..][..vocab])));
            live.iter_mut().for_each(|one| one.accept(request, &mut done[one.candidate], on_token));
            let mut ended = live.iter().map(|one| one.finished);
            answers.retain(|_| ended.next() == Some(false));
            live.retain(|one| !one.finished);
            let last = |one: &Live| done[one.candidate].token_ids.last().map(|token| Item::Token(*token));
            new = live.iter().map(|one| last(one).into_iter().collect()).collect();
        }
        for one in &mut live {
            one.finish(&mut done[one.candidate], FinishReason::Cancelled, on_token);
        }
        Ok(done)
    }

    fn live(&self, candidate: usize, sampler: &Sampler) -> Live<'_> {
        // As transformers counts repetition: over what the decoder has read, which begins with the start token.
        let draw = Draw::new(sampler, &[self.config().start]);
        Live { candidate, draw, drawn: None, stream: self.tokenizer.stream(), finished: false }
    }

    fn check(&self, soft_prompt: Option<&SoftPrompt>, prompt: &[u32], answer: usize) -> Result<(), ModelError> {
        let config = self.config();
        if let Some(soft) = soft_prompt {
            if soft.tokens == 0 || soft.vectors.len() != soft.tokens * soft.hidden || !soft.vectors.iter().all(|value| value.is_finite()) {
                return Err(ModelError::InvalidRequest { reason: "the soft prompt's vectors are not as many as it claims, or not finite" });
            }
            if soft.hidden != config.hidden {
                return Err(ModelError::SoftPromptWidth { found: soft.hidden, expected: config.hidden });
            }
        }
        if prompt.is_empty() {
            return Err(ModelError::InvalidRequest { reason: "the prompt has no tokens" });
        }
        self.check_tokens(prompt)?;
        let needed = soft_prompt.map_or(0, |soft| soft.tokens).saturating_add(prompt.len().max(answer));
        match needed > T5Config::CONTEXT {
            true => Err(ModelError::ContextExceeded { needed, context: T5Config::CONTEXT }),
            false => Ok(()),
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), ModelError> {
        match tokens.iter().all(|token| (*token as usize) < self.config().vocab) {
            true => Ok(()),
            false => Err(ModelError::InvalidRequest { reason: "it holds tokens that the base does not know" }),
        }
    }
}

fn encoder_items<'a>(soft_prompt: Option<&'a SoftPrompt>, prompt: &[u32]) -> Vec<Item<'a>> {
    let vectors = soft_prompt.into_iter().flat_map(|soft| soft.vectors.chunks_exact(soft.hidden).map(Item::Vector));
    vectors.chain(prompt.iter().map(|token| Item::Token(*token))).collect()
}

/// An answer that is being written.
struct Live<'a> {
    candidate: usize,
    draw: Draw,
    drawn: Option<Drawn>,
    stream: TextStream<'a>,
    finished: bool,
}

impl Live<'_> {
    /// Takes the drawn token into the answer, or ends it.
    fn accept(&mut self, request: &T5Generate, done: &mut Completion, on_token: &mut dyn FnMut(TokenEvent)) {
        let Some(Drawn { token, logprob }) = self.drawn else { return };
        if request.stop.contains(&token) {
            return self.finish(done, FinishReason::End, on_token);
        }
        done.token_ids.push(token);
        done.logprobs.push(logprob);
        let text = self.stream.push(token);
        on_token(TokenEvent { candidate: self.candidate, token, text: &text });
        done.text.push_str(&text);
        if done.token_ids.len() >= request.max_tokens {
            self.finish(done, FinishReason::Length, on_token);
        }
    }

    fn finish(&mut self, done: &mut Completion, reason: FinishReason, on_token: &mut dyn FnMut(TokenEvent)) {
        let rest = self.stream.finish();
        if let Some(token) = done.token_ids.last().copied().filter(|_| !rest.is_empty()) {
            on_token(TokenEvent { candidate: self.candidate, token, text: &rest });
        }
        done.text.push_str(&rest);
        done.finish = reason;
        self.finished = true;
    }
}
