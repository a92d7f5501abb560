//! Verdicts in words: what a tag or a comment says when no thumb was given.

const POSITIVE: [&str; 8] = ["pos", "good", "great", "+1", "accept", "helpful", "correct", "like"];
const NEGATIVE: [&str; 7] = ["neg", "bad", "wrong", "worse", "-1", "reject", "dislike"];

/// The verdict in tags and comments: 1, -1, or `None` when they say nothing or as much for as against.
///
/// Matches whole words only, so "incorrect" is not "correct". A *not* (or *n't*, *never*, *no*) before a word turns it
/// round: "not good", "isn't helpful", "not bad". The words are those of CONTRACT.md §4.
pub fn verdict_in_words<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<i8> {
    let balance: i32 = texts.into_iter().map(balance).sum();
    match balance {
        0 => None,
        balance => Some(balance.signum() as i8),
    }
}

fn balance(text: &str) -> i32 {
    let text = text.to_lowercase().replace('’', "'");
    let mut balance = 0;
    // How many words ago a *not* stood; one word may stand between, as in "not very good".
    let mut negated_for = 0;
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '/' | '"' | '(' | ')' | '[' | ']' | '_' | '#')) {
        let ends_clause = word.ends_with(['.', '!', '?', ':']);
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '+' && c != '-');
        let word = word.trim_end_matches(['+', '-']);
        if word.is_empty() {
            continue;
        }
        if matches!(word, "not" | "never" | "no") || word.ends_with("n't") {
            negated_for = 2;
        } else {
            let said = i32::from(POSITIVE.contains(&word)) - i32::from(NEGATIVE.contains(&word));
            balance += if negated_for > 0 { -said } else { said };
            negated_for = if said != 0 { 0 } else { i32::max(negated_for - 1, 0) };
        }
        if ends_clause {
            negated_for = 0;
        }
    }
    balance
}
