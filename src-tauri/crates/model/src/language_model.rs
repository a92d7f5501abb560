//! A loaded base that writes and scores text.

use crate::decoder::Decoder;
use crate::files::BaseFiles;
use crate::generate::{self, Adapters, Completion, Generate, TokenEvent};
use crate::linear::Machine;
use crate::session::{PrefixKey, Session, Wanted};
use crate::source::WeightSource;
use crate::{
    ChatMessage, ChatTemplate, DenseWeights, LlamaConfig, ModelError, Precision, SoftPrompt, Tokenizer, config_json, files, gguf_tokenizer,
};
use kernels::elementwise::{largest, sum_exp};
use kernels::isa::Isa;
use kernels::pool::Pool;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// How a base is loaded.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Threads that compute, the caller of each method counted in.
    pub threads: usize,
    pub precision: Precision,
    pub isa: Isa,
}

impl LoadOptions {
    /// int8 on the best instructions of this machine, or those that `INKLING_ISA` names.
    pub fn new(threads: usize) -> Self {
        Self { threads, precision: Precision::Int8, isa: Isa::detect() }
    }
}

/// A base with packed weights, ready to write. One generation runs at a time; others wait for their turn.
///
/// Results depend on the request alone: not on the number of threads, the instructions, what ran before, or which other
/// candidates are written beside one.
pub struct LanguageModel {
    decoder: Decoder,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    /// Tokens that end a text.
    ends: Vec<u32>,
    machine: Machine,
    session: Mutex<Session>,
    /// Written at the end of each call, so that asking does not wait for a generation.
    session_bytes: AtomicUsize,
}

impl LanguageModel {
    /// Loads a base from a GGUF file, a folder that holds one, or a folder with `config.json`, `tokenizer.json` and safetensors
    /// (one file, or several with `model.safetensors.index.json`).
    ///
    /// Where `model.json` is there, each file it names must have the size and SHA-256 it gives. Weights are packed piece by
    /// piece while they are read.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, `Unsupported` or `Io`, each with the file it is about.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        if let BaseFiles::Folder(folder) = BaseFiles::find(path)? {
            files::verify_manifest(&folder)?;
        }
        let mut source = WeightSource::open(path)?;
        check_shape(&source.config, source.path())?;
        let (tokenizer, chat, ends) = match source.gguf() {
            Some(file) => (gguf_tokenizer::tokenizer(file)?, ChatTemplate::from_gguf(file), gguf_tokenizer::end_tokens(file)),
            None => (Tokenizer::load(path)?, ChatTemplate::load(path)?, config_json::end_tokens(path)?),
        };
        // A base may have more rows than tokens, for the sake of round sizes, but every token needs its row.
        if tokenizer.ids() > source.config.vocab {
            let reason = format!("its tokenizer has ids up to {}, but the base has {} tokens", tokenizer.ids(), source.config.vocab);
            return Err(ModelError::damaged(source.path(), reason));
        }
        let decoder = Decoder::read(&mut source, options.precision)?;
        Ok(Self { chat, ends, ..Self::assemble(decoder, tokenizer, options) })
    }

    /// Packs weights that are in memory already.
    ///
    /// # Errors
    /// `Unsupported` when the width of a head is not a multiple of 16.
    pub fn from_weights(weights: DenseWeights, tokenizer: Tokenizer, options: &LoadOptions) -> Result<Self, ModelError> {
        check_shape(&weights.config, Path::new("config.json"))?;
        Ok(Self::assemble(Decoder::from_dense(weights, options.precision), tokenizer, options))
    }

    pub fn config(&self) -> &LlamaConfig {
        &self.decoder.config
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that end a text, of which the base's files may name several; for [`Generate::stop`].
    pub fn end_tokens(&self) -> &[u32] {
        &self.ends
    }

    /// Whether the base comes with a template for conversations.
    pub fn chats(&self) -> bool {
        self.chat.is_some()
    }

    /// The tokens of a conversation in the base's own format, up to where it is to answer.
    ///
    /// Special tokens that are written out in a message are taken out of it, so that a message cannot pose as another turn.
    ///
    /// # Errors
    /// `Chat` for a base without a template or a conversation that it refuses, `Damaged` when the template is wrong.
    pub fn chat_prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, ModelError> {
        Ok(self.tokenizer.encode(&self.chat_text(messages)?))
    }

    /// The text of [`LanguageModel::chat_prompt`].
    ///
    /// # Errors
    /// As [`LanguageModel::chat_prompt`].
    pub fn chat_text(&self, messages: &[ChatMessage]) -> Result<String, ModelError> {
        let Some(template) = &self.chat else {
            return Err(ModelError::Chat { reason: "the base has no chat template".to_owned() });
        };
        let plain = |message: &ChatMessage| ChatMessage::new(message.role, self.tokenizer.without_special(&message.content));
        template.render(&messages.iter().map(plain).collect::<Vec<_>>())
    }

    /// Bytes of weights, caches and work space, without the tokenizer.
    pub fn memory_bytes(&self) -> usize {
        self.decoder.bytes() + self.session_bytes.load(Ordering::Relaxed)
    }

    /// The vector instructions in use.
    pub fn isa(&self) -> &'static str {
        self.machine.isa.name()
    }

    /// Writes all members' candidates in one batch; each new token is reported to `on_token` as it is drawn.
    ///
    /// The prompt is read once for each distinct set of adapters, and not again when the next request starts with the same tokens.
    /// `cancel` is looked at before every step; what was written until then is returned as [`domain::FinishReason::Cancelled`].
    ///
    /// # Errors
    /// `ContextExceeded` when the prompt leaves no room for a single token, `SoftPromptWidth`, `AdapterShape`, `InvalidRequest`.
    pub fn generate(
        &self,
        request: &Generate,
        cancel: &AtomicBool,
        on_token: &mut dyn FnMut(TokenEvent),
    ) -> Result<Vec<Completion>, ModelError> {
        request.check(self.config())?;
        let Some(mut session) = self.turn(cancel) else {
            return Ok(request.members.iter().map(|_| Completion::cancelled()).collect());
        };
        let result = generate::run(&self.decoder, &self.machine, &self.tokenizer, &mut session, request, cancel, on_token);
        self.session_bytes.store(session.bytes(), Ordering::Relaxed);
        Ok(result)
    }

    /// Log-probability of each token of `continuation` after `prefix` and the tokens before it (teacher forcing).
    ///
    /// # Errors
    /// `ContextExceeded`, `SoftPromptWidth`, or `InvalidRequest` for unknown tokens or nothing to start from.
    pub fn score(&self, soft_prompt: Option<&SoftPrompt>, prefix: &[u32], continuation: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.score_with(&only(soft_prompt), prefix, continuation)
    }

    /// [`LanguageModel::score`] with any adapters.
    ///
    /// # Errors
    /// As [`LanguageModel::score`], and `AdapterShape`.
    pub fn score_with(&self, adapters: &Adapters, prefix: &[u32], continuation: &[u32]) -> Result<Vec<f32>, ModelError> {
        let Some((_, all_but_last)) = continuation.split_last() else { return Ok(Vec::new()) };
        generate::check_tokens(self.config(), continuation)?;
        let mut scores = Vec::with_capacity(continuation.len());
        self.read(adapters, &[prefix, all_but_last].concat(), prefix.len() + continuation.len(), prefix.len(), &mut |logits| {
            let most = largest(self.machine.isa, logits);
            let normaliser = most + sum_exp(self.machine.isa, logits, most, 1.0).ln();
            scores.push(logits[continuation[scores.len()] as usize] - normaliser);
        })?;
        Ok(scores)
    }

    /// Logits `[tokens, vocab]` of what follows each token.
    ///
    /// # Errors
    /// As [`LanguageModel::score`].
    pub fn logits(&self, soft_prompt: Option<&SoftPrompt>, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.logits_with(&only(soft_prompt), tokens)
    }

    /// [`LanguageModel::logits`] with any adapters.
    ///
    /// # Errors
    /// As [`LanguageModel::score_with`].
    pub fn logits_with(&self, adapters: &Adapters, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let mut all = Vec::new();
        self.read(adapters, tokens, tokens.len(), 1, &mut |logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// Reads the beginning of a text that is `length` tokens long, and gives the logits behind its `first`-th token (counted from 1)
    /// and each one after it.
    fn read(
        &self,
        adapters: &Adapters,
        tokens: &[u32],
        length: usize,
        first: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), ModelError> {
        adapters.check(self.config())?;
        let key = PrefixKey::new(adapters, self.config(), length);
        let soft_tokens = key.soft_tokens();
        if first == 0 {
            return Err(ModelError::InvalidRequest { reason: "there is nothing before the first token to score" });
        }
        generate::check_prompt(self.config(), adapters.soft_prompt.as_deref(), tokens, soft_tokens + tokens.len())?;
        let never = AtomicBool::new(false);
        if let Some(mut session) = self.turn(&never) {
            let wanted = Wanted { first: soft_tokens + first - 1, take };
            session.prefill(&self.decoder, &self.machine, key, tokens, &[], &never, wanted);
            self.session_bytes.store(session.bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn assemble(decoder: Decoder, tokenizer: Tokenizer, options: &LoadOptions) -> Self {
        let machine = Machine { isa: options.isa, pool: Pool::new(options.threads), precision: options.precision };
        let ends = decoder.config.eos.into_iter().collect();
        let (session, session_bytes) = (Mutex::new(Session::new()), AtomicUsize::new(0));
        Self { decoder, tokenizer, chat: None, ends, machine, session, session_bytes }
    }

    /// Waits for the session; `None` when cancelled while waiting.
    fn turn(&self, cancel: &AtomicBool) -> Option<MutexGuard<'_, Session>> {
        loop {
            match self.session.try_lock() {
                Ok(session) => return Some(session),
                Err(TryLockError::Poisoned(poisoned)) => {
                    // A panic may have left half-written prefixes behind; start anew.
                    let mut session = poisoned.into_inner();
                    *session = Session::new();
                    self.session.clear_poison();
                    return Some(session);
                }
                Err(TryLockError::WouldBlock) if cancel.load(Ordering::Relaxed) => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

fn only(soft_prompt: Option<&SoftPrompt>) -> Adapters {
    Adapters { soft_prompt: soft_prompt.map(|soft| Arc::new(soft.clone())), ..Adapters::default() }
}

/// The kernels work on 16 lanes of a head at a time.
pub(crate) fn check_shape(config: &LlamaConfig, path: &Path) -> Result<(), ModelError> {
    if config.head_dim.is_multiple_of(16) {
        return Ok(());
    }
    Err(ModelError::unsupported(path, format!("its heads are {} wide, which is not a multiple of 16", config.head_dim)))
}
