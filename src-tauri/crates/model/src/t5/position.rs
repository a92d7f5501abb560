//! Biases by relative position: what attention adds to a score for how far a key stands before or behind its query.

use crate::t5::dense::DistanceTable;
use kernels::biased_attention::{Biases, SPAN};

/// The learned biases of one stack, `[buckets, heads]`, as the file has them.
pub(crate) struct RelativeBias {
    pub heads: usize,
    pub buckets: usize,
    pub max_distance: usize,
    /// Keys behind the query are seen too and have half of the buckets: the encoder.
    pub bidirectional: bool,
    pub weights: Vec<f32>,
}

/// The biases of all distances up to a length, laid out so that those of one query are neighbours.
#[derive(Default)]
pub(crate) struct BiasTable {
    /// `[heads, length]`; distance 0 is at `center` of each head.
    values: Vec<f32>,
    length: usize,
    center: usize,
    /// Positions that it serves.
    positions: usize,
}

impl RelativeBias {
    /// The bucket of a key that stands `distance` behind its query (negative: before it).
    ///
    /// Half of a direction's buckets hold one distance each, the others logarithmically more, the last one everything from
    /// `max_distance` on (Raffel et al., 2019). In the arithmetic of transformers, so that no distance changes its bucket.
    pub fn bucket(&self, distance: isize) -> usize {
        let (buckets, offset, size) = match self.bidirectional {
            true => (self.buckets / 2, if distance > 0 { self.buckets / 2 } else { 0 }, distance.unsigned_abs()),
            false => (self.buckets, 0, distance.min(0).unsigned_abs()),
        };
        let exact = buckets / 2;
        if size < exact {
            return offset + size;
        }
        let span = (self.max_distance as f64 / exact as f64).ln() as f32;
        let step = (size as f32 / exact as f32).ln() / span * (buckets - exact) as f32;
        offset + (exact + step as usize).min(buckets - 1)
    }

    /// Makes a table serve at least `positions` positions.
    pub fn prepare(&self, table: &mut BiasTable, positions: usize) {
        if table.positions >= positions && table.positions > 0 {
            return;
        }
        let positions = positions.next_multiple_of(64);
        let ahead = if self.bidirectional { positions - 1 } else { 0 };
        // Whole spans are read, the last one beyond the last key.
        let length = positions - 1 + ahead + 1 + SPAN;
        let mut values = vec![0.0; self.heads * length];
        for (head, row) in values.chunks_exact_mut(length).enumerate() {
            for (index, value) in row[..positions + ahead].iter_mut().enumerate() {
                let distance = index as isize - (positions as isize - 1);
                *value = self.weights[self.bucket(distance) * self.heads + head];
            }
        }
        *table = BiasTable { values, length, center: positions - 1, positions };
    }
}

impl BiasTable {
    pub fn biases(&self) -> Biases<'_> {
        Biases { values: &self.values, length: self.length }
    }

    pub fn into_parts(self) -> DistanceTable {
        DistanceTable { values: self.values, length: self.length, center: self.center }
    }

    /// Where the bias of key 0 for a query at `position` is.
    pub fn first(&self, position: usize) -> usize {
        self.center - position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buckets of the distances -300..=300 by transformers 5.23.0, written by `tests/reference/t5.py`.
    #[test]
    fn every_distance_has_the_bucket_that_transformers_gives_it() {
        let described: serde_json::Value = serde_json::from_str(include_str!("../../tests/reference/t5/expected.json")).unwrap();
        for (name, bidirectional) in [("buckets_encoder", true), ("buckets_decoder", false)] {
            let wanted: Vec<usize> = serde_json::from_value(described[name].clone()).unwrap();
            let bias = RelativeBias { heads: 1, buckets: 32, max_distance: 128, bidirectional, weights: Vec::new() };
            let found: Vec<usize> = (-300..=300).map(|distance| bias.bucket(distance)).collect();
            assert_eq!(found, wanted, "{name}");
        }
    }
}
