//! The soft prompts of the genres that a story base brings in its folder: the sliders blend them.

use domain::{Genre, GenreMix};
use model::SoftPrompt;
use std::path::Path;
use std::sync::Arc;

/// A folder for each genre lies here, in PEFT's layout.
const FOLDER: &str = "genres";

/// One soft prompt for each genre, or none at all.
#[derive(Debug, Default)]
pub(crate) struct GenrePrompts(Vec<(Genre, SoftPrompt)>);

impl GenrePrompts {
    /// Those of the base in `folder`. Without them, or with one that is damaged or of another base, the genre words of the prompt
    /// steer alone: no reason not to write.
    pub fn load(folder: &Path, hidden: usize) -> Self {
        let folder = folder.join(FOLDER);
        if !folder.is_dir() {
            return Self::default();
        }
        let read = |genre: &Genre| match SoftPrompt::load(&folder.join(genre.name())) {
            Ok(prompt) if prompt.hidden == hidden => Some((*genre, prompt)),
            Ok(prompt) => {
                tracing::warn!(genre = genre.name(), width = prompt.hidden, "a genre's soft prompt is of another base");
                None
            }
            Err(error) => {
                tracing::warn!(genre = genre.name(), %error, "a genre's soft prompt cannot be read");
                None
            }
        };
        let all: Vec<_> = Genre::ALL.iter().filter_map(read).collect();
        Self(if all.len() == Genre::ALL.len() { all } else { Vec::new() })
    }

    /// The mean of the genres' vectors, weighted as the sliders stand; `None` for any genre.
    pub fn blended(&self, mix: &GenreMix) -> Option<Arc<SoftPrompt>> {
        let parts: Vec<_> = self.0.iter().map(|(genre, prompt)| (prompt, mix.0.get(genre).copied().unwrap_or(0.0))).collect();
        SoftPrompt::blend(&parts).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn story() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets/models/story"))
    }

    #[test]
    fn sliders_blend_the_prompts_that_the_built_in_base_brings() {
        let prompts = GenrePrompts::load(story(), 256);
        let only = |genre: Genre| prompts.blended(&GenreMix([(genre, 1.0)].into())).unwrap();
        let both = prompts.blended(&GenreMix([(Genre::Fantasy, 30.0), (Genre::Mystery, 10.0), (Genre::Horror, 0.0)].into())).unwrap();
        let (fantasy, mystery) = (only(Genre::Fantasy), only(Genre::Mystery));
        assert!(fantasy.vectors != mystery.vectors);
        for (at, value) in both.vectors.iter().enumerate() {
            assert!((value - 0.75 * fantasy.vectors[at] - 0.25 * mystery.vectors[at]).abs() < 1e-5);
        }
        assert_eq!(prompts.blended(&GenreMix::default()), None, "any genre is no genre");
    }

    #[test]
    fn prompts_of_another_base_or_a_damaged_one_are_left_out_all_together() {
        assert!(GenrePrompts::load(story(), 64).0.is_empty());
        let folder = tempfile::tempdir().unwrap();
        assert!(GenrePrompts::load(folder.path(), 256).0.is_empty(), "none is no fault");
        for genre in Genre::ALL {
            let (from, to) = (story().join(FOLDER).join(genre.name()), folder.path().join(FOLDER).join(genre.name()));
            std::fs::create_dir_all(&to).unwrap();
            for file in std::fs::read_dir(from).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        assert_eq!(GenrePrompts::load(folder.path(), 256).0.len(), 8);
        std::fs::write(folder.path().join(FOLDER).join("horror/adapter_model.safetensors"), b"torn").unwrap();
        assert!(GenrePrompts::load(folder.path(), 256).0.is_empty());
    }
}
