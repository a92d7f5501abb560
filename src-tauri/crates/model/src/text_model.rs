//! A loaded base of either family, as those see it who only want text from it: a decoder that goes on with what it reads, or an
//! encoder and decoder that answer it.

use crate::files::read_capped;
use crate::generate::{Adapters, Completion, Generate, TokenEvent};
use crate::{
    ChatMessage, Guidance, LanguageModel, LlamaConfig, LoadOptions, ModelError, SoftPrompt, T5Config, T5Generate, T5Model, Tokenizer,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The shape of a base of either family.
#[derive(Debug, Clone, PartialEq)]
pub enum BaseConfig {
    Decoder(LlamaConfig),
    T5(T5Config),
}

impl BaseConfig {
    /// Numbers of a vector.
    pub fn hidden(&self) -> usize {
        match self {
            Self::Decoder(config) => config.hidden,
            Self::T5(config) => config.hidden,
        }
    }

    pub fn vocab(&self) -> usize {
        match self {
            Self::Decoder(config) => config.vocab,
            Self::T5(config) => config.vocab,
        }
    }

    /// Longest text in tokens; with an encoder and a decoder, of either.
    pub fn context(&self) -> usize {
        match self {
            Self::Decoder(config) => config.context,
            Self::T5(_) => T5Config::CONTEXT,
        }
    }

    pub fn parameters(&self) -> usize {
        match self {
            Self::Decoder(config) => config.parameters(),
            Self::T5(config) => config.parameters(),
        }
    }

    pub fn is_t5(&self) -> bool {
        matches!(self, Self::T5(_))
    }

    /// The shape of a decoder alone.
    ///
    /// # Errors
    /// `InvalidRequest` for an encoder with a decoder: `what` says what cannot be done with it.
    pub fn decoder(&self, what: &'static str) -> Result<&LlamaConfig, ModelError> {
        match self {
            Self::Decoder(config) => Ok(config),
            Self::T5(_) => Err(ModelError::InvalidRequest { reason: what }),
        }
    }
}

/// Whether a folder holds a T5, told by its `config.json`.
pub(crate) fn is_t5(path: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind {
        model_type: Option<String>,
    }
    // What cannot be read is no T5; the loader of the others then says what is wrong with it.
    let bytes = read_capped(&path.join("config.json"), MAX_CONFIG_BYTES).unwrap_or_default();
    serde_json::from_slice::<Kind>(&bytes).is_ok_and(|kind| kind.model_type.as_deref() == Some("t5"))
}

/// A loaded base of either family.
pub enum TextModel {
    Decoder(Box<LanguageModel>),
    T5(Box<T5Model>),
}

impl TextModel {
    /// Loads what [`LanguageModel::load`] or [`T5Model::load`] does; `config.json` says which.
    ///
    /// # Errors
    /// As those.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        Ok(match is_t5(path) {
            true => Self::T5(Box::new(T5Model::load(path, options)?)),
            false => Self::Decoder(Box::new(LanguageModel::load(path, options)?)),
        })
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Decoder(model) => model.tokenizer(),
            Self::T5(model) => model.tokenizer(),
        }
    }

    /// Longest text in tokens; with an encoder and a decoder, of either.
    pub fn context(&self) -> usize {
        match self {
            Self::Decoder(model) => model.config().context,
            Self::T5(_) => T5Config::CONTEXT,
        }
    }

    /// The decoder, where it is one alone.
    pub fn decoder(&self) -> Option<&LanguageModel> {
        match self {
            Self::Decoder(model) => Some(model),
            Self::T5(_) => None,
        }
    }

    /// Whether it answers what it reads, instead of going on with it: then the text does not share the context with the prompt,
    /// and a text that is continued belongs into the prompt.
    pub fn answers_apart(&self) -> bool {
        matches!(self, Self::T5(_))
    }

    /// The tokens that end a text; for [`Generate::stop`].
    pub fn end_tokens(&self) -> Vec<u32> {
        match self {
            Self::Decoder(model) => model.end_tokens().to_vec(),
            Self::T5(model) => model.config().eos.into_iter().collect(),
        }
    }

    /// A plain text as the base was trained to read one.
    pub fn plain_prompt(&self, text: &str) -> Vec<u32> {
        match self {
            Self::Decoder(model) => model.tokenizer().encode_start(text),
            Self::T5(model) => model.prompt(text),
        }
    }

    /// Whether the base comes with a template for conversations.
    pub fn chats(&self) -> bool {
        matches!(self, Self::Decoder(model) if model.chats())
    }

    /// As [`LanguageModel::chat_prompt`].
    ///
    /// # Errors
    /// As there; `Chat` for a T5, which has no such format.
    pub fn chat_prompt(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, ModelError> {
        match self {
            Self::Decoder(model) => model.chat_prompt(messages),
            Self::T5(_) => Err(ModelError::Chat { reason: "a T5 knows no conversations".to_owned() }),
        }
    }

    /// As [`LanguageModel::generate`]. A T5 writes the members of each soft prompt in a batch of their own, one batch after another.
    ///
    /// # Errors
    /// As there; `InvalidRequest` for what a T5 cannot do: LoRA, a soft prompt at a strength other than 0 and 1, stop texts, guidance.
    pub fn generate(
        &self,
        request: &Generate,
        cancel: &AtomicBool,
        on_token: &mut dyn FnMut(TokenEvent),
    ) -> Result<Vec<Completion>, ModelError> {
        match self {
            Self::Decoder(model) => model.generate(request, cancel, on_token),
            Self::T5(model) => generate_t5(model, request, cancel, on_token),
        }
    }

    /// Log-probability of each token of `continuation` after `prefix`, or as the answer to it.
    ///
    /// # Errors
    /// As [`LanguageModel::score_with`]; `InvalidRequest` for adapters that a T5 cannot have.
    pub fn score_with(&self, adapters: &Adapters, prefix: &[u32], continuation: &[u32]) -> Result<Vec<f32>, ModelError> {
        match self {
            Self::Decoder(model) => model.score_with(adapters, prefix, continuation),
            Self::T5(model) => {
                let soft_prompt = soft_prompt_of(adapters)?;
                if continuation.is_empty() {
                    return Ok(Vec::new());
                }
                let logits = model.logits(soft_prompt.as_deref(), &[(prefix, continuation)])?.pop().unwrap_or_default();
                let rows = logits.chunks_exact(model.config().vocab).zip(continuation);
                Ok(rows.map(|(row, token)| log_probability(row, *token)).collect())
            }
        }
    }
}

fn log_probability(logits: &[f32], token: u32) -> f32 {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|value| f64::from(value - most).exp()).sum();
    logits[token as usize] - most - sum.ln() as f32
}

/// The soft prompt among adapters that a T5 can have.
fn soft_prompt_of(adapters: &Adapters) -> Result<Option<Arc<SoftPrompt>>, ModelError> {
    let refuse = |reason| Err(ModelError::InvalidRequest { reason });
    if adapters.lora.is_some() {
        return refuse("a T5 can have soft prompts only, no LoRA or DoRA");
    }
    match (&adapters.soft_prompt, adapters.strength) {
        (None, _) | (_, 0.0) => Ok(None),
        (Some(soft), 1.0) => Ok(Some(soft.clone())),
        (Some(_), _) => refuse("the soft prompt of a T5 has a strength of 1, as trained, or 0"),
    }
}

fn generate_t5(
    model: &T5Model,
    request: &Generate,
    cancel: &AtomicBool,
    on_token: &mut dyn FnMut(TokenEvent),
) -> Result<Vec<Completion>, ModelError> {
    if !request.stop_texts.is_empty() {
        return Err(ModelError::InvalidRequest { reason: "a T5 ends at its end token, not at a text" });
    }
    if request.guidance != Guidance::default() {
        return Err(ModelError::InvalidRequest { reason: "a T5 writes without guidance" });
    }
    let soft_prompts = request.members.iter().map(|member| soft_prompt_of(&member.adapters())).collect::<Result<Vec<_>, _>>()?;
    let same = |a: &Option<Arc<SoftPrompt>>, b: &Option<Arc<SoftPrompt>>| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (a, b) => a.is_none() && b.is_none(),
    };
    let mut done: Vec<Option<Completion>> = vec![None; request.members.len()];
    while let Some(first) = done.iter().position(Option::is_none) {
        let together: Vec<usize> =
            (first..done.len()).filter(|index| done[*index].is_none() && same(&soft_prompts[*index], &soft_prompts[first])).collect();
        let batch = T5Generate {
            prompt: request.prompt.clone(),
            members: together.iter().map(|index| request.members[*index].sampler.clone()).collect(),
            soft_prompt: soft_prompts[first].as_deref().cloned(),
            max_tokens: request.max_tokens,
            stop: request.stop.clone(),
        };
        let written =
            model.generate(&batch, cancel, &mut |event| on_token(TokenEvent { candidate: together[event.candidate], ..event }))?;
        for (index, completion) in together.into_iter().zip(written) {
            done[index] = Some(completion);
        }
    }
    Ok(done.into_iter().flatten().collect())
}
