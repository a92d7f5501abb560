//! Verdicts in words.

use taste::verdict_in_words;

#[test]
fn tags_match_whole_words_only() {
    assert_eq!(verdict_in_words(["correct"]), Some(1));
    assert_eq!(verdict_in_words(["incorrect"]), None, "\"incorrect\" is not \"correct\"");
    assert_eq!(verdict_in_words(["goodness", "badge", "wrongly"]), None, "no listed word stands alone here");
}

#[test]
fn every_listed_word_has_its_verdict() {
    for word in ["pos", "good", "great", "+1", "accept", "helpful", "correct", "Good!", "+1."] {
        assert_eq!(verdict_in_words([word]), Some(1), "{word}");
    }
    for word in ["neg", "bad", "wrong", "worse", "-1", "reject", "not good", "BAD", "-1,"] {
        assert_eq!(verdict_in_words([word]), Some(-1), "{word}");
    }
}

#[test]
fn a_not_turns_the_word_after_it_round() {
    assert_eq!(verdict_in_words(["This is not good."]), Some(-1));
    assert_eq!(verdict_in_words(["not very helpful"]), Some(-1));
    assert_eq!(verdict_in_words(["It isn’t great"]), Some(-1));
    assert_eq!(verdict_in_words(["not bad at all"]), Some(1));
    assert_eq!(verdict_in_words(["Certainly not. Good ending though"]), Some(1), "a full stop ends the negation");
}

#[test]
fn words_for_and_against_cancel_out() {
    assert_eq!(verdict_in_words(["good", "bad"]), None);
    assert_eq!(verdict_in_words(["good start, great end, bad middle"]), Some(1));
    assert_eq!(verdict_in_words([]), None);
    assert_eq!(verdict_in_words(["", "  ", "🙂"]), None);
}
