//! Prompt, fluency, genre, repetition, intervals.

use crate::stories::{Random, STORIES};
use domain::{Genre, GenreMix};
use std::collections::BTreeMap;
use taste::*;

#[test]
fn a_story_is_nearer_to_its_own_prompt_than_to_another() {
    let mut random = Random::new(1);
    let (mut scores, mut own) = (Vec::new(), Vec::new());
    for (at, story) in STORIES.iter().enumerate() {
        let other = &STORIES[(at + 1 + random.below(STORIES.len() - 1)) % STORIES.len()];
        scores.extend([on_prompt(&story.prompt, &story.text, None), on_prompt(&other.prompt, &story.text, None)]);
        own.extend([true, false]);
    }
    let reached = auc(&scores, &own).expect("both kinds are there");
    println!("on_prompt, own against another prompt: AUC {reached:.3}");
    assert!(reached >= 0.93, "the stems of a prompt tell its story from another, reached {reached:.3}");
}

#[test]
fn prompt_words_are_found_in_other_forms() {
    let text = "The wizards were studying. One of them had discovered a spell in an old book.";
    assert!(on_prompt("A young wizard discovers an ancient spellbook", text, None) > 0.5);
    assert_eq!(on_prompt("A young wizard discovers an ancient spellbook", "Nina baked bread for the market.", None), 0.0);
    assert_eq!(on_prompt("", text, None), 1.0, "no prompt asks for nothing");
    assert_eq!(on_prompt("what about it", text, None), 1.0, "neither do words without content");
}

#[test]
fn a_text_near_in_meaning_is_on_its_prompt_without_its_words() {
    let (prompt, text) = ("A young wizard discovers an ancient spellbook", "The apprentice found a tome of old charms.");
    let score = |nearness: f64| on_prompt(prompt, text, Some(nearness));
    assert!(score(0.6) > on_prompt(prompt, text, None) + 0.3 && score(0.6) > score(0.3));
    assert_eq!(score(-1.0), 0.3 * on_prompt(prompt, text, None), "farther than unrelated is unrelated");
    assert_eq!(score(f64::NAN), on_prompt(prompt, text, None), "what is not a number says nothing");
    assert_eq!(on_prompt("", text, Some(-1.0)), 1.0, "no prompt asks for nothing");
}

#[test]
fn genres_are_told_apart_on_stories_not_learned_from() {
    let (mut right, mut all) = (0, 0);
    for story in STORIES.iter().filter(|story| story.genres.0.len() == 1) {
        let read = genre_probabilities(&story.text);
        assert!((read.values().sum::<f64>() - 1.0).abs() < 1e-9, "probabilities sum to one");
        right += u32::from(GenreMix(read).top() == story.genres.top());
        all += 1;
    }
    let accuracy = f64::from(right) / f64::from(all);
    println!("genre accuracy on {all} held-out stories: {accuracy:.3} (chance 0.125)");
    assert!(accuracy >= 0.50, "reached {accuracy:.3}");
}

#[test]
fn a_text_fits_the_mix_it_reads_like() {
    let text = "The dragon folded its wings. The wizard raised his staff, and the spell woke the old castle of the king.";
    let mix = |genres: &[(Genre, f64)]| GenreMix(BTreeMap::from_iter(genres.iter().copied()));
    let fantasy = genre_fit(&mix(&[(Genre::Fantasy, 1.0)]), text);
    assert!(fantasy > genre_fit(&mix(&[(Genre::Romance, 1.0)]), text) + 0.3);
    assert_eq!(fantasy, genre_fit(&mix(&[(Genre::Fantasy, 70.0)]), text), "only proportions count");
    assert_eq!(genre_fit(&GenreMix::default(), text), 1.0, "any genre fits no sliders");
    assert_eq!(genre_fit(&mix(&[(Genre::Fantasy, f64::NAN)]), text), 1.0);
}

#[test]
fn fluency_falls_with_unlikely_and_with_looping_text() {
    assert!(fluency(-1.5, 0.0) > fluency(-2.7, 0.0) && fluency(-2.7, 0.0) > fluency(-4.0, 0.0));
    assert!((fluency(-2.7, 0.0) - 0.60).abs() < 0.01 && (fluency(-1.5, 0.0) - 0.94).abs() < 0.01, "the figures of its documentation");
    assert!(fluency(-0.3, 0.6) < fluency(-2.7, 0.01), "a loop is likely, but not fluent");
    assert!((0.0..=1.0).contains(&fluency(f64::NAN, f64::NAN)));
}

#[test]
fn repetition_and_variety_count_word_groups() {
    assert_eq!(repetition("one two three four five six"), 0.0);
    // Ten words make seven 4-grams; the last two are "b c d e" and "c d e f"… by hand: a b c d e a b c d e has five distinct.
    assert!((repetition("a b c d e a b c d e") - 2.0 / 7.0).abs() < 1e-12);
    assert!((distinct_2(&["a b a b", "a b"]) - 2.0 / 4.0).abs() < 1e-12, "ab, ba of ab, ba, ab, ab");
    assert_eq!(distinct_2(&["", "word"]), 0.0);
}

#[test]
fn intervals_follow_wilson() {
    // Wilson's formula for 15 of 20 at z = 1.96, worked out by hand.
    let (rate, low, high) = wilson(15.0, 20.0);
    assert!((rate - 0.75).abs() < 1e-12 && (low - 0.5313).abs() < 5e-4 && (high - 0.8881).abs() < 5e-4, "{low} {high}");
    assert_eq!(wilson(0.0, 0.0), (0.0, 0.0, 1.0));
    assert_eq!(wilson(0.0, 10.0).1, 0.0);
}

#[test]
fn the_area_under_the_curve_counts_ties_half() {
    assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75), "the example of scikit-learn's roc_auc_score");
    assert_eq!(auc(&[1.0; 4], &[true, false, true, false]), Some(0.5));
    assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
}
