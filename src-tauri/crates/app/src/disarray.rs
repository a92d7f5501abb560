//! Texts to learn from that say no more to the base than their own words in any order would: words in disarray, a language that it
//! does not know, characters without sense.
//!
//! A text is held against itself, not against others: how likely a text is depends on its subject and its words (a page of Blake is
//! as unlikely to the built-in base as a shuffled story of its own, −10.4 and −11.0 a word), but read in its order Blake gains 1.1 a
//! token on his own words shuffled and the shuffled story nothing. Sound stories gain 5 to 6.

use crate::base::LoadedBase;
use crate::dataset::{FrozenDataset, JudgedText};
use crate::evaluate::built_in_probes;
use crate::pairs::PairSource;
use crate::shuffle::Shuffle;
use crate::{App, folder, lock};
use domain::{ApiError, BaseId, Disarray, GenreMix, Objective, Style};
use model::Adapters;
use model::bench::median;
use std::sync::Mutex;
use training::Control;

/// Texts that are looked at, evenly spread over all of them, and probe stories that say what is usual.
const LOOKED_AT: usize = 48;
const PROBES: usize = 8;

/// Words of a text that are read, and the fewest that say anything.
const WORDS: usize = 64;
const FEWEST_WORDS: usize = 12;

/// A text is in disarray that gains less than this share of what stories usually gain. For the built-in base that is 0.8 of 5.5 nats a
/// token; of 88 shuffled texts the one that gained most had 0.8, poems and contracts had 1.1 and more.
const LEAST_SHARE: f64 = 0.15;

/// A base that gains less than this by the order of English stories cannot tell, in nats a word.
const LEAST_USUAL: f64 = 1.0;

/// Openings that are shown.
const NAMED: usize = 3;

/// A text that is taught, with what it was written for.
pub(crate) struct Taught<'a> {
    prompt: &'a str,
    genres: &'a GenreMix,
    style: Option<Style>,
    text: &'a str,
}

impl<'a> From<&'a JudgedText> for Taught<'a> {
    fn from(judged: &'a JudgedText) -> Self {
        Self { prompt: &judged.prompt, genres: &judged.genres, style: judged.style, text: &judged.text }
    }
}

/// What a training teaches to write: liked texts, or the better ones of pairs. What it teaches to avoid may be as odd as it likes.
pub(crate) fn taught(dataset: &FrozenDataset, objective: Objective) -> Vec<Taught<'_>> {
    let pairs = dataset.pairs.as_ref().filter(|_| objective.learns_from_pairs());
    match pairs {
        Some(pairs) => {
            // What the app wrote itself is in order, and many such pairs would hide what the person brought.
            let own = pairs.train.iter().filter(|pair| pair.source != PairSource::Taste);
            own.map(|pair| Taught { prompt: &pair.prompt, genres: &pair.genres, style: pair.style, text: &pair.better }).collect()
        }
        None => dataset.train.iter().filter(|text| text.liked).map(Taught::from).collect(),
    }
}

/// What was found last, for whom: a plan is made anew with every number that the person changes.
#[derive(Default)]
pub(crate) struct Found(Mutex<Option<(String, Option<Disarray>)>>);

impl App {
    /// What a person should know of texts from elsewhere before they are learned from; empty where there is nothing.
    ///
    /// # Errors
    /// What the base reports.
    pub(crate) fn warning(&self, base: &BaseId, dataset: &FrozenDataset, objective: Objective) -> Result<String, ApiError> {
        let texts = taught(dataset, objective);
        let words: Vec<&str> = texts.iter().map(|text| text.text).collect();
        let key = folder::sha256_hex(format!("{base}\0{}", words.join("\0")).as_bytes());
        let mut last = lock(&self.disarray.0);
        let known = last.as_ref().filter(|(of, _)| *of == key).map(|(_, found)| found.clone());
        let found = match known {
            Some(found) => found,
            None => {
                let found = look(&*self.base(base)?, &texts, &Control::default())?;
                *last = Some((key, found.clone()));
                found
            }
        };
        Ok(found.filter(|found| found.texts > 0).map_or(String::new(), |found| {
            let what_then = if found.outweighs() {
                "They are learned from all the same; what comes of it stays on trial until you keep it."
            } else {
                "They are learned from all the same."
            };
            format!(
                "{} of {} texts looked at{} mean no more to {} than their words in any order would: words in disarray, perhaps, or \
                 another language. {what_then}",
                found.texts,
                found.looked_at,
                examples(&found),
                crate::train::base_name(base)
            )
        }))
    }
}

/// How many of the texts are in disarray, and how they begin. `None` where nothing can be said, or when `control` stops it.
///
/// # Errors
/// What the base reports.
pub(crate) fn look(base: &LoadedBase, texts: &[Taught<'_>], control: &Control) -> Result<Option<Disarray>, ApiError> {
    let probes = built_in_probes()?;
    let mut usual = Vec::new();
    for probe in probes.iter().take(PROBES) {
        if control.breathe().is_err() {
            return Ok(None);
        }
        usual.extend(gain(base, &Taught::from(probe))?);
    }
    let usual = median(usual);
    if usual < LEAST_USUAL {
        return Ok(None);
    }
    let mut found = Disarray { texts: 0, looked_at: 0, openings: Vec::new() };
    let step = texts.len().div_ceil(LOOKED_AT).max(1);
    for text in texts.iter().step_by(step) {
        if control.breathe().is_err() {
            return Ok(None);
        }
        let Some(gain) = gain(base, text)? else { continue };
        found.looked_at += 1;
        if gain < LEAST_SHARE * usual {
            found.texts += 1;
            if found.openings.len() < NAMED {
                found.openings.push(crate::write::opening(text.text, 60));
            }
        }
    }
    Ok((found.looked_at > 0).then_some(found))
}

/// How much likelier the first words of a text are in their order than in another one, in nats a word; `None` for a few words.
fn gain(base: &LoadedBase, text: &Taught<'_>) -> Result<Option<f64>, ApiError> {
    let words: Vec<&str> = text.text.split_whitespace().take(WORDS).collect();
    if words.len() < FEWEST_WORDS {
        return Ok(None);
    }
    let prefix = base.asked(text.genres, text.style, text.prompt)?;
    let room = base.context().saturating_sub(prefix.len());
    let likely = |words: &[&str]| -> Result<Option<f64>, ApiError> {
        let tokens = base.text(&words.join(" "));
        if tokens.len() > room {
            return Ok(None);
        }
        Ok(Some(base.score_with(&Adapters::default(), &prefix, &tokens)?.iter().map(|value| f64::from(*value)).sum()))
    };
    // The order depends on the words alone, so the same text always gets the same answer.
    let seed = words.iter().flat_map(|word| word.bytes()).fold(0, |seed: u32, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let shuffled = Shuffle::new(seed).of(&words);
    Ok(match (likely(&words)?, likely(&shuffled)?) {
        (Some(in_order), Some(in_any)) => Some((in_order - in_any) / words.len() as f64),
        _ => None,
    })
}

/// ` ("One opening …", "another one …")`, or nothing.
pub(crate) fn examples(disarray: &Disarray) -> String {
    let openings: Vec<String> = disarray.openings.iter().map(|opening| format!("“{opening}”")).collect();
    if openings.is_empty() { String::new() } else { format!(" ({})", openings.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::SplitPairs;
    use crate::pairs::JudgedPair;

    #[test]
    fn what_taste_wrote_does_not_hide_what_the_person_brought() {
        let pair = |source, better: &str| JudgedPair {
            source,
            prompt: "a fox".to_owned(),
            genres: GenreMix::default(),
            style: None,
            better: better.to_owned(),
            worse: "It rained.".to_owned(),
            weight: 1.0,
        };
        let train = vec![pair(PairSource::Edit, "den fox the cold in slept"), pair(PairSource::Taste, "The fox slept in the cold den.")];
        let dataset = FrozenDataset {
            base: BaseId::from("story"),
            train: Vec::new(),
            heldout: Vec::new(),
            pairs: Some(SplitPairs { train, heldout: Vec::new() }),
            to_write: 0,
            personal: None,
        };
        let found: Vec<&str> = taught(&dataset, Objective::Dpo).iter().map(|text| text.text).collect();
        assert_eq!(found, ["den fox the cold in slept"]);
        assert!(taught(&dataset, Objective::Sft).is_empty(), "pairs are not what liked texts teach");
    }
}
