//! What other prompts do to the choice of the next token.

/// Classifier-free guidance (Sanchez et al., arXiv 2306.17806), by any number of prompts (Liu et al., arXiv 2206.01714): each token
/// is drawn from `(1 − Σ wₖ) log p + Σ wₖ log qₖ`, where `qₖ` is what the base would write after another prompt, with the
/// candidate's adapters or bare.
/// A negative weight leads away from a prompt: what the asked one makes likelier in comparison becomes likelier still. Each
/// candidate costs a row a token for every prompt.
///
/// What is unlikely after the asked prompt and far unlikelier after the others would be raised above all that makes sense, so only
/// tokens that are plausible after the asked one can be drawn (Li et al., arXiv 2210.15097).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guidance {
    guides: Vec<Guide>,
    /// See [`Guidance::among_plausible`].
    pub(crate) plausible: f32,
}

/// One prompt of a [`Guidance`].
#[derive(Debug, Clone, PartialEq)]
pub struct Guide {
    /// With the text that goes on, if any.
    pub prompt: Vec<u32>,
    pub weight: f32,
    /// Whether the base writes after it without the candidate's adapters.
    pub bare: bool,
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
        self.guides.iter().filter(move |guide| guide.weight != 0.0 && (guide.bare || guide.prompt != asked))
    }

    /// `scale` times as far from what the bare base writes after `prompt` as the asked prompt and the adapters are by themselves; 1 is
    /// no guidance.
    pub fn away_from(prompt: Vec<u32>, scale: f32) -> Self {
        Self::default().with(Guide { prompt, weight: 1.0 - scale, bare: true })
    }

    /// Adds what the base and the adapters write after a prompt; the weights of equal ones are added up.
    #[must_use]
    pub fn and(self, prompt: Vec<u32>, weight: f32) -> Self {
        self.with(Guide { prompt, weight, bare: false })
    }

    /// Only tokens that are at least this share as likely as the likeliest one after the asked prompt; 0 allows all.
    #[must_use]
    pub fn among_plausible(self, share: f32) -> Self {
        Self { plausible: share, ..self }
    }

    fn with(mut self, new: Guide) -> Self {
        match self.guides.iter_mut().find(|guide| guide.prompt == new.prompt && guide.bare == new.bare) {
            Some(guide) => guide.weight += new.weight,
            None => self.guides.push(new),
        }
        self
    }
}
