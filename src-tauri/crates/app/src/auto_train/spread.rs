//! What a session asks for: genres × prompts × styles, spread evenly, in an order that the seed decides.

use crate::shuffle::Shuffle;
use domain::{ApiError, AutoTrainSettings, Genre, Style, StyleModifier};
use std::collections::BTreeMap;

/// Ten prompts for each genre.
const PROMPTS: &str = include_str!("../../../../../assets/auto-train/prompts.json");

/// The styles, each with what it asks for.
const MODIFIERS: &str = include_str!("../../../../../assets/auto-train/modifiers.json");

/// One example to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment {
    pub genre: Genre,
    pub style: Style,
    pub prompt: String,
}

/// The examples of a session in order.
///
/// Genres take turns, so that their counts differ by at most one however many there are. Within a genre the prompts take
/// turns too, and the style moves on with every example and once more after each round of prompts: with all ten styles,
/// no pair of prompt and style comes twice within a hundred examples of a genre.
pub(super) fn spread(settings: &AutoTrainSettings) -> Result<Vec<Assignment>, ApiError> {
    let mut order = Shuffle::new(settings.seed);
    let genres = order.of(&settings.genres);
    let styles = order.of(&settings.styles);
    let mut prompts = prompts()?;
    for of_genre in prompts.values_mut() {
        *of_genre = order.of(of_genre);
    }
    let assignment = |position: usize| {
        let (turn, round) = (position % genres.len(), position / genres.len());
        let genre = *genres.get(turn)?;
        let of_genre = prompts.get(&genre).filter(|of_genre| !of_genre.is_empty())?;
        // Genres start at different styles, so that a short session has several.
        let style = *styles.get((round + round / of_genre.len() + turn) % styles.len())?;
        Some(Assignment { genre, style, prompt: of_genre[round % of_genre.len()].clone() })
    };
    if genres.is_empty() || styles.is_empty() {
        return Err(ApiError::internal("a session without genres or styles"));
    }
    let all: Option<Vec<_>> = (0..settings.num_examples as usize).map(assignment).collect();
    all.ok_or_else(|| ApiError::internal("a genre has no prompts"))
}

pub(super) fn prompts() -> Result<BTreeMap<Genre, Vec<String>>, ApiError> {
    serde_json::from_str(PROMPTS).map_err(ApiError::internal)
}

pub(super) fn modifiers() -> Result<Vec<StyleModifier>, ApiError> {
    serde_json::from_str(MODIFIERS).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};
    use std::hash::Hash;

    fn settings(num_examples: u32, genres: &[Genre], styles: &[Style], seed: u32) -> AutoTrainSettings {
        let (genres, styles) = (genres.to_vec(), styles.to_vec());
        AutoTrainSettings { user_id: "me".into(), num_examples, genres, styles, store_in_memory: false, seed, n: 4, max_tokens: 150 }
    }

    /// The difference between the most and the least frequent of `all`.
    fn unevenness<T: Eq + Hash>(all: &[T], items: impl Iterator<Item = T>) -> usize {
        let mut counts = HashMap::new();
        items.for_each(|item| *counts.entry(item).or_insert(0usize) += 1);
        let count = |one: &T| counts.get(one).copied().unwrap_or(0);
        all.iter().map(count).max().unwrap() - all.iter().map(count).min().unwrap()
    }

    #[test]
    fn genres_prompts_and_styles_are_spread_evenly_whatever_the_number() {
        let some: [&[Genre]; 3] = [Genre::ALL, &[Genre::Fantasy, Genre::SciFi, Genre::Horror], &[Genre::Mystery]];
        for genres in some {
            for number in [1, 7, 8, 50, 80, 123, 500] {
                for styles in [Style::ALL, &Style::ALL[..3], &Style::ALL[..1]] {
                    let all = spread(&settings(number, genres, styles, 11)).unwrap();
                    assert_eq!(all.len(), number as usize);
                    assert!(unevenness(genres, all.iter().map(|one| one.genre)) <= 1, "{number} over {} genres", genres.len());
                    let prompts = prompts().unwrap();
                    for genre in genres {
                        let of_genre = all.iter().filter(|one| one.genre == *genre).map(|one| one.prompt.clone());
                        assert!(unevenness(&prompts[genre], of_genre) <= 1, "{number}: every prompt of a genre gets its turn");
                    }
                    let uneven = unevenness(styles, all.iter().map(|one| one.style));
                    assert!(uneven <= 2 * genres.len(), "{number} over {} genres: {uneven} between styles", genres.len());
                }
            }
        }
    }

    #[test]
    fn a_hundred_examples_of_a_genre_are_a_hundred_pairs_of_prompt_and_style() {
        let all = spread(&settings(100, &[Genre::Romance], Style::ALL, 5)).unwrap();
        let pairs: BTreeSet<_> = all.iter().map(|one| (one.prompt.clone(), one.style)).collect();
        assert_eq!(pairs.len(), 100);
        assert_eq!(unevenness(Style::ALL, all.iter().map(|one| one.style)), 0);
    }

    #[test]
    fn the_seed_decides_the_order_and_nothing_else_does() {
        let of = |seed| spread(&settings(50, Genre::ALL, Style::ALL, seed)).unwrap();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert_eq!(of(3)[..20], spread(&settings(20, Genre::ALL, Style::ALL, 3)).unwrap(), "more examples go on where fewer end");
    }

    #[test]
    fn there_are_eighty_different_prompts_of_one_sentence_and_ten_styles() {
        let prompts = prompts().unwrap();
        assert_eq!(prompts.keys().copied().collect::<Vec<_>>(), Genre::ALL);
        assert!(prompts.values().all(|of_genre| of_genre.len() == 10));
        let all: BTreeSet<_> = prompts.values().flatten().collect();
        assert_eq!(all.len(), 80, "no prompt comes twice");
        for prompt in all {
            assert!(prompt.ends_with('.') && !prompt.trim_end_matches('.').contains('.'), "one sentence: {prompt}");
            assert!((6..=20).contains(&prompt.split_whitespace().count()), "short: {prompt}");
        }
        assert_eq!(modifiers().unwrap().iter().map(|one| one.style).collect::<Vec<_>>(), Style::ALL);
    }

    #[test]
    fn no_prompt_is_that_of_a_story_held_out_for_measuring() {
        let words = |text: &str| -> BTreeSet<String> {
            let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3);
            words.map(str::to_lowercase).collect()
        };
        let held_out = include_str!("../../../../../assets/probes/stories.jsonl").lines().filter(|line| !line.trim().is_empty());
        let held_out: Vec<serde_json::Value> = held_out.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(held_out.len() > 20);
        for prompt in prompts().unwrap().values().flatten() {
            for probe in &held_out {
                let (ours, theirs) = (words(prompt), words(probe["prompt"].as_str().unwrap()));
                let shared = ours.intersection(&theirs).count() as f64 / ours.union(&theirs).count() as f64;
                assert!(shared < 0.4, "\"{prompt}\" is too close to \"{}\"", probe["prompt"]);
            }
        }
    }
}
