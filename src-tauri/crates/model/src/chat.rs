//! Chat templates: how an instruct base wants a conversation written out.
//!
//! Templates are Jinja as Hugging Face uses it. They come with the files of a stranger, so they run without access to anything,
//! within a budget of steps, and the text they make is capped. (Not capped: text that a template builds up in a variable.)

use crate::ModelError;
use crate::files::read_capped;
use crate::gguf::Gguf;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value as Jinja};
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const MAX_CONFIG_BYTES: u64 = 16 << 20;
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
/// Longest conversation that a template may write.
const MAX_TEXT_BYTES: usize = 4 << 20;
/// Steps of the template engine; a real template takes about a hundred a message.
const MAX_STEPS: u64 = 300_000;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    System,
    User,
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: ChatRole,
    pub content: String,
}

impl ChatMessage {
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    fn value(&self) -> Jinja {
        let role = match self.role {
            ChatRole::System => "system",
            ChatRole::User => "user",
            ChatRole::Assistant => "assistant",
        };
        Jinja::from_pairs([("role", role), ("content", &self.content)])
    }
}

/// A base's template, with the special tokens that it may name.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Reads the template of a folder: `chat_template.jinja`, or the entry of `tokenizer_config.json`.
    ///
    /// # Errors
    /// `Io`, or `Damaged` when a file is there that cannot be read as what it should be.
    pub fn load(folder: &Path) -> Result<Option<Self>, ModelError> {
        let Some(config) = optional(folder.join(CONFIG), MAX_CONFIG_BYTES)? else { return Ok(None) };
        let path = folder.join(CONFIG);
        let raw: RawConfig = serde_json::from_slice(&config).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        let own = folder.join(TEMPLATE);
        let (path, source) = match optional(own.clone(), MAX_TEMPLATE_BYTES)? {
            Some(bytes) => (own.clone(), Some(String::from_utf8(bytes).map_err(|_| ModelError::damaged(&own, "it is no text"))?)),
            None => (path, raw.chat_template.and_then(RawTemplate::default_one)),
        };
        let text = |token: Option<RawToken>| token.map(RawToken::text).unwrap_or_default();
        Ok(source.map(|source| Self { path, source, bos: text(raw.bos_token), eos: text(raw.eos_token) }))
    }

    /// The template of a GGUF file, if it has one.
    pub(crate) fn from_gguf(file: &Gguf) -> Option<Self> {
        let tokens = file.texts("tokenizer.ggml.tokens").unwrap_or(&[]);
        let token = |name: &str| {
            let id = file.integer(&format!("tokenizer.ggml.{name}_token_id")).and_then(|id| usize::try_from(id).ok());
            id.and_then(|id| tokens.get(id)).cloned().unwrap_or_default()
        };
        let source = file.text("tokenizer.chat_template")?.to_owned();
        Some(Self { path: file.path().to_owned(), source, bos: token("bos"), eos: token("eos") })
    }

    /// Writes a conversation out, up to where the base is to answer.
    ///
    /// # Errors
    /// `Damaged` when the template itself is wrong or does not end, `Chat` when it refuses this conversation.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String, ModelError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| self.wrong(&error))?);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{REFUSED}{reason}")))
        });
        // The day would make the same conversation another one tomorrow; templates that ask for it know how to do without.
        environment.add_function("strftime_now", |_format: String, _rest: Kwargs| String::new());
        environment.add_template("chat", &self.source).map_err(|error| self.wrong(&error))?;
        let template = environment.get_template("chat").map_err(|error| self.wrong(&error))?;
        let context = minijinja::context! {
            messages => messages.iter().map(ChatMessage::value).collect::<Vec<_>>(),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let mut text = Capped(Vec::new());
        template.render_captured_to(context, &mut text).map_err(|error| self.wrong(&error))?;
        String::from_utf8(text.0).map_err(|_| ModelError::damaged(&self.path, "its chat template writes no text"))
    }

    fn wrong(&self, error: &minijinja::Error) -> ModelError {
        let said = error.detail().unwrap_or_default();
        match said.split_once(REFUSED) {
            Some((_, reason)) => ModelError::Chat { reason: reason.to_owned() },
            None => ModelError::damaged(&self.path, format!("its chat template cannot be used ({error})")),
        }
    }
}

/// Marks what a template itself raised.
const REFUSED: &str = "refused: ";

/// Whether a folder comes with a template.
pub(crate) fn has_template(folder: &Path) -> Result<bool, ModelError> {
    Ok(ChatTemplate::load(folder)?.is_some())
}

fn optional(path: PathBuf, cap: u64) -> Result<Option<Vec<u8>>, ModelError> {
    match read_capped(&path, cap) {
        Err(ModelError::Missing { .. }) => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// Text that stops growing at [`MAX_TEXT_BYTES`].
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT_BYTES {
            return Err(std::io::Error::other("the text grows beyond 4 MB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Deserialize)]
struct RawConfig {
    chat_template: Option<RawTemplate>,
    bos_token: Option<RawToken>,
    eos_token: Option<RawToken>,
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawTemplate {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl RawTemplate {
    fn default_one(self) -> Option<String> {
        match self {
            Self::One(source) => Some(source),
            Self::Several(named) => named.into_iter().find(|one| one.name == "default").map(|one| one.template),
        }
    }
}

/// A token as its text, or with its settings around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawToken {
    Text(String),
    Full { content: String },
}

impl RawToken {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Full { content: text } => text,
        }
    }
}
