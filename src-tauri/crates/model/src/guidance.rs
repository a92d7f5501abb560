//! What other prompts do to the choice of the next token.

/// Classifier-free guidance (Sanchez et al., arXiv 2306.17806), by any number of prompts (Liu et al., arXiv 2206.01714): each token
/// is drawn from `(1 − Σ wₖ) log p + Σ wₖ log qₖ`, where `qₖ` is what the same base and adapters would write after another prompt.
/// A negative weight leads away from a prompt: what the asked one makes likelier in comparison becomes likelier still. Each
/// candidate costs a row a token for every prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guidance(Vec<Guide>);

/// One prompt of a [`Guidance`].
#[derive(Debug, Clone, PartialEq)]
pub struct Guide {
    /// With the text that goes on, if any.
    pub prompt: Vec<u32>,
    pub weight: f32,
}

/// Farther from what the prompt says no text holds together.
const MOST: f32 = 10.0;

impl Guide {
    pub(crate) fn is_valid(&self) -> bool {
        (-MOST..=MOST).contains(&self.weight)
    }
}

impl Guidance {
    /// The prompts that do anything beside the asked one.
    pub(crate) fn beside<'s>(&'s self, asked: &'s [u32]) -> impl Iterator<Item = &'s Guide> {
        self.0.iter().filter(move |guide| guide.weight != 0.0 && guide.prompt != asked)
    }

    /// `scale` times as far from `prompt` as the asked prompt is by itself; 1 is no guidance.
    pub fn away_from(prompt: Vec<u32>, scale: f32) -> Self {
        Self::default().and(prompt, 1.0 - scale)
    }

    /// Adds a prompt; the weights of equal ones are added up.
    #[must_use]
    pub fn and(mut self, prompt: Vec<u32>, weight: f32) -> Self {
        match self.0.iter_mut().find(|guide| guide.prompt == prompt) {
            Some(guide) => guide.weight += weight,
            None => self.0.push(Guide { prompt, weight }),
        }
        self
    }
}
