//! A loaded base together with what it was taught: how it is asked, and how its texts end.

use super::genres::GenrePrompts;
use crate::prompt;
use domain::{ApiError, BaseKind, GenreMix, Settings, Style};
use model::{Generate, Guidance, MemberSpec, SoftPrompt, StoryFormat, TextModel};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A base that writes, is asked in its own way, and is trained on what it will be asked.
pub(crate) struct LoadedBase {
    model: TextModel,
    kind: BaseKind,
    path: PathBuf,
    /// Read when they are first asked for: most people's never are.
    genres: OnceLock<GenrePrompts>,
}

impl LoadedBase {
    /// `path` is where the model was read from.
    pub fn new(model: TextModel, kind: BaseKind, path: &Path) -> Self {
        Self { model, kind, path: path.to_owned(), genres: OnceLock::new() }
    }

    /// What the sliders add to the genre words of the prompt, if the base brings it.
    pub fn genre_prompt(&self, genres: &GenreMix) -> Option<Arc<SoftPrompt>> {
        let hidden = self.model.decoder().filter(|_| self.kind == BaseKind::Story)?.config().hidden;
        self.genres.get_or_init(|| GenrePrompts::load(&self.path, hidden)).blended(genres)
    }

    /// The tokens before a text.
    ///
    /// # Errors
    /// What the base's own conversation format reports.
    pub fn asked(&self, genres: &GenreMix, style: Option<Style>, prompt: &str) -> Result<Vec<u32>, ApiError> {
        prompt::tokens_before(self, self.kind, genres, style, prompt)
    }

    /// What guides a text beside what was asked. Only the story format has words for a text about nothing; in a conversation an empty
    /// question means something of its own.
    pub fn guidance(&self, asked: (&GenreMix, Option<Style>, &str), written: &[u32], settings: &Settings) -> Guidance {
        match self.kind {
            BaseKind::Story if !self.model.answers_apart() => StoryFormat::guidance(self.tokenizer(), asked, written, settings),
            _ => Guidance::default(),
        }
    }

    /// Writes a batch for one prompt as texts are written unless the person says otherwise, so that no setting changes what is learned
    /// or how it is judged; `None` when it had to stop half-way.
    pub fn write_as_usual(
        &self,
        asked: (&GenreMix, Option<Style>, &str),
        members: Vec<MemberSpec>,
        max_tokens: usize,
        must_stop: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<String>>, ApiError> {
        let request = Generate {
            prompt: self.asked(asked.0, asked.1, asked.2)?,
            written: 0,
            members,
            max_tokens,
            stop: self.stop(),
            stop_texts: Vec::new(),
            guidance: self.guidance(asked, &[], &Settings::default()),
        };
        let stopped = AtomicBool::new(false);
        let completions = self.generate(&request, &stopped, &mut |_| {
            if must_stop() {
                stopped.store(true, Ordering::Relaxed);
            }
        })?;
        Ok((!stopped.load(Ordering::Relaxed)).then(|| completions.into_iter().map(|completion| completion.text).collect()))
    }

    /// The tokens of a text.
    pub fn text(&self, words: &str) -> Vec<u32> {
        self.tokenizer().encode(&StoryFormat::plain(words))
    }

    /// The tokens by which a text ends.
    pub fn stop(&self) -> Vec<u32> {
        prompt::stop(self, self.kind)
    }

    /// The token that a text to learn from ends with.
    pub fn end(&self) -> Option<u32> {
        match self.kind {
            BaseKind::Story => self.tokenizer().special(StoryFormat::END),
            BaseKind::Instruct | BaseKind::Plain => self.stop().first().copied(),
        }
    }
}

impl Deref for LoadedBase {
    type Target = TextModel;

    fn deref(&self) -> &TextModel {
        &self.model
    }
}
