//! Attention over keys and values in f32: slow, and the reference for the packed kind in [`crate::attention`].

use crate::attention::AttentionRow;
use crate::elementwise::dot;
use crate::isa::Isa;
use crate::pool::Pool;

/// Keys and values of one sequence, each `[layers, kv_heads, capacity, head_dim]`.
#[derive(Default)]
pub(crate) struct ExactKv {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

/// As [`crate::attention::attend`], which has checked the sizes.
pub(crate) fn attend_exact(
    isa: Isa,
    pool: &Pool,
    layer: usize,
    rows: &[AttentionRow],
    heads: usize,
    queries: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let Some(first) = rows.first() else { return };
    let (kv_heads, head_dim) = first.prefix.head_shape();
    let scale = 1.0 / (head_dim as f32).sqrt();
    pool.rows(out, heads * head_dim, &|index, out| {
        let row = &rows[index];
        let total = row.prefix_length + row.own.map_or(0, |(_, length)| length);
        let mut scores = vec![0.0f32; total];
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let query = &queries[index * stride + head * head_dim..][..head_dim];
            let kv_head = head / (heads / kv_heads);
            let at = |position: usize| match row.own {
                Some((own, _)) if position >= row.prefix_length => own.exact_at(layer, kv_head, position - row.prefix_length),
                _ => row.prefix.exact_at(layer, kv_head, position),
            };
            for position in row.first..total {
                let weight = if position < row.weighted { row.log_weight } else { 0.0 };
                scores[position] = scale * dot(isa, query, at(position).0) + weight;
            }
            let largest = scores[row.first..].iter().fold(f32::NEG_INFINITY, |most, score| most.max(*score));
            let mut sum = 0.0;
            out.fill(0.0);
            for position in row.first..total {
                let power = (scores[position] - largest).exp();
                sum += power;
                out.iter_mut().zip(at(position).1).for_each(|(out, value)| *out += power * value);
            }
            out.iter_mut().for_each(|out| *out /= sum);
        }
    });
}
