//! From texts and verdicts to the rows of a regression.

use super::solve::dot;
use super::term::{Measures, Term};
use super::{Priors, TasteData};
use crate::lexicon::WordMap;
use crate::reading::Reading;
use crate::words::Words;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows `label ~ dense · θ[..dense] + sparse · θ[dense..]`.
pub(super) struct Design {
    pub terms: Vec<Term>,
    pub vocabulary: Vec<String>,
    /// Number of dense columns: the bias and the style terms.
    pub dense: usize,
    pub rows: Vec<Row>,
    pub matrix: Matrix,
    /// `[items, dense]` and word columns of every text; the first `data.thumbs.len()` belong to the thumbs.
    pub items: Vec<Item>,
    /// Prior precision of each parameter.
    pub precision: Vec<f64>,
}

pub(super) struct Item {
    pub measures: Arc<Measures>,
    pub dense: Vec<f64>,
    pub words: Vec<(u32, f64)>,
}

/// A thumb (one item) or a Bradley–Terry pair (two: `item` over `other`).
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub item: usize,
    pub other: Option<usize>,
    pub liked: bool,
    pub weight: f64,
}

/// The features of every row, differences taken: `[rows, dense]`, and the words as compressed sparse rows.
pub(super) struct Matrix {
    width: usize,
    dense: Vec<f64>,
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl Matrix {
    fn new(rows: &[Row], items: &[Item], width: usize) -> Self {
        let mut matrix =
            Self { width, dense: Vec::with_capacity(rows.len() * width), offsets: vec![0], columns: Vec::new(), values: Vec::new() };
        for row in rows {
            let item = &items[row.item];
            let other = row.other.map(|other| &items[other]);
            match other {
                None => matrix.dense.extend(&item.dense),
                Some(other) => matrix.dense.extend(item.dense.iter().zip(&other.dense).map(|(a, b)| a - b)),
            }
            let others = other.map_or(&[][..], |other| &other.words);
            for (column, value) in merged_difference(&item.words, others) {
                matrix.columns.push(column);
                matrix.values.push(value);
            }
            matrix.offsets.push(matrix.columns.len());
        }
        matrix
    }

    pub fn dense(&self, row: usize) -> &[f64] {
        &self.dense[row * self.width..(row + 1) * self.width]
    }

    pub fn words(&self, row: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// The product of a row with all parameters.
    pub fn times(&self, row: usize, theta: &[f64]) -> f64 {
        let (dense, sparse) = theta.split_at(self.width);
        let (columns, values) = self.words(row);
        let mut sums = [0.0; 4];
        let (four_columns, last_columns) = columns.as_chunks::<4>();
        let (four_values, last_values) = values.as_chunks::<4>();
        for (columns, values) in four_columns.iter().zip(four_values) {
            for lane in 0..4 {
                sums[lane] += values[lane] * sparse[columns[lane] as usize];
            }
        }
        let rest: f64 = last_columns.iter().zip(last_values).map(|(column, x)| x * sparse[*column as usize]).sum();
        dot(self.dense(row), dense) + (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
    }
}

impl Design {
    pub fn new(data: &TasteData, max_vocabulary: usize, priors: &Priors) -> Self {
        let mut stems = Stems::default();
        let mut items: Vec<Item> = Vec::with_capacity(data.thumbs.len() + 2 * data.comparisons.len());
        let comparisons = data.comparisons.iter().flat_map(|one| [&one.better, &one.worse]);
        let terms = Term::usual(priors);
        let texts: Vec<&String> = data.thumbs.iter().map(|thumb| &thumb.text).chain(comparisons).collect();
        for share in read(&texts) {
            let numbers = stems.numbers(share.stems);
            for (measures, mut words) in share.texts {
                let dense = terms.iter().map(|term| term.value(&measures)).collect();
                for (stem, _) in &mut words {
                    *stem = numbers[*stem as usize];
                    stems.texts[*stem as usize] += 1;
                }
                items.push(Item { measures: Arc::new(measures), dense, words });
            }
        }
        let vocabulary = if priors.word > 0.0 { stems.keep(max_vocabulary, &mut items) } else { Vec::new() };
        if priors.word <= 0.0 {
            items.iter_mut().for_each(|item| item.words.clear());
        }
        let dense = terms.len();
        let rows = rows(data, priors);
        let matrix = Matrix::new(&rows, &items, dense);
        let mut design = Self { terms, vocabulary, dense, rows, matrix, items, precision: Vec::new() };
        design.set_scales(priors, &[]);
        design
    }

    /// Adds the chosen terms that are not there yet, and lets thumbs from before `since` count for little.
    pub fn settle(&mut self, priors: &Priors, chosen: &[(Term, f64)], since: usize) {
        let more: Vec<Term> = chosen.iter().map(|(term, _)| *term).filter(|term| !self.terms.contains(term)).collect();
        for item in &mut self.items {
            item.dense.extend(more.iter().map(|term| term.value(&item.measures)));
        }
        if !more.is_empty() {
            self.terms.extend(more);
            self.dense = self.terms.len();
            self.matrix = Matrix::new(&self.rows, &self.items, self.dense);
        }
        forget(&mut self.rows, since);
        self.set_scales(priors, chosen);
    }

    /// The rows whose texts are all `used`, under the bias and the chosen terms alone.
    pub fn only(&self, priors: &Priors, chosen: &[(Term, f64)], since: usize, used: impl Fn(usize) -> bool) -> Self {
        let terms: Vec<Term> = std::iter::once(Term::Bias).chain(chosen.iter().map(|(term, _)| *term)).collect();
        let measured = |(at, item): (usize, &Item)| {
            let dense = if used(at) { terms.iter().map(|term| term.value(&item.measures)).collect() } else { Vec::new() };
            Item { measures: item.measures.clone(), dense, words: Vec::new() }
        };
        let items: Vec<Item> = self.items.iter().enumerate().map(measured).collect();
        let mut rows: Vec<Row> = self.rows.iter().filter(|row| used(row.item) && row.other.is_none_or(&used)).copied().collect();
        forget(&mut rows, since);
        let dense = terms.len();
        let matrix = Matrix::new(&rows, &items, dense);
        let mut design = Self { terms, vocabulary: Vec::new(), dense, rows, matrix, items, precision: Vec::new() };
        design.set_scales(priors, chosen);
        design
    }

    /// Sets the scales of the groups, and of the terms that have one of their own.
    fn set_scales(&mut self, priors: &Priors, chosen: &[(Term, f64)]) {
        let precision = |sd: f64| 1.0 / (sd * sd).max(1e-12);
        let own = |term: &Term| chosen.iter().find(|(known, _)| known == term).map_or(term.scale(priors), |(_, sd)| *sd);
        self.precision = self.terms.iter().map(|term| precision(own(term))).collect();
        self.precision.resize(self.dense + self.vocabulary.len(), precision(priors.word));
    }

    pub fn parameters(&self) -> usize {
        self.precision.len()
    }
}

/// Texts that are read on one thread; more are shared among all cores.
const READ_ALONE: usize = 64;

fn read(texts: &[&String]) -> Vec<Share> {
    let part = |texts: &[&String]| {
        let mut words = Words::default();
        let one = |text: &&String| {
            let reading = Reading::new(text);
            let said = words.read(&reading);
            (Measures::new(&reading, &words, &said), words.vector(&said))
        };
        let texts = texts.iter().map(one).collect();
        Share { texts, stems: words.stems }
    };
    let cores = if texts.len() <= READ_ALONE { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let share = texts.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let mut parts = texts.chunks(share);
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|texts| scope.spawn(move || part(texts))).collect();
        let mut read = vec![part(first)];
        read.extend(others.into_iter().filter_map(|part| part.join().ok()));
        read
    })
}

/// Lets thumbs from before a change of taste count for little. Comparisons carry no place in time among the thumbs; they
/// keep their weight.
fn forget(rows: &mut [Row], since: usize) {
    for row in rows.iter_mut().filter(|row| row.item.max(row.other.unwrap_or(0)) < since) {
        row.weight *= BEFORE_A_CHANGE;
    }
}

/// a − b of two vectors whose columns rise.
fn merged_difference<'v>(a: &'v [(u32, f64)], b: &'v [(u32, f64)]) -> impl Iterator<Item = (u32, f64)> + 'v {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    std::iter::from_fn(move || match (a.peek().copied(), b.peek().copied()) {
        (Some((in_a, x)), Some((in_b, y))) if in_a == in_b => {
            a.next();
            b.next();
            Some((in_a, x - y))
        }
        (Some((in_a, _)), Some((in_b, y))) if in_b < in_a => b.next().map(|_| (in_b, -y)),
        (Some(_), _) => a.next(),
        (None, _) => b.next().map(|(column, y)| (column, -y)),
    })
}

/// What a thumb still counts for once the taste has changed since.
const BEFORE_A_CHANGE: f64 = 0.05;

/// Generations whose texts are compared, the newest: with more thumbs than these have, pairs add time and nothing else.
const MOST_PAIRED: usize = 500;

/// Every thumb; inside each generation its liked texts against its disliked ones, each text of the larger side once,
/// so that rows grow with thumbs and not with their square; every comparison.
fn rows(data: &TasteData, priors: &Priors) -> Vec<Row> {
    let thumb = |(item, thumb): (usize, &super::Thumb)| Row { item, other: None, liked: thumb.liked, weight: 1.0 };
    let mut rows: Vec<Row> = data.thumbs.iter().enumerate().map(thumb).collect();
    let mut generations: HashMap<&str, usize> = HashMap::new();
    let mut sides: Vec<[Vec<usize>; 2]> = Vec::new();
    for (item, thumb) in data.thumbs.iter().enumerate() {
        let at = *generations.entry(&thumb.generation).or_insert_with(|| {
            sides.push(Default::default());
            sides.len() - 1
        });
        sides[at][usize::from(thumb.liked)].push(item);
    }
    let paired = sides.iter().rev().take(MOST_PAIRED).filter(|[disliked, liked]| !disliked.is_empty() && !liked.is_empty());
    for [disliked, liked] in paired {
        for at in 0..liked.len().max(disliked.len()) {
            let (item, other) = (liked[at % liked.len()], disliked[at % disliked.len()]);
            rows.push(Row { item, other: Some(other), liked: true, weight: priors.pair_weight });
        }
    }
    for at in 0..data.comparisons.len() {
        let item = data.thumbs.len() + 2 * at;
        rows.push(Row { item, other: Some(item + 1), liked: true, weight: 1.0 });
    }
    rows.retain(|row| row.weight > 0.0);
    rows
}

/// What a thread makes of its share of the texts.
#[derive(Default)]
struct Share {
    texts: Vec<(Measures, Vec<(u32, f64)>)>,
    stems: Vec<String>,
}

/// Gives every stem a number, and counts in how many texts it stands.
#[derive(Default)]
struct Stems {
    numbers: WordMap<String, u32>,
    stems: Vec<String>,
    texts: Vec<u32>,
}

impl Stems {
    /// The numbers of a thread's stems.
    fn numbers(&mut self, stems: Vec<String>) -> Vec<u32> {
        let number = |stem: String| {
            self.numbers.get(&stem).copied().unwrap_or_else(|| {
                let number = self.stems.len() as u32;
                self.texts.push(0);
                self.stems.push(stem.clone());
                self.numbers.insert(stem, number);
                number
            })
        };
        stems.into_iter().map(number).collect()
    }

    /// Keeps the `most` stems that stand in the most texts, in two at least, and renumbers the items' words.
    fn keep(self, most: usize, items: &mut [Item]) -> Vec<String> {
        let mut order: Vec<usize> = (0..self.stems.len()).filter(|id| self.texts[*id] >= 2).collect();
        order.sort_by(|a, b| self.texts[*b].cmp(&self.texts[*a]).then_with(|| self.stems[*a].cmp(&self.stems[*b])));
        order.truncate(most);
        let mut renumbered = vec![None; self.stems.len()];
        for (new, old) in order.iter().enumerate() {
            renumbered[*old] = Some(new as u32);
        }
        for item in items {
            item.words.retain_mut(|(id, _)| renumbered[*id as usize].map(|new| *id = new).is_some());
            item.words.sort_unstable_by_key(|(id, _)| *id);
        }
        let mut stems = self.stems;
        order.into_iter().map(|id| std::mem::take(&mut stems[id])).collect()
    }
}
