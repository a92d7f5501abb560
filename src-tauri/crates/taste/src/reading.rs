//! A text read once: words, who speaks them, sentences and how they end. Every score starts from it.

/// A text split into words and sentences.
pub(crate) struct Reading {
    /// Lower case (ASCII exactly, other scripts where the length allows it), without invisible characters, with straight quotes.
    lower: String,
    pub words: Vec<Word>,
    pub sentences: Vec<Sentence>,
    /// Visible characters.
    pub characters: usize,
    /// The last visible character that is not blank.
    pub last: Option<char>,
    pub has_quotes: bool,
    /// Blank lines between words, and one more.
    pub paragraphs: usize,
    pub commas: usize,
    /// Words written large inside a sentence, but for "I".
    pub names: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Word {
    start: u32,
    end: u32,
    /// Inside double quotes.
    pub spoken: bool,
}

/// The first word, and the mark that ended it (`'\\0'` when the text just stopped).
#[derive(Clone, Copy)]
pub(crate) struct Sentence {
    pub first: usize,
    pub mark: char,
}

impl Reading {
    pub fn new(text: &str) -> Self {
        let (plain, characters) = normalised(text);
        let mut lower = plain.clone();
        lower.make_ascii_lowercase();
        let mut reading = Self {
            lower,
            words: Vec::with_capacity(plain.len() / 5),
            sentences: Vec::new(),
            characters,
            last: plain.chars().rev().find(|c| !c.is_whitespace()),
            has_quotes: false,
            paragraphs: 0,
            commas: 0,
            names: 0,
        };
        reading.split(&plain);
        reading
    }

    pub fn word(&self, index: usize) -> &str {
        self.slice(self.words[index])
    }

    pub fn slice(&self, word: Word) -> &str {
        &self.lower[word.start as usize..word.end as usize]
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.words.iter().map(|word| self.slice(*word))
    }

    /// Whether the text ends as a sentence does.
    pub fn ends_properly(&self) -> bool {
        let mut tail = self.lower.trim_end().chars().rev().skip_while(|c| matches!(c, '"' | '\'' | ')' | ']' | '*' | '_'));
        tail.next().is_some_and(is_mark)
    }

    fn split(&mut self, plain: &str) {
        let bytes = plain.as_bytes();
        let mut spoken = false;
        let mut sentence_start = 0;
        let mut word_start: Option<usize> = None;
        let mut blank_lines = 0;
        for (at, c) in plain.char_indices() {
            let inside = c.is_alphanumeric() || (c == '\'' && word_start.is_some() && next_is_letter(plain, at + 1));
            if inside {
                word_start.get_or_insert(at);
                blank_lines = 0;
                continue;
            }
            if let Some(start) = word_start.take() {
                // Behind a quote a new sentence begins too.
                let inside = self.words.len() > sentence_start && !plain[..start].ends_with('"');
                self.names += usize::from(inside && bytes[start].is_ascii_uppercase() && at - start > 1 && bytes[start + 1] != b'\'');
                self.words.push(Word { start: start as u32, end: at as u32, spoken });
            }
            match c {
                '"' => {
                    spoken = !spoken;
                    self.has_quotes = true;
                }
                ',' => self.commas += 1,
                '\n' => {
                    blank_lines += 1;
                    if blank_lines == 2 {
                        self.paragraphs += 1;
                        // A paragraph ends what was being said and written, whether or not its marks were closed.
                        spoken = false;
                        self.close(&mut sentence_start, '\0');
                    }
                }
                _ if is_mark(c) && self.ends_here(plain, bytes, at + c.len_utf8()) => self.close(&mut sentence_start, c),
                _ => {}
            }
        }
        if let Some(start) = word_start {
            self.words.push(Word { start: start as u32, end: plain.len() as u32, spoken });
        }
        self.close(&mut sentence_start, '\0');
        self.paragraphs += usize::from(blank_lines < 2 && !self.words.is_empty());
    }

    fn close(&mut self, start: &mut usize, mark: char) {
        if self.words.len() > *start {
            self.sentences.push(Sentence { first: *start, mark });
            *start = self.words.len();
        }
    }

    /// A mark ends a sentence when a blank, a closing quote or the end follows, and then no small letter:
    /// in `"Stop!" she said.` only the full stop does. Common short titles end none.
    fn ends_here(&self, plain: &str, bytes: &[u8], after: usize) -> bool {
        if let Some(last) = self.words.last()
            && bytes[after - 1] == b'.'
            && last.end as usize == after - 1
            && matches!(self.slice(*last), "mr" | "mrs" | "ms" | "dr" | "st")
        {
            return false;
        }
        let rest = &plain[after..];
        let Some(next) = rest.chars().next() else { return true };
        if !(next.is_whitespace() || matches!(next, '"' | '\'' | ')' | ']')) {
            return false;
        }
        !rest.chars().find(|c| c.is_alphanumeric()).is_some_and(char::is_lowercase)
    }
}

pub(crate) fn is_mark(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…')
}

/// Characters that take no room: zero-width blanks and joiners, marks of direction, byte order marks.
pub(crate) fn invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{ad}')
}

fn next_is_letter(plain: &str, at: usize) -> bool {
    plain[at..].chars().next().is_some_and(char::is_alphabetic)
}

fn normalised(text: &str) -> (String, usize) {
    let mut plain = String::with_capacity(text.len());
    let mut characters = 0;
    for c in text.chars() {
        let c = match c {
            _ if c.is_ascii() => c,
            '’' | '‘' | 'ʼ' => '\'',
            '“' | '”' | '„' | '«' | '»' => '"',
            _ if invisible(c) => continue,
            _ if c.is_uppercase() => {
                characters += 1;
                plain.extend(c.to_lowercase());
                continue;
            }
            _ => c,
        };
        characters += 1;
        plain.push(c);
    }
    (plain, characters)
}
