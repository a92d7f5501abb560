//! The word lists of `assets/words`, light stemming and how rare a word is.

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// Which lists a word stands in, one bit each.
pub(crate) type Lists = u16;
pub(crate) const STOP: Lists = 1;
pub(crate) const FIRST_PERSON: Lists = 1 << 1;
pub(crate) const PAST: Lists = 1 << 2;
pub(crate) const PRESENT: Lists = 1 << 3;
pub(crate) const ACTION: Lists = 1 << 4;
pub(crate) const WARM: Lists = 1 << 5;
pub(crate) const DARK: Lists = 1 << 6;
pub(crate) const DESCRIPTIVE: Lists = 1 << 7;
pub(crate) const SENSE: Lists = 1 << 8;
pub(crate) const DETERMINER: Lists = 1 << 9;
pub(crate) const NOT_AFTER_DETERMINER: Lists = 1 << 10;

const NAMES: [(&str, Lists); 11] = [
    ("stop", STOP),
    ("first_person", FIRST_PERSON),
    ("past", PAST),
    ("present", PRESENT),
    ("action", ACTION),
    ("warm", WARM),
    ("dark", DARK),
    ("descriptive", DESCRIPTIVE),
    ("sense", SENSE),
    ("determiner", DETERMINER),
    ("not_after_determiner", NOT_AFTER_DETERMINER),
];

/// A map from words, with a hash that is quick on short strings; the keys come from our own files and one person's texts.
pub(crate) type WordMap<K, V> = HashMap<K, V, BuildHasherDefault<Fnv>>;

/// The lists that `word` (lower case) stands in.
pub(crate) fn lists(word: &str) -> Lists {
    static MAP: LazyLock<WordMap<&'static str, Lists>> = LazyLock::new(|| {
        let mut map = WordMap::default();
        let mut bit = 0;
        for line in include_str!("../../../../assets/words/lists.txt").lines().map(str::trim) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                bit = NAMES.iter().find(|(known, _)| *known == name).map_or(0, |(_, bit)| *bit);
                continue;
            }
            for word in line.split_whitespace() {
                *map.entry(word).or_default() |= bit;
            }
        }
        map
    });
    MAP.get(word).copied().unwrap_or(0)
}

/// How much a stem says: 0 for one that stands in every story, 1 for one that stands in less than one of a hundred.
pub(crate) fn rarity(stem: &str) -> f64 {
    #[derive(Deserialize)]
    struct File {
        rarity: WordMap<String, f64>,
    }
    static MAP: LazyLock<WordMap<String, f64>> = LazyLock::new(|| {
        let file: File =
            serde_json::from_str(include_str!("../../../../assets/words/rarity.json")).unwrap_or(File { rarity: WordMap::default() });
        file.rarity
    });
    MAP.get(stem).copied().unwrap_or(1.0)
}

/// Removes common English endings so that `dragons`, `discovers` and `discovered` meet their kin.
///
/// A light version of Porter's steps 1a–1c ("An algorithm for suffix stripping", 1980): plural, `-ed`, `-ing`, `-ly`,
/// a doubled last consonant and a final `e` go; nothing shorter than three letters is left.
pub(crate) fn stem(word: &str) -> Cow<'_, str> {
    let word = word.strip_suffix("'s").unwrap_or(word);
    if word.len() < 4 || !word.is_ascii() {
        return Cow::Borrowed(word);
    }
    let cut = |ending: &str| word.strip_suffix(ending).filter(|rest| rest.len() >= 3 && rest.bytes().any(is_vowel));
    if let Some(rest) = cut("ies").or_else(|| cut("ied")) {
        return Cow::Owned(format!("{rest}y"));
    }
    let rest = cut("ingly")
        .or_else(|| cut("edly"))
        .or_else(|| cut("ing"))
        .or_else(|| cut("ed"))
        .or_else(|| cut("ly"))
        .or_else(|| {
            if word.ends_with("sses") || word.ends_with("shes") || word.ends_with("ches") || word.ends_with("xes") {
                cut("es")
            } else {
                None
            }
        })
        .or_else(|| if word.ends_with("ss") || word.ends_with("us") { None } else { cut("s") })
        .unwrap_or(word);
    let bytes = rest.as_bytes();
    let end = bytes.len();
    let doubled = end > 3 && bytes[end - 1] == bytes[end - 2] && !is_vowel(bytes[end - 1]) && !matches!(bytes[end - 1], b'l' | b's' | b'z');
    if doubled {
        return Cow::Borrowed(&rest[..end - 1]);
    }
    Cow::Borrowed(rest.strip_suffix('e').filter(|shorter| shorter.len() >= 3).unwrap_or(rest))
}

fn is_vowel(byte: u8) -> bool {
    matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kin_share_a_stem() {
        for (a, b) in [("dragons", "dragon"), ("discovers", "discovered"), ("stories", "story"), ("running", "run"), ("hoped", "hoping")] {
            assert_eq!(stem(a), stem(b), "{a} and {b} are forms of one word");
        }
        assert_eq!(stem("glass"), "glass", "a double s is no plural");
        assert_eq!(stem("king"), "king", "what is left must still be a word");
    }

    #[test]
    fn every_list_is_known_and_filled() {
        let text = include_str!("../../../../assets/words/lists.txt");
        for line in text.lines().filter(|line| line.starts_with('[')) {
            assert!(NAMES.iter().any(|(name, _)| format!("[{name}]") == line), "{line} has a bit");
        }
        assert_eq!(lists("i") & (FIRST_PERSON | STOP), FIRST_PERSON | STOP, "a word can stand in several lists");
        assert_eq!(lists("xyzzy"), 0);
    }
}
