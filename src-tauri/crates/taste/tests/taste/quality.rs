//! The quality score against a fixed set of good texts and of broken versions of them.

use crate::stories::{Random, STORIES, Story};
use domain::{FinishReason, GenreMix};
use taste::{GOOD_ENOUGH, Quality, QualityInput, auc, quality};

fn judge(prompt: &str, text: &str, genres: &GenreMix, finish: FinishReason, others: &[&str]) -> Quality {
    quality(&QualityInput { prompt, text, finish, mean_logprob: None, genres, style: None, others })
}

fn fired(quality: &Quality) -> Vec<&str> {
    quality.parts.iter().filter(|part| part.points < 0.0).map(|part| part.rule.as_str()).collect()
}

/// Ways in which small models and worse ones fail.
const FAULTS: [(&str, fn(&Story, &Story, &mut Random) -> String); 9] = [
    ("loop", |story, _, _| {
        let sentences: Vec<&str> = story.text.split_inclusive(". ").collect();
        format!("{}{}", sentences[0], sentences[sentences.len().min(2) - 1].repeat(12))
    }),
    ("stutter", |story, _, random| {
        let words: Vec<&str> = story.text.split(' ').collect();
        let at = random.below(words.len() - 10);
        format!("{} {}", words[..at + 8].join(" "), vec![words[at..at + 5].join(" "); 8].join(" ")) + "."
    }),
    ("cut", |story, _, random| {
        let words: Vec<&str> = story.text.split(' ').collect();
        let keep = words.len() / 2 + random.below(words.len() / 3);
        words[..keep].join(" ").trim_end_matches(['.', '!', '?', '"', '\n']).to_owned()
    }),
    ("copied prompt", |story, _, _| format!("{0}. {0}! {0}. {1} {0}.", story.prompt, &story.text.split(". ").next().unwrap_or(""))),
    ("off prompt", |_, other, _| other.text.clone()),
    ("noise", |story, _, random| {
        let noisy = |c: char, random: &mut Random| {
            if c.is_alphabetic() && random.chance(0.25) { (b'a' + random.below(26) as u8) as char } else { c }
        };
        story.text.chars().map(|c| noisy(c, random)).collect()
    }),
    ("salad", |story, _, random| {
        let mut words: Vec<&str> = story.text.split_whitespace().collect();
        random.shuffle(&mut words);
        words.join(" ") + "."
    }),
    ("broken bytes", |story, _, random| story.text.chars().map(|c| if random.chance(0.03) { '\u{fffd}' } else { c }).collect()),
    ("a few words", |story, _, _| story.text.split(' ').take(9).collect::<Vec<_>>().join(" ") + "."),
];

#[test]
fn good_texts_are_told_from_broken_ones() {
    let mut random = Random::new(7);
    let good: Vec<f64> =
        STORIES.iter().map(|story| judge(&story.prompt, &story.text, &story.genres, FinishReason::End, &[]).score).collect();
    let kept = good.iter().filter(|score| **score >= GOOD_ENOUGH).count() as f64 / good.len() as f64;
    let (mut scores, mut is_good) = (good.clone(), vec![true; good.len()]);
    println!("kept of {} good texts: {kept:.3}", good.len());
    for (name, spoil) in FAULTS {
        let bad: Vec<f64> = (0..STORIES.len())
            .step_by(4)
            .map(|at| {
                // Half of the collection away: another field of stories.
                let (story, other) = (&STORIES[at], &STORIES[(at + STORIES.len() / 2) % STORIES.len()]);
                judge(&story.prompt, &spoil(story, other, &mut random), &story.genres, FinishReason::End, &[]).score
            })
            .collect();
        let all: Vec<f64> = good.iter().chain(&bad).copied().collect();
        let labels: Vec<bool> = (0..all.len()).map(|at| at < good.len()).collect();
        let passed = bad.iter().filter(|score| **score >= GOOD_ENOUGH).count() as f64 / bad.len() as f64;
        println!("{name:14} AUC {:.3}, passes the filter {passed:.3}", auc(&all, &labels).expect("both kinds"));
        scores.extend(&bad);
        is_good.extend(vec![false; bad.len()]);
    }
    let reached = auc(&scores, &is_good).expect("both kinds");
    println!("all            AUC {reached:.3}");
    assert!(reached >= 0.95, "reached {reached:.3}");
    assert!(kept >= 0.9, "the filter keeps good stories, kept {kept:.3}");
}

const GOOD: &str = "Mara found the old brass key under the stairs. It was cold and small.\n\n\"What does it open?\" asked her brother.\n\n\
    \"Let us see,\" she said. They tried the cupboard, the clock and the cellar door. Nothing turned. At last Mara pushed it \
    into the keyhole of the piano. The lid rose, and the music their grandmother had locked away came softly out.";
const PROMPT: &str = "A girl finds a key to the old piano";

#[test]
fn the_known_heuristic_is_kept() {
    let parts = judge(PROMPT, GOOD, &GenreMix::default(), FinishReason::End, &[]);
    assert_eq!(fired(&parts), Vec::<&str>::new(), "a good text has no deductions");
    // 7.0 + 1.0 length + 0.5 sentences + 0.5 description + 0.3 dialogue (LEARNING.md).
    assert!((parts.score - 9.3).abs() < 1e-9);
    assert_eq!(parts.parts.len(), 5);
}

#[test]
fn each_fault_is_named_and_put_below_the_bar() {
    let any = GenreMix::default();
    let cut = &GOOD[..GOOD.len() - 30];
    let looped = format!("{GOOD} {}", "The lid rose, and the lid fell, and the lid rose. ".repeat(8));
    let cases = [
        ("cut-off ending", judge(PROMPT, cut, &any, FinishReason::Length, &[])),
        ("repetition", judge(PROMPT, &looped, &any, FinishReason::End, &[])),
        ("broken characters", judge(PROMPT, &GOOD.replace("the ", "th\u{fffd} "), &any, FinishReason::End, &[])),
        ("off the prompt", judge("Spaceship engineers repair a reactor", GOOD, &any, FinishReason::End, &[])),
        ("near-duplicate", judge(PROMPT, GOOD, &any, FinishReason::End, &["Something else.", GOOD])),
        ("very short", judge(PROMPT, "The old piano was locked.", &any, FinishReason::End, &[])),
        ("no words", judge(PROMPT, " … ", &any, FinishReason::End, &[])),
    ];
    for (rule, quality) in cases {
        assert!(fired(&quality).contains(&rule), "{rule} is named among {:?}", fired(&quality));
        assert!(quality.score < GOOD_ENOUGH, "{rule} alone drops the text, got {}", quality.score);
        assert!((0.0..=10.0).contains(&quality.score));
    }
    let unlikely = quality(&QualityInput {
        prompt: PROMPT,
        text: GOOD,
        finish: FinishReason::End,
        mean_logprob: Some(-5.0),
        genres: &any,
        style: None,
        others: &[],
    });
    assert_eq!(fired(&unlikely), ["unlikely under the base"]);
    assert!(unlikely.score < GOOD_ENOUGH);
}

#[test]
fn the_parts_add_up_to_the_score() {
    for story in STORIES.iter().take(50) {
        let quality = judge(&story.prompt, &story.text, &story.genres, FinishReason::Length, &[]);
        let sum: f64 = quality.parts.iter().map(|part| part.points).sum();
        assert!((sum.clamp(0.0, 10.0) - quality.score).abs() < 0.011, "what is shown explains the score");
    }
}
