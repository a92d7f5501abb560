//! What is learned from: examples (SFT), or judgements about texts ([`Preference`]).

use crate::data::{Split, hex};
use crate::preference::{KeptBack, Text};
use crate::run::Desk;
use crate::tuned::Tuned;
use crate::{Dataset, Example, PairLoss, Preference, SingleLoss, Stop, TrainError};
use sha2::{Digest, Sha256};

/// What a person thought of one or two texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// Two texts for one prompt; counts by the weight of `chosen`.
    Pair {
        chosen: Example,
        rejected: Example,
    },
    Single {
        text: Example,
        liked: bool,
    },
}

/// Judgements to learn from, and others that only measure. Both kinds may be mixed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgements {
    pub train: Vec<Judgement>,
    pub heldout: Vec<Judgement>,
}

impl Judgements {
    /// SHA-256 over everything in it, in hexadecimal.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        for judgements in [&self.train, &self.heldout] {
            hash.update((judgements.len() as u64).to_le_bytes());
            for judgement in judgements {
                hash.update(match judgement {
                    Judgement::Pair { .. } => b"pair",
                    Judgement::Single { liked: true, .. } => b"good",
                    Judgement::Single { liked: false, .. } => b"poor",
                });
                let texts = judgement.texts().into_iter().cloned().collect();
                hash.update(Dataset { train: texts, heldout: Vec::new() }.identity());
            }
        }
        hex(&hash.finalize())
    }
}

impl Judgement {
    pub(crate) fn texts(&self) -> Vec<&Example> {
        match self {
            Self::Pair { chosen, rejected } => vec![chosen, rejected],
            Self::Single { text, .. } => vec![text],
        }
    }
}

/// The data of a run, as its loss sees it.
pub(crate) struct Task<'a> {
    train: Vec<Item<'a>>,
    heldout: Vec<Item<'a>>,
    preference: Preference,
    identity: String,
}

/// One or two texts that cost something together.
struct Item<'a> {
    kind: Kind,
    texts: Vec<&'a Example>,
    /// With KTO its prompt and the answer of another text, where one fits: `z₀` is measured on these.
    mismatched: Option<Example>,
    /// Log-probability of each text and then of `mismatched` under the bare base, which never changes: asked once, when a loss
    /// first compares with it.
    base: Option<Vec<f64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Example,
    Pair,
    Single { liked: bool },
}

impl<'a> Task<'a> {
    pub fn of_examples(data: &'a Dataset) -> Self {
        let items = |examples: &'a [Example]| examples.iter().map(|example| Item::new(Kind::Example, vec![example])).collect();
        Self { train: items(&data.train), heldout: items(&data.heldout), preference: Preference::default(), identity: data.identity() }
    }

    pub fn of_judgements(data: &'a Judgements, preference: Preference) -> Self {
        let item = |judgement: &'a Judgement| {
            let kind = match judgement {
                Judgement::Pair { .. } => Kind::Pair,
                Judgement::Single { liked, .. } => Kind::Single { liked: *liked },
            };
            Item::new(kind, judgement.texts())
        };
        let items = |judgements: &'a [Judgement]| judgements.iter().map(item).collect();
        Self { train: items(&data.train), heldout: items(&data.heldout), preference, identity: data.identity() }
    }

    /// # Errors
    /// `NoExamples`, or `Example` for the first one that this base or objective cannot take.
    pub fn check(&self, tuned: &dyn Tuned) -> Result<(), TrainError> {
        if self.train.is_empty() {
            return Err(TrainError::NoExamples);
        }
        for (split, items) in [(Split::Train, &self.train), (Split::Heldout, &self.heldout)] {
            for (index, item) in items.iter().enumerate() {
                let alone = matches!(item.kind, Kind::Single { .. }) && self.preference.pairs == PairLoss::Orpo;
                let problem = item.texts.iter().find_map(|text| tuned.fault(text));
                if let Some(problem) = problem.or(alone.then(|| "ORPO compares two texts, and this one is alone".to_owned())) {
                    return Err(TrainError::Example { split, index, problem });
                }
            }
        }
        Ok(())
    }

    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// What a batch is drawn from.
    pub fn len(&self) -> usize {
        self.train.len()
    }

    pub fn has_heldout(&self) -> bool {
        !self.heldout.is_empty()
    }

    /// Finds the texts for KTO's `z₀`, and asks what the bare base thinks of all held-out texts. Of the others it is asked when a
    /// batch first needs them: a pause loses nothing, and what no batch draws costs nothing.
    ///
    /// A text's log-probability has the same bits whichever texts go through the base with it, so a resumed run finds the same.
    pub fn begin(&mut self, tuned: &dyn Tuned, desk: &mut Desk) -> Result<(), Stop> {
        if self.preference.singles == SingleLoss::Kto {
            self.mismatch(tuned);
        }
        let all: Vec<usize> = (0..self.heldout.len()).collect();
        ask_base(&mut self.heldout, &all, &self.preference, tuned, desk)
    }

    /// Gives each single text the answer of the nearest one before it whose prompt is another, round the end, as far as that fits;
    /// where all prompts are one, that of any other text.
    ///
    /// Fixed for the whole run, as in TRL, so that the bare base is asked about each only once.
    fn mismatch(&mut self, tuned: &dyn Tuned) {
        let is_single = |item: &Item| matches!(item.kind, Kind::Single { .. });
        let singles: Vec<&Example> = self.train.iter().filter(|item| is_single(item)).map(|item| item.texts[0]).collect();
        let partner = |place: usize| {
            let text = singles[place];
            let before = || singles[..place].iter().rev().chain(singles[place + 1..].iter().rev());
            let with = |other: &&Example| Example { answer: other.answer.clone(), ..text.clone() };
            let fits = |text: &Example| tuned.fault(text).is_none();
            before().filter(|other| other.prompt != text.prompt).map(with).find(fits).or_else(|| before().map(with).find(fits))
        };
        let mismatched: Vec<Option<Example>> = (0..singles.len()).map(partner).collect();
        for (item, mismatched) in self.train.iter_mut().filter(|item| is_single(item)).zip(mismatched) {
            item.mismatched = mismatched;
        }
    }

    /// Mean loss over what is held out, by weight; without `weights`, that of the bare base. Single texts are told apart instead.
    pub fn heldout_loss(&self, tuned: &dyn Tuned, weights: Option<&[f32]>, desk: &mut Desk) -> Result<f64, Stop> {
        let total: f64 = self.heldout.iter().map(Item::weight).sum();
        let (mut loss, mut singles) = (0.0, Vec::new());
        for chunk in chunks(self.heldout.iter().collect(), tuned, desk.rows_at_once) {
            let found = tuned.log_probabilities(weights, &texts(&chunk), &mut desk.workspace, desk.control)?;
            for (item, found) in by_item(&chunk, &found) {
                match item.kind {
                    Kind::Single { liked } => {
                        let (reward, tokens) = (found[0] - item.base_of(0), item.texts[0].answer.len() as f64);
                        singles.push(KeptBack { liked, weight: item.weight(), reward, tokens });
                    }
                    Kind::Example | Kind::Pair => loss += item.weight() / total * item.cost(&self.preference, 0.0, found).0,
                }
            }
        }
        if !singles.is_empty() {
            let share = singles.iter().map(|text| text.weight).sum::<f64>() / total;
            loss += share * self.preference.told_apart(&singles);
        }
        Ok(loss)
    }

    /// The loss of a batch, whose gradient is added to `gradient`, and the rows that it took.
    pub fn loss_and_gradient(
        &mut self,
        tuned: &dyn Tuned,
        weights: &[f32],
        batch: &[usize],
        step: u64,
        desk: &mut Desk,
        gradient: &mut [f32],
    ) -> Result<(f64, usize), Stop> {
        ask_base(&mut self.train, batch, &self.preference, tuned, desk)?;
        let items: Vec<&Item> = batch.iter().map(|index| &self.train[*index]).collect();
        let total: f64 = items.iter().map(|item| item.weight()).sum();
        let shift = shift(&items, tuned, weights, desk)?;
        let (mut loss, mut rows) = (0.0, 0);
        for (part, chunk) in chunks(items, tuned, desk.rows_at_once).into_iter().enumerate() {
            let texts = texts(&chunk);
            rows += texts.iter().map(|text| tuned.rows(text)).sum::<usize>();
            let mut slopes = |found: &[f64]| {
                let mut slopes = Vec::with_capacity(found.len());
                for (item, found) in by_item(&chunk, found) {
                    let (cost, by_text) = item.cost(&self.preference, shift, found);
                    let share = item.weight() / total;
                    loss += share * cost;
                    slopes.extend(by_text.into_iter().map(|slope| share * slope));
                }
                slopes
            };
            // Parts of an update are far fewer than 2²⁰.
            let pass = step << 20 | part as u64;
            tuned.gradient(weights, &texts, pass, &mut slopes, &mut desk.workspace, desk.control, gradient)?;
        }
        Ok((loss, rows))
    }
}

/// Asks the bare base about those of the items at `places` that it was not asked about yet, where a loss compares with it.
fn ask_base(items: &mut [Item], places: &[usize], preference: &Preference, tuned: &dyn Tuned, desk: &mut Desk) -> Result<(), Stop> {
    let unknown = |place: &usize| items[*place].base.is_none() && items[*place].compares(preference);
    let places: Vec<usize> = places.iter().copied().filter(unknown).collect();
    let texts: Vec<&Example> = places.iter().flat_map(|place| items[*place].all_texts()).collect();
    let mut found = log_probabilities(tuned, None, &texts, desk)?.into_iter();
    for place in places {
        let count = items[place].all_texts().count();
        items[place].base = Some(found.by_ref().take(count).collect());
    }
    Ok(())
}

/// KTO's `z₀` over these items; 0 for every other loss.
fn shift(items: &[&Item], tuned: &dyn Tuned, weights: &[f32], desk: &mut Desk) -> Result<f64, Stop> {
    let (texts, base): (Vec<&Example>, Vec<f64>) =
        items.iter().filter_map(|item| Some((item.mismatched.as_ref()?, item.base_of(item.texts.len())))).unzip();
    let found = log_probabilities(tuned, Some(weights), &texts, desk)?;
    let sum: f64 = found.iter().zip(&base).map(|(found, base)| found - base).sum();
    Ok((sum / texts.len().max(1) as f64).max(0.0))
}

/// Log-probabilities of any number of texts, in passes of at most as many rows as may go at once.
fn log_probabilities(tuned: &dyn Tuned, weights: Option<&[f32]>, texts: &[&Example], desk: &mut Desk) -> Result<Vec<f64>, Stop> {
    let mut found = Vec::with_capacity(texts.len());
    let items: Vec<Item> = texts.iter().map(|text| Item::new(Kind::Example, vec![text])).collect();
    for chunk in chunks(items.iter().collect(), tuned, desk.rows_at_once) {
        found.extend(tuned.log_probabilities(weights, &self::texts(&chunk), &mut desk.workspace, desk.control)?);
    }
    Ok(found)
}

impl<'a> Item<'a> {
    fn new(kind: Kind, texts: Vec<&'a Example>) -> Self {
        Self { kind, texts, mismatched: None, base: None }
    }

    fn all_texts(&self) -> impl Iterator<Item = &Example> {
        self.texts.iter().copied().chain(&self.mismatched)
    }

    /// What the bare base thinks of one of [`Self::all_texts`]; 0 where no loss asks for it.
    fn base_of(&self, text: usize) -> f64 {
        self.base.as_ref().map_or(0.0, |base| base[text])
    }

    /// Whether its loss asks what the bare base thinks of it.
    fn compares(&self, preference: &Preference) -> bool {
        match self.kind {
            Kind::Example => false,
            Kind::Pair => preference.pairs == PairLoss::Dpo,
            Kind::Single { .. } => true,
        }
    }

    /// What it counts in a mean: examples by their tokens, judgements by themselves.
    fn weight(&self) -> f64 {
        match self.kind {
            Kind::Example => self.texts[0].total_weight(),
            Kind::Pair | Kind::Single { .. } => f64::from(self.texts[0].weight),
        }
    }

    /// The loss, and its derivatives by the log-probability of each text.
    fn cost(&self, preference: &Preference, shift: f64, logprobs: &[f64]) -> (f64, Vec<f64>) {
        let text = |index: usize| {
            let tokens = self.texts[index].answer.len() as f64;
            Text { logprob: logprobs[index], base: self.base_of(index), tokens }
        };
        match self.kind {
            Kind::Example => {
                let Text { logprob, tokens, .. } = text(0);
                (-logprob / tokens, vec![-1.0 / tokens])
            }
            Kind::Pair => {
                let (cost, slopes) = preference.pair(text(0), text(1));
                (cost, slopes.to_vec())
            }
            Kind::Single { liked } => {
                let (cost, slope) = preference.single(text(0), liked, shift);
                (cost, vec![slope])
            }
        }
    }
}

/// Cuts items into passes of at most `rows` rows each; the texts of an item stay together, and a longer one goes alone.
fn chunks<'i, 'a>(items: Vec<&'i Item<'a>>, tuned: &dyn Tuned, rows: usize) -> Vec<Vec<&'i Item<'a>>> {
    let mut chunks: Vec<Vec<&Item>> = Vec::new();
    let mut filled = 0;
    for item in items {
        let length: usize = item.texts.iter().map(|text| tuned.rows(text)).sum();
        match chunks.last_mut() {
            Some(chunk) if filled + length <= rows => {
                chunk.push(item);
                filled += length;
            }
            _ => {
                chunks.push(vec![item]);
                filled = length;
            }
        }
    }
    chunks
}

fn texts<'a>(items: &[&Item<'a>]) -> Vec<&'a Example> {
    items.iter().flat_map(|item| item.texts.iter().copied()).collect()
}

/// Splits values of texts by the items that they belong to.
fn by_item<'i, 'a, 'v>(items: &'i [&'i Item<'a>], mut values: &'v [f64]) -> impl Iterator<Item = (&'i Item<'a>, &'v [f64])> {
    items.iter().map(move |item| {
        let (own, rest) = values.split_at(item.texts.len());
        values = rest;
        (*item, own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuned::Slopes;
    use crate::{Control, Workspace};
    use std::sync::Mutex;

    /// A base that remembers which texts it was asked about without weights; texts of six tokens are too long for it.
    #[derive(Default)]
    struct Counting {
        bare: Mutex<Vec<Example>>,
    }

    impl Tuned for Counting {
        fn fault(&self, text: &Example) -> Option<String> {
            (text.tokens() >= 6).then(|| "too long".to_owned())
        }

        fn rows(&self, text: &Example) -> usize {
            text.tokens()
        }

        fn log_probabilities(&self, weights: Option<&[f32]>, texts: &[&Example], _: &mut Workspace, _: &Control) -> Result<Vec<f64>, Stop> {
            if weights.is_none() {
                self.bare.lock().unwrap().extend(texts.iter().copied().cloned());
            }
            let likely = if weights.is_some() { -1.0 } else { -1.5 };
            Ok(texts.iter().map(|text| likely * text.answer.len() as f64).collect())
        }

        fn gradient(
            &self,
            _: &[f32],
            texts: &[&Example],
            _: u64,
            slopes: Slopes,
            _: &mut Workspace,
            _: &Control,
            _: &mut [f32],
        ) -> Result<(), Stop> {
            slopes(&texts.iter().map(|text| -(text.answer.len() as f64)).collect::<Vec<_>>());
            Ok(())
        }
    }

    fn text(prompt: u32, answer: &[u32]) -> Example {
        Example { prompt: vec![prompt], answer: answer.to_vec(), weight: 1.0 }
    }

    fn single(prompt: u32, answer: &[u32]) -> Judgement {
        Judgement::Single { text: text(prompt, answer), liked: true }
    }

    fn desk(control: &Control) -> Desk<'_> {
        Desk { workspace: Workspace::default(), control, rows_at_once: 8 }
    }

    fn kto() -> Preference {
        Preference { singles: SingleLoss::Kto, ..Preference::default() }
    }

    #[test]
    fn the_bare_base_is_asked_about_each_text_and_pairing_once_over_all_epochs() {
        let pair = Judgement::Pair { chosen: text(4, &[10]), rejected: text(4, &[11, 12]) };
        let data =
            Judgements { train: vec![single(1, &[20, 21]), single(2, &[22]), single(3, &[23]), pair], heldout: vec![single(5, &[24])] };
        let (base, control) = (Counting::default(), Control::default());
        let (mut task, mut desk) = (Task::of_judgements(&data, kto()), desk(&control));
        task.begin(&base, &mut desk).unwrap();
        assert_eq!(base.bare.lock().unwrap().len(), 1, "at first about what is held out only");
        let mut losses = Vec::new();
        for epoch in [[[0, 1], [2, 3]], [[3, 0], [1, 2]], [[0, 1], [2, 3]]] {
            for (step, batch) in epoch.iter().enumerate() {
                let (loss, _) = task.loss_and_gradient(&base, &[], batch, step as u64, &mut desk, &mut []).unwrap();
                losses.push(loss);
            }
        }
        // Two texts of a pair, three single ones with a pairing each, one held out.
        assert_eq!(base.bare.lock().unwrap().len(), 2 + 3 * 2 + 1);
        assert_eq!(losses[..2], losses[4..], "the same loss from what was kept");
    }

    #[test]
    fn kto_pairs_a_prompt_with_the_answer_to_another_prompt_that_fits() {
        let long = [30, 31, 32, 33, 34];
        let data = Judgements {
            train: vec![single(1, &[20]), single(1, &[21]), single(2, &long), Judgement::Single { text: text(3, &[23]), liked: false }],
            heldout: Vec::new(),
        };
        let mut task = Task::of_judgements(&data, kto());
        let answers = |task: &Task| task.train.iter().map(|item| item.mismatched.as_ref().map(|m| m.answer[0])).collect::<Vec<_>>();
        task.mismatch(&Counting::default());
        assert_eq!(answers(&task), [Some(23), Some(23), Some(21), Some(21)], "the nearest before it that fits, not of its own prompt");
        assert!(task.train.iter().all(|item| item.mismatched.as_ref().is_some_and(|m| m.prompt == item.texts[0].prompt)));

        let one_prompt = Judgements { train: vec![single(1, &[20]), single(1, &[21])], heldout: Vec::new() };
        let mut task = Task::of_judgements(&one_prompt, kto());
        task.mismatch(&Counting::default());
        assert_eq!(answers(&task), [Some(21), Some(20)], "any other text where all prompts are one");

        let alone = Judgements { train: vec![single(1, &[20])], heldout: Vec::new() };
        let mut task = Task::of_judgements(&alone, kto());
        task.mismatch(&Counting::default());
        assert_eq!(answers(&task), [None]);
    }
}
