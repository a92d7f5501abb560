//! Users that were written down before taste was first improved, and looked at since.

use super::{Kind, Seen, User};

/// Looked at while taste was improved.
pub const OTHERS: [User; 14] = [
    User::new("questions", Kind::Featured, |seen| seen.text.matches('?').count() as f64 + 0.01 * seen.spoken()),
    User::new("long sentences", Kind::Featured, |seen| seen.sentence_length()),
    User::new("past over present", Kind::Featured, |seen| {
        seen.rate("was were had did went said came saw took") - seen.rate("is are has does goes says comes sees takes am")
    }),
    User::new("quiet", Kind::Unfeatured, |seen| {
        seen.rate("slowly quiet quietly softly still silent silence sat waited listened slept gentle gently")
    }),
    User::new("animals", Kind::Unfeatured, |seen| {
        seen.rate("dog dogs cat cats horse bird birds fox wolf goat hen mouse bear cow fish crow owl sheep rabbit snake animal animals")
    }),
    User::new("colours", Kind::Unfeatured, |seen| {
        seen.rate("red blue green yellow white black grey gray brown golden silver purple orange pink colour color")
    }),
    User::new("bodies", Kind::Unfeatured, |seen| {
        seen.rate("hand hands eyes eye face head arm arms hair foot feet finger fingers mouth heart back legs shoulder")
    }),
    User::new("uneven sentences", Kind::Unfeatured, |seen| {
        let n = seen.sentences.len().max(1) as f64;
        let mean = seen.words.len() as f64 / n;
        (seen.sentences.iter().map(|words| (*words as f64 - mean).powi(2)).sum::<f64>() / n).sqrt()
    }),
    User::new("comparisons", Kind::Unfeatured, |seen| seen.rate("like as") + 0.001 * seen.words.len() as f64),
    User::new("dialogue at the end", Kind::Unfeatured, |seen| {
        let half = seen.text.char_indices().nth(seen.text.chars().count() / 2).map_or(0, |(at, _)| at);
        Seen::new(&seen.text[half..]).spoken()
    }),
    User::new("night and dialogue", Kind::Unfeatured, |seen| {
        f64::min(seen.rate("night dark moon stars midnight candle lamp sleep dream shadow evening"), 1.5)
            + f64::min(8.0 * seen.spoken(), 1.5)
    }),
    User::new("middle length", Kind::Unfeatured, |seen| -(seen.words.len() as f64 - 115.0).abs()),
    User { kind: Kind::Changing, ..User::new("long, then short", Kind::Changing, |seen| seen.words.len() as f64) },
    User {
        slips: 0.25,
        ..User::new("roads and places, 25% slips", Kind::Unfeatured, |seen| {
            seen.rate("road street town village city forest hill mountain field valley path bridge castle woods gate station garden")
        })
    },
];
