//! How judgements of texts become a loss.
//!
//! With `r = log p(text) − log p_base(text)`, summed over the answer's tokens, and `l` the mean of `log p` over them:
//!
//! | loss | costs |
//! |---|---|
//! | DPO (arXiv 2305.18290) | `−log σ(β (r_chosen − r_rejected))`; without reference `log p` takes the place of `r` |
//! | ORPO (arXiv 2403.07691) | `−l_chosen − β log σ(z)`, `z` the log of the odds of `l_chosen` over those of `l_rejected` |
//! | KTO (arXiv 2402.01306) | `1 − σ(β (r − z₀))` for a liked text, `1 − σ(β (z₀ − r))` for another |
//! | unpaired | the same with `z₀ = 0`: TRL's `apo_zero_unpaired` (arXiv 2408.06266) |
//!
//! Single texts that were kept back are measured otherwise: see [`Preference::told_apart`].
//!
//! KTO's `z₀` is the mean of `r` over the prompts of the batch, each with the answer of *another* text (the same one all along, as
//! in TRL), at least 0, and counts as a constant.

use crate::TrainError;
use crate::run_config::{above_0, in_range};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference {
    /// How dear it is to leave the base: lower moves further. With ORPO, how much the odds count (the paper's λ).
    pub beta: f64,
    pub pairs: PairLoss,
    pub singles: SingleLoss,
    /// How often the worse text of a pair is thought to be the better one after all; DPO only.
    pub smoothing: f64,
    /// How much the chosen text's own `−l` counts beside DPO's loss.
    pub anchor: f64,
}

/// The loss of two texts for one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairLoss {
    Dpo,
    ReferenceFreeDpo,
    Orpo,
}

/// The loss of a text that was liked or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleLoss {
    /// For small batches, where KTO's `z₀` is mere noise.
    Unpaired,
    Kto,
}

impl Default for Preference {
    fn default() -> Self {
        Self { beta: 0.1, pairs: PairLoss::Dpo, singles: SingleLoss::Unpaired, smoothing: 0.0, anchor: 0.0 }
    }
}

impl Preference {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        above_0("beta", self.beta)?;
        in_range("smoothing", self.smoothing, 0.0..=0.5, "from 0 to 0.5")?;
        in_range("anchor", self.anchor, 0.0..=f64::MAX, "0 or above")
    }

    pub(crate) fn hash_into(&self, hash: &mut Sha256) {
        hash.update(self.beta.to_le_bytes());
        hash.update([self.pairs as u8, self.singles as u8]);
        // Left out where they are not set: checkpoints of versions that did not know them go on.
        if self.smoothing != 0.0 || self.anchor != 0.0 {
            hash.update(self.smoothing.to_le_bytes());
            hash.update(self.anchor.to_le_bytes());
        }
    }

    /// The loss of a pair, and its derivatives by the two log-probabilities.
    pub(crate) fn pair(&self, chosen: Text, rejected: Text) -> (f64, [f64; 2]) {
        match self.pairs {
            PairLoss::Dpo => {
                let (cost, [by_chosen, by_rejected]) = self.margin(chosen.logprob - chosen.base - rejected.logprob + rejected.base);
                (cost - self.anchor * chosen.mean(), [by_chosen - self.anchor / chosen.tokens, by_rejected])
            }
            PairLoss::ReferenceFreeDpo => self.margin(chosen.logprob - rejected.logprob),
            PairLoss::Orpo => {
                let (likely, unlikely) = (chosen.mean(), rejected.mean());
                let odds = likely - unlikely - (ln_complement(likely) - ln_complement(unlikely));
                let pull = self.beta * sigmoid(-odds);
                let by_chosen = -1.0 - pull / complement(likely);
                let by_rejected = pull / complement(unlikely);
                (-likely + self.beta * softplus(-odds), [by_chosen / chosen.tokens, by_rejected / rejected.tokens])
            }
        }
    }

    /// The loss of a single text, and its derivative by the log-probability; `shift` is KTO's `z₀`.
    pub(crate) fn single(&self, text: Text, liked: bool, shift: f64) -> (f64, f64) {
        let share = sigmoid(self.beta * (text.logprob - text.base - shift));
        let slope = self.beta * share * (1.0 - share);
        if liked { (1.0 - share, -slope) } else { (share, slope) }
    }

    /// What judged texts that were kept back say: `−log` of how surely a liked one is told from another one, over all such two.
    ///
    /// That is DPO's loss of two texts of different prompts. KTO's own loss would hide what was learned: a training makes all texts
    /// likelier or unlikelier by far more than liked ones over others, and of one text up and one down that gives 0.5 whatever was
    /// learned; its `z₀` is no help over a few texts. Here what all have in common falls out, by token, as lengths differ. Where
    /// all were judged alike there is nothing to tell apart, and it is `−log σ(±β r)`.
    pub(crate) fn told_apart(&self, texts: &[KeptBack]) -> f64 {
        let total: f64 = texts.iter().map(|text| text.weight).sum();
        let length = texts.iter().map(|text| text.weight * text.tokens).sum::<f64>() / total;
        let of = |liked: bool| texts.iter().filter(move |text| text.liked == liked);
        let (mut loss, mut weights) = (0.0, 0.0);
        for liked in of(true) {
            for other in of(false) {
                let margin = length * (liked.reward / liked.tokens - other.reward / other.tokens);
                loss += liked.weight * other.weight * softplus(-self.beta * margin);
                weights += liked.weight * other.weight;
            }
        }
        if weights > 0.0 {
            return loss / weights;
        }
        let alone = |text: &KeptBack| text.weight * softplus(self.beta * if text.liked { -text.reward } else { text.reward });
        texts.iter().map(alone).sum::<f64>() / total
    }

    fn margin(&self, margin: f64) -> (f64, [f64; 2]) {
        let margin = self.beta * margin;
        let slope = self.beta * (sigmoid(-margin) - self.smoothing);
        // −(1 − ε) log σ(m) − ε log σ(−m), as log σ(m) − log σ(−m) = m.
        (softplus(-margin) + self.smoothing * margin, [-slope, slope])
    }
}

/// A judged text that only measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptBack {
    pub liked: bool,
    pub weight: f64,
    /// How much likelier its answer is than under the bare base: `r`.
    pub reward: f64,
    /// Of the answer.
    pub tokens: f64,
}

/// What a loss knows of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    /// Of the answer, its tokens' sum.
    pub logprob: f64,
    /// The same under the bare base; 0 where no loss asks for it.
    pub base: f64,
    /// Of the answer.
    pub tokens: f64,
}

impl Text {
    fn mean(&self) -> f64 {
        self.logprob / self.tokens
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + eˣ)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 − eˡ` for a log-probability, kept off 0: a text that is certain has infinite odds.
fn complement(logprob: f64) -> f64 {
    -logprob.min(-1e-6).exp_m1()
}

fn ln_complement(logprob: f64) -> f64 {
    complement(logprob).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slope_is_the_derivative_of_its_loss() {
        const STEP: f64 = 1e-5;
        let text = |logprob: f64, base: f64, tokens: f64| Text { logprob, base, tokens };
        let (chosen, rejected) = (text(-9.0, -8.5, 5.0), text(-12.0, -14.0, 7.0));
        let plain = [PairLoss::Dpo, PairLoss::ReferenceFreeDpo, PairLoss::Orpo].map(|pairs| (pairs, 0.0, 0.0));
        for (pairs, smoothing, anchor) in
            plain.into_iter().chain([(PairLoss::Dpo, 0.2, 0.0), (PairLoss::Dpo, 0.0, 0.7), (PairLoss::Dpo, 0.2, 0.7)])
        {
            let preference = Preference { beta: 0.3, pairs, smoothing, anchor, ..Preference::default() };
            let cost = |a: f64, b: f64| {
                let moved = |text: Text, by: f64| Text { logprob: text.logprob + by, ..text };
                preference.pair(moved(chosen, a), moved(rejected, b)).0
            };
            let (_, slopes) = preference.pair(chosen, rejected);
            let differences = [(cost(STEP, 0.0) - cost(-STEP, 0.0)), (cost(0.0, STEP) - cost(0.0, -STEP))].map(|d| d / (2.0 * STEP));
            for (slope, difference) in slopes.iter().zip(differences) {
                assert!((slope - difference).abs() < 1e-8, "{pairs:?}, {smoothing}, {anchor}: {slope} against {difference}");
            }
        }
        for liked in [true, false] {
            let preference = Preference { beta: 0.3, singles: SingleLoss::Kto, ..Preference::default() };
            let cost = |by: f64| preference.single(Text { logprob: -9.0 + by, ..chosen }, liked, 0.4).0;
            let difference = (cost(STEP) - cost(-STEP)) / (2.0 * STEP);
            assert!((preference.single(chosen, liked, 0.4).1 - difference).abs() < 1e-8, "liked {liked}");
        }
    }

    #[test]
    fn a_certain_text_costs_something_finite() {
        let certain = Text { logprob: 0.0, base: 0.0, tokens: 4.0 };
        let preference = Preference { pairs: PairLoss::Orpo, ..Preference::default() };
        let (cost, slopes) = preference.pair(certain, certain);
        assert!(cost.is_finite() && slopes.iter().all(|slope| slope.is_finite()), "{cost} {slopes:?}");
    }

    fn told_apart(texts: &[(bool, f64, f64)]) -> f64 {
        let text = |&(liked, reward, tokens)| KeptBack { liked, weight: 1.0, reward, tokens };
        Preference { beta: 0.1, ..Preference::default() }.told_apart(&texts.iter().map(text).collect::<Vec<_>>())
    }

    #[test]
    fn what_all_texts_have_in_common_does_not_count_and_what_tells_them_apart_does() {
        let nothing = told_apart(&[(true, 0.0, 100.0), (false, 0.0, 80.0)]);
        assert!((nothing - std::f64::consts::LN_2).abs() < 1e-12, "a coin: {nothing}");
        // By 0.3 a token, whatever the length.
        let drift = told_apart(&[(true, 30.0, 100.0), (false, 24.0, 80.0)]);
        assert!((drift - nothing).abs() < 1e-12, "all of them likelier alike: {drift}");
        let learned = |by: f64| told_apart(&[(true, 30.0 + by, 100.0), (false, 24.0, 80.0)]);
        assert!(learned(5.0) < learned(1.0) && learned(1.0) < drift && drift < learned(-1.0));
    }

    #[test]
    fn texts_that_were_all_liked_or_all_not_are_measured_alone() {
        assert!((told_apart(&[(true, 10.0, 50.0)]) - softplus(-1.0)).abs() < 1e-12);
        assert!((told_apart(&[(false, 10.0, 50.0)]) - softplus(1.0)).abs() < 1e-12);
    }
}
