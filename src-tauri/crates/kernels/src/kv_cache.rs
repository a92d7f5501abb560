//! Keys and values of sequences, and what happens to new ones before anything attends to them.

use crate::attention_exact::ExactKv;
use crate::elementwise::rotate;
use crate::isa::Isa;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Lanes, dispatch};
use crate::spans::SPAN;

/// Keys and values of one sequence in all layers, in f16.
///
/// Keys `[layers, kv_heads, capacity / 16, head_dim, 16]`, so that 16 positions are scored at once; values
/// `[layers, kv_heads, capacity, head_dim]`. Memory that is not written yet is not touched.
pub struct KvSlot {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    keys: Vec<u16>,
    values: Vec<u16>,
    /// There instead of the others in a cache of [`KvSlot::exact`].
    exact: Option<ExactKv>,
}

impl KvSlot {
    /// Room for `capacity` positions, rounded up to 16. Panics when `head_dim` is not a multiple of 16.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize, capacity: usize) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(SPAN), "heads of {head_dim} are not a multiple of {SPAN}");
        let capacity = capacity.next_multiple_of(SPAN);
        let size = layers * kv_heads * head_dim * capacity;
        Self { layers, kv_heads, head_dim, capacity, keys: vec![0; size], values: vec![0; size], exact: None }
    }

    /// As [`KvSlot::new`], but in f32: slow, and the reference for the other. The two kinds do not mix in a call of [`attend`].
    pub fn exact(layers: usize, kv_heads: usize, head_dim: usize, capacity: usize) -> Self {
        let slot = Self::new(layers, kv_heads, head_dim, 0);
        let capacity = capacity.next_multiple_of(SPAN);
        let size = layers * kv_heads * head_dim * capacity;
        Self { capacity, exact: Some(ExactKv { keys: vec![0.0; size], values: vec![0.0; size] }), ..slot }
    }

    /// Positions that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn bytes(&self) -> usize {
        2 * (self.keys.len() + self.values.len()) + self.exact.as_ref().map_or(0, |exact| 4 * (exact.keys.len() + exact.values.len()))
    }

    /// Whether it holds at least so many layers and positions of such heads, in f32 or not.
    pub(crate) fn fits(&self, layer: usize, length: usize, kv_heads: usize, head_dim: usize, exact: bool) -> bool {
        let shape = (self.kv_heads, self.head_dim, self.exact.is_some()) == (kv_heads, head_dim, exact);
        shape && layer < self.layers && length <= self.capacity
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.exact.is_some()
    }

    pub(crate) fn head_shape(&self) -> (usize, usize) {
        (self.kv_heads, self.head_dim)
    }

    /// Key and value of a position of an exact cache; nothing in another one.
    pub(crate) fn exact_at(&self, layer: usize, head: usize, position: usize) -> (&[f32], &[f32]) {
        let at = self.start(layer, head) + position * self.head_dim;
        let range = at..at + self.head_dim;
        self.exact.as_ref().map_or((&[], &[]), |exact| (&exact.keys[range.clone()], &exact.values[range]))
    }

    /// Stores keys and values `[kv_heads, head_dim]` of one position. Panics when it is outside or the lengths differ.
    pub fn write(&mut self, isa: Isa, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (width, head_dim) = (self.kv_heads * self.head_dim, self.head_dim);
        assert!(layer < self.layers && position < self.capacity && keys.len() == width && values.len() == width);
        let writer = Writer::new(self, layer);
        for head in 0..self.kv_heads {
            let (key, value) = (keys[head * head_dim..].as_ptr(), values[head * head_dim..].as_ptr());
            // SAFETY: sizes were checked above; an `Isa` proves its instructions; the slot is borrowed for writing.
            unsafe { dispatch!(isa, store(writer: Writer, head: usize, position: usize, key: *const f32, value: *const f32)) };
        }
    }

    fn start(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * self.capacity * self.head_dim
    }

    /// Where the keys and values of a head begin.
    pub(crate) fn head(&self, layer: usize, head: usize) -> Kv {
        let start = self.start(layer, head);
        Kv { keys: self.keys[start..].as_ptr(), values: self.values[start..].as_ptr() }
    }
}

/// Where the keys and values of a head begin.
#[derive(Clone, Copy)]
pub(crate) struct Kv {
    pub keys: *const u16,
    pub values: *const u16,
}

/// A slot's layer, to be written to.
#[derive(Clone, Copy)]
struct Writer {
    capacity: usize,
    head_dim: usize,
    keys: *mut u16,
    values: *mut u16,
    /// Keys and values of an exact cache, null in another one.
    exact: (*mut f32, *mut f32),
}

// SAFETY: it is written to by one thread for each head; see `make_ready`.
unsafe impl Sync for Writer {}
// SAFETY: as above.
unsafe impl Send for Writer {}

impl Writer {
    /// Panics when there is no such layer.
    fn new(slot: &mut KvSlot, layer: usize) -> Self {
        let (start, capacity, head_dim) = (slot.start(layer, 0), slot.capacity, slot.head_dim);
        match &mut slot.exact {
            Some(exact) => {
                let (keys, values) = (&mut exact.keys[start..], &mut exact.values[start..]);
                let exact = (keys.as_mut_ptr(), values.as_mut_ptr());
                Self { capacity, head_dim, keys: std::ptr::null_mut(), values: std::ptr::null_mut(), exact }
            }
            None => {
                let (keys, values) = (slot.keys[start..].as_mut_ptr(), slot.values[start..].as_mut_ptr());
                Self { capacity, head_dim, keys, values, exact: (std::ptr::null_mut(), std::ptr::null_mut()) }
            }
        }
    }
}

/// Stores the key and the value of one head, each `head_dim` numbers where it is there.
///
/// # Safety
/// Head and position must be inside the slot, and no other thread may write to this head.
#[inline(always)]
unsafe fn store<V: Lanes>(to: Writer, head: usize, position: usize, key: *const f32, value: *const f32) {
    let Writer { capacity, head_dim, .. } = to;
    let start = head * capacity * head_dim;
    let row = start + position * head_dim;
    unsafe {
        if !to.exact.0.is_null() {
            if !key.is_null() {
                std::ptr::copy_nonoverlapping(key, to.exact.0.add(row), head_dim);
            }
            if !value.is_null() {
                std::ptr::copy_nonoverlapping(value, to.exact.1.add(row), head_dim);
            }
            return;
        }
        if !key.is_null() {
            let span = to.keys.add(start + position / SPAN * SPAN * head_dim + position % SPAN);
            for first in (0..head_dim).step_by(16) {
                let mut narrow = [0u16; 16];
                V::load(key.add(first)).store_f16(narrow.as_mut_ptr());
                for (lane, bits) in narrow.into_iter().enumerate() {
                    span.add((first + lane) * SPAN).write(bits);
                }
            }
        }
        if !value.is_null() {
            for first in (0..head_dim).step_by(16) {
                V::load(value.add(first)).store_f16(to.values.add(row + first));
            }
        }
    }
}

/// Where a row's keys and values go: the slot among the prefixes, or among the rows' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvPlace {
    pub own: bool,
    pub slot: usize,
    pub position: usize,
}

/// New rows of queries, keys and values of one layer, as a product left them.
#[derive(Clone, Copy)]
pub struct NewHeads<'a> {
    pub layer: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Added to every row; empty for none.
    pub bias: &'a [f32],
    /// Of each row the cosines and sines that queries and keys are turned by; see [`crate::elementwise::rope`].
    pub angles: &'a [(&'a [f32], &'a [f32])],
    pub places: &'a [KvPlace],
}

/// Adds the bias to `qkv` `[rows, (heads + 2 * kv_heads) * head_dim]`, turns queries and keys, and stores keys and values.
///
/// Panics when sizes do not fit or a place is outside its slot.
pub fn make_ready(isa: Isa, pool: &Pool, new: &NewHeads, qkv: &mut [f32], prefixes: &mut [KvSlot], own: &mut [KvSlot]) {
    let Some(first) = prefixes.first().or(own.first()) else { return };
    let NewHeads { layer, heads, bias, angles, places } = *new;
    let (kv_heads, head_dim) = first.head_shape();
    let all = heads + 2 * kv_heads;
    let width = all * head_dim;
    assert!(qkv.len() == places.len() * width && angles.len() == places.len(), "sizes of new heads");
    assert!(bias.is_empty() || bias.len() == width, "a bias for {width} columns");
    assert!(angles.iter().all(|(cos, sin)| cos.len() == sin.len() && 2 * cos.len() <= head_dim), "angles of half a head");
    let exact = first.is_exact();
    for place in places {
        let slot = if place.own { &own[place.slot] } else { &prefixes[place.slot] };
        assert!(slot.fits(layer, place.position + 1, kv_heads, head_dim, exact), "a place inside its slot");
    }
    let writers = [prefixes, own].map(|slots| slots.iter_mut().map(|slot| Writer::new(slot, layer)).collect::<Vec<_>>());
    let serial = qkv.len() < SERIAL_NUMBERS;
    let qkv = Disjoint::new(qkv);
    // By head, so that no two threads write to the same part of a slot, whatever the places are.
    let chunk = if serial { all } else { all.div_ceil(4 * pool.threads()) };
    pool.run(all, chunk, &|range| {
        let task = ReadyTask { new, kv_heads, head_dim, writers: &writers, qkv: &qkv };
        let task = &task;
        for head in range {
            // SAFETY: sizes were checked above; an `Isa` proves its instructions; each head is handed out once.
            unsafe { dispatch!(isa, ready_head(task: &ReadyTask<'_>, head: usize)) };
        }
    });
}

/// Fewer numbers than these are not worth waking another thread for.
const SERIAL_NUMBERS: usize = 4_096;

struct ReadyTask<'a> {
    new: &'a NewHeads<'a>,
    kv_heads: usize,
    head_dim: usize,
    writers: &'a [Vec<Writer>; 2],
    qkv: &'a Disjoint<'a, f32>,
}

/// # Safety
/// As `make_ready` checks it, and no other thread may have the same head.
#[inline(always)]
unsafe fn ready_head<V: Lanes>(task: &ReadyTask<'_>, head: usize) {
    let ReadyTask { new, kv_heads, head_dim, .. } = *task;
    let width = (new.heads + 2 * kv_heads) * head_dim;
    for (row, (place, (cos, sin))) in new.places.iter().zip(new.angles).enumerate() {
        // SAFETY: columns of this head, which nobody else has.
        let x = unsafe { task.qkv.slice(row * width + head * head_dim, head_dim) };
        if !new.bias.is_empty() {
            x.iter_mut().zip(&new.bias[head * head_dim..]).for_each(|(value, bias)| *value += bias);
        }
        if head < new.heads + kv_heads {
            rotate(&mut x[..2 * cos.len()], cos, sin);
        }
        if head < new.heads {
            continue;
        }
        let writer = task.writers[usize::from(place.own)][place.slot];
        let (kv_head, is_key) = ((head - new.heads) % kv_heads, head < new.heads + kv_heads);
        let (key, value) = if is_key { (x.as_ptr(), std::ptr::null()) } else { (std::ptr::null(), x.as_ptr()) };
        // SAFETY: the place is inside the slot, as the caller checked.
        unsafe { store::<V>(writer, kv_head, place.position, key, value) };
    }
}
