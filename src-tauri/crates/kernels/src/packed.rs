//! Weights in tiles of 16 rows, in the format that they came in: nothing is rounded a second time.

pub use crate::activations::Activations;
use crate::activations::Forms;
pub use crate::blocks::{BlockFormat, PackError};
use crate::blocks::{SUB, SubBlock};
use crate::memory::Lines;
pub use crate::memory::WeightMemory;
use half::{bf16, f16};
use rayon::prelude::*;

/// Columns that share a scale, or two.
pub const BLOCK: usize = SUB;
/// Rows of a tile, which are computed together.
pub const TILE: usize = 16;
pub(crate) const LINE: usize = 64;

/// Bytes of rows that are read at once, about.
const PIECE_BYTES: usize = 256 << 10;

/// How f32 weights are rounded when they are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// As Q8_0: scale = largest magnitude / 127.
    Int8,
    /// As Q4_1, with the scale and the min that leave the smallest squared error.
    Int4,
}

impl Rounding {
    pub fn format(self) -> BlockFormat {
        match self {
            Self::Int8 => BlockFormat::Q8_0,
            Self::Int4 => BlockFormat::Q4_1,
        }
    }
}

/// Matrices `[_, cols]`, one below the other, each in a format of its own.
#[derive(Default)]
pub struct PackedMatrix {
    cols: usize,
    rows: usize,
    sections: Vec<Section>,
}

/// Rows in one format.
///
/// Rows of plain numbers are tiles of `[cols][16 rows]`. A tile of a quantised format is its scales, padded to whole lines
/// (of each block of 32 columns `scale[16]` in f16, and `min[16]` where the format has one; of each 256 columns of a
/// K-format `scale[16]`, `min[16]` and the factors `[8 or 16][16]` and `[8][16]` in eight bits), and then for each block of
/// 32 columns its lines of 16 rows × 4 bytes. With eight bits, line g has the columns 4g to 4g + 3. With fewer, line p has
/// the lower four bits of the columns 8p to 8p + 3 in the low halves of its bytes and of the next four in the high halves;
/// the other bits follow in one line (bits 4, 5, 6, 7, 3, 2, 1, 0 of a byte belong to columns 4g of g = 0, 1, …) or two
/// (bits 4, 6, 2, 0 and the one above, for g mod 4). Rows and columns beyond the matrix are zero, so that any size will do.
pub(crate) struct Section {
    pub format: BlockFormat,
    pub cols: usize,
    /// Index of the first row in the whole matrix.
    pub first: usize,
    pub rows: usize,
    lines: Lines,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; LINE]);

impl PackedMatrix {
    /// Takes in rows of blocks as they stand in a GGUF file: each part is the bytes of so many rows.
    ///
    /// # Errors
    /// `Columns` when rows are not made of whole blocks, `Length` when a part has not the bytes of its rows, `NotFinite`.
    pub fn from_blocks(format: BlockFormat, cols: usize, parts: &[(&[u8], usize)]) -> Result<Self, PackError> {
        let row_bytes = format.row_bytes(cols)?;
        let mut all = Vec::new();
        for (bytes, rows) in parts {
            if rows.checked_mul(row_bytes) != Some(bytes.len()) {
                return Err(PackError::Length { format, cols, rows: *rows, found: bytes.len() });
            }
            all.extend(bytes.chunks_exact(row_bytes));
        }
        Self::one(Section::zeroed(None, format, all.len(), cols)).filled(TILE, &|first, out| {
            out.chunks_exact_mut(row_bytes).zip(&all[first..]).for_each(|(to, from)| to.copy_from_slice(from));
            Ok(())
        })
    }

    /// Takes in rows of blocks that `read` fetches: from a first row on as many as fit into its buffer, whose place it may be
    /// asked for by several threads at once, in pieces of whole multiples of `together` rows.
    ///
    /// # Errors
    /// `Columns`, `NotFinite`, and what `read` says.
    pub fn read_blocks<E: From<PackError> + Send>(
        memory: &WeightMemory,
        format: BlockFormat,
        (rows, cols): (usize, usize),
        together: usize,
        read: &(dyn Fn(usize, &mut [u8]) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        format.row_bytes(cols)?;
        Self::one(Section::zeroed(Some(memory), format, rows, cols)).filled(together, read)
    }

    fn filled<E: From<PackError> + Send>(
        mut self,
        together: usize,
        read: &(dyn Fn(usize, &mut [u8]) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        self.sections.iter_mut().try_for_each(|section| section.fill(together, read))?;
        Ok(self)
    }

    /// Packs the rows of several row-major matrices `[_, cols]` one below the other; any number of columns will do.
    ///
    /// Panics when a length is not a multiple of `cols`.
    pub fn pack(rounding: Rounding, cols: usize, parts: &[&[f32]]) -> Self {
        assert!(cols > 0 && parts.iter().all(|part| part.len().is_multiple_of(cols)), "rows of {cols} do not fit the parts");
        let all: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(cols)).collect();
        let mut section = Section::zeroed(None, rounding.format(), all.len(), cols);
        section.write_rounded(0, &all);
        Self::one(section)
    }

    /// Puts matrices of the same width one below the other, each in its format.
    ///
    /// Panics when their columns differ.
    pub fn stack(parts: Vec<Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            assert!(all.sections.is_empty() || all.cols == part.cols, "matrices of {} and {} columns", all.cols, part.cols);
            all.cols = part.cols;
            for mut section in part.sections {
                section.first += all.rows;
                all.sections.push(section);
            }
            all.rows += part.rows;
        }
        all
    }

    /// A matrix of zeros, to be written piece by piece.
    pub fn zeroed(memory: &WeightMemory, rounding: Rounding, rows: usize, cols: usize) -> Self {
        Self::one(Section::zeroed(Some(memory), rounding.format(), rows, cols))
    }

    /// Packs whole rows from `first` on, as [`PackedMatrix::pack`] does.
    ///
    /// Panics when they do not fit, or when the matrix was not made by [`PackedMatrix::zeroed`].
    pub fn write_rows(&mut self, first: usize, weights: &[f32]) {
        assert!(weights.len().is_multiple_of(self.cols) && first + weights.len() / self.cols <= self.rows, "rows beyond the matrix");
        let all: Vec<&[f32]> = weights.chunks_exact(self.cols).collect();
        self.sections[0].write_rounded(first, &all);
    }

    /// Bytes that a matrix of this size takes.
    pub fn bytes_of(rounding: Rounding, rows: usize, cols: usize) -> usize {
        let shape = Section { format: rounding.format(), cols, first: 0, rows, lines: Lines::default() };
        shape.tiles() * shape.tile_bytes()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn bytes(&self) -> usize {
        self.sections.iter().map(|section| section.lines.len() * LINE).sum()
    }

    /// The forms of activations that a product with it needs.
    pub fn forms(&self) -> Forms {
        let f32 = self.sections.iter().any(|section| is_plain(section.format));
        Forms { int8: self.sections.iter().any(|section| !is_plain(section.format)), f32 }
    }

    /// The weights of a row as they are used. Panics when there is no such row.
    pub fn unpack_row(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.cols];
        self.unpack_row_into(row, &mut out);
        out
    }

    /// [`PackedMatrix::unpack_row`] into `[cols]`.
    pub fn unpack_row_into(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of {}, {} columns for {}", self.rows, out.len(), self.cols);
        let section = self.sections.partition_point(|section| section.first <= row) - 1;
        let section = &self.sections[section];
        section.unpack_row(row - section.first, out);
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    fn one(section: Section) -> Self {
        Self { cols: section.cols, rows: section.rows, sections: vec![section] }
    }
}

/// Whether a format is plain numbers, which multiply f32 activations.
pub(crate) fn is_plain(format: BlockFormat) -> bool {
    format.columns() == 1
}

/// Lines of a block of 32 columns.
pub(crate) fn block_lines(format: BlockFormat) -> usize {
    match format {
        BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4K => 4,
        BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5K => 5,
        BlockFormat::Q6K => 6,
        BlockFormat::Q8_0 => 8,
        BlockFormat::F16 | BlockFormat::Bf16 => 16,
        BlockFormat::F32 => 32,
    }
}

/// Bytes of the scales of a K-format's 256 columns: scale and min, then the factors of both.
pub(crate) const K_HEAD: usize = 4 * TILE + 2 * 8 * TILE;
/// The same for Q6_K: the scale, then 16 factors.
pub(crate) const Q6K_HEAD: usize = 2 * TILE + 16 * TILE;

impl Section {
    /// In memory that is shared with other matrices, or by itself.
    fn zeroed(memory: Option<&WeightMemory>, format: BlockFormat, rows: usize, cols: usize) -> Self {
        let mut section = Self { format, cols, first: 0, rows, lines: Lines::default() };
        let lines = section.tiles() * section.tile_bytes() / LINE;
        section.lines = memory.map_or_else(|| Lines::alone(lines), |memory| memory.take(lines));
        section
    }

    /// Has `set` write `count` rows, each once, counted from `first`; they must be zero.
    fn write(&mut self, first: usize, count: usize, set: &(dyn Fn(usize, &mut TileRow<'_>) + Sync)) {
        let mut lines = std::mem::take(&mut self.lines);
        let section = &*self;
        let write = |(tile, lines): (usize, &mut [Line])| {
            for row in first.max(tile * TILE)..(first + count).min(tile * TILE + TILE) {
                set(row - first, &mut TileRow { section, lines, lane: row % TILE });
            }
        };
        lines.par_chunks_mut(self.tile_bytes().max(LINE) / LINE).enumerate().for_each(write);
        self.lines = lines;
    }

    /// Reads all rows, which must be zero, in pieces of so many together.
    fn fill<E: From<PackError> + Send>(
        &mut self,
        together: usize,
        read: &(dyn Fn(usize, &mut [u8]) -> Result<(), E> + Sync),
    ) -> Result<(), E> {
        let mut lines = std::mem::take(&mut self.lines);
        let section = &*self;
        let row_bytes = section.format.row_bytes(section.cols)?;
        let (tile_lines, whole) = (section.tile_bytes() / LINE, together.next_multiple_of(TILE).max(TILE));
        // What was read is still in a near cache when it is put into tiles.
        let tiles = (PIECE_BYTES / row_bytes).next_multiple_of(whole).max(whole) / TILE;
        let piece = |bytes: &mut Vec<u8>, (index, lines): (usize, &mut [Line])| {
            let first = index * tiles * TILE;
            let count = (section.rows - first).min(tiles * TILE);
            bytes.resize(count * row_bytes, 0);
            read(first, bytes)?;
            for (rows, tile) in bytes.chunks(TILE * row_bytes).zip(lines.chunks_exact_mut(tile_lines)) {
                section.fill_tile(rows, row_bytes, tile)?;
            }
            Ok::<(), E>(())
        };
        lines.par_chunks_mut((tiles * tile_lines).max(1)).enumerate().try_for_each_init(Vec::new, piece)?;
        self.lines = lines;
        Ok(())
    }

    /// Puts up to [`TILE`] rows into their tile.
    fn fill_tile(&self, rows: &[u8], row_bytes: usize, tile: &mut [Line]) -> Result<(), PackError> {
        let (format, bytes) = (self.format, self.format.bytes());
        let mut finite = true;
        let plain = is_plain(format);
        for block in 0..if plain { self.cols } else { self.blocks() } {
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                let mut tile = TileRow { section: self, lines: tile, lane };
                finite &= match format {
                    _ if plain => {
                        let number = &row[block * bytes..][..bytes];
                        tile.set_plain(block, number);
                        format.is_finite(number)
                    }
                    BlockFormat::Q8_0 => tile.set_q8_0(block, &row[block * bytes..][..bytes]),
                    BlockFormat::Q4_0 => tile.set_q4_0(block, &row[block * bytes..][..bytes]),
                    _ => {
                        let sub = format.sub_block(row, block);
                        tile.set_block(block, &sub);
                        sub.scale.is_finite() && sub.min.is_finite()
                    }
                };
            }
        }
        if finite { Ok(()) } else { Err(PackError::NotFinite { format }) }
    }

    /// Rounds rows `[cols]` to the format, which must be one of [`Rounding::format`].
    fn write_rounded(&mut self, first: usize, rows: &[&[f32]]) {
        let format = self.format;
        self.write(first, rows.len(), &|row, tile| {
            for (block, values) in rows[row].chunks(BLOCK).enumerate() {
                let sub = match format {
                    BlockFormat::Q8_0 => crate::rounding::int8(values),
                    _ => crate::rounding::int4(values),
                };
                tile.set_block(block, &sub);
            }
        });
    }

    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// Blocks of 32 columns.
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    pub fn start(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> usize {
        match is_plain(self.format) {
            true => (self.cols * TILE * self.format.bytes()).next_multiple_of(LINE),
            false => self.head_bytes() + self.blocks() * block_lines(self.format) * LINE,
        }
    }

    /// Bytes of a tile before its weights.
    pub fn head_bytes(&self) -> usize {
        let blocks = self.blocks();
        let bytes = match self.format {
            BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => blocks * TILE * 2,
            BlockFormat::Q4_1 | BlockFormat::Q5_1 => blocks * TILE * 4,
            BlockFormat::Q4K | BlockFormat::Q5K => blocks / 8 * K_HEAD,
            BlockFormat::Q6K => blocks / 8 * Q6K_HEAD,
            BlockFormat::F32 | BlockFormat::F16 | BlockFormat::Bf16 => 0,
        };
        bytes.next_multiple_of(LINE)
    }

    fn unpack_row(&self, row: usize, out: &mut [f32]) {
        let tile_lines = self.tile_bytes() / LINE;
        let tile = &self.lines[row / TILE * tile_lines..][..tile_lines];
        let byte = |at: usize| tile[at / LINE].0[at % LINE];
        let (lane, width) = (row % TILE, self.format.bytes());
        let two = |at: usize| [byte(at), byte(at + 1)];
        if is_plain(self.format) {
            for (col, out) in out.iter_mut().enumerate() {
                let at = (col * TILE + lane) * width;
                *out = match self.format {
                    BlockFormat::F16 => f16::from_le_bytes(two(at)).to_f32(),
                    BlockFormat::Bf16 => bf16::from_le_bytes(two(at)).to_f32(),
                    _ => f32::from_le_bytes(std::array::from_fn(|part| byte(at + part))),
                };
            }
            return;
        }
        let half = |at: usize| f16::from_le_bytes(two(at)).to_f32();
        let factor = |at: usize| match self.format {
            BlockFormat::Q6K => f32::from(byte(at) as i8),
            _ => f32::from(byte(at)),
        };
        let offset = f32::from(self.format.offset());
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let heads = self.heads(block, lane);
            let min = heads.min.map_or(0.0, half) * heads.min_factor.map_or(1.0, factor);
            let scale = [0, 1].map(|part: usize| half(heads.scale) * heads.factors.map_or(1.0, |at| factor(at[part])));
            for (col, out) in out.iter_mut().enumerate() {
                *out = scale[col / 16] * (f32::from(self.weight(tile, block, lane, col)) - offset) + min;
            }
        }
    }

    fn weight(&self, tile: &[Line], block: usize, lane: usize, col: usize) -> u8 {
        let (first, lines) = (self.head_bytes() / LINE, block_lines(self.format));
        let byte = |line: usize| tile[first + block * lines + line].0[lane * 4 + col % 4];
        let group = col / 4;
        if lines == 8 {
            return byte(group);
        }
        let low = byte(group / 2) >> (4 * (group % 2)) & 15;
        match lines {
            5 => low | (byte(4) >> FIFTH_BIT[group] & 1) << 4,
            6 => low | (byte(4 + group / 4) >> UPPER_BITS[group % 4] & 3) << 4,
            _ => low,
        }
    }

    /// Where, within its tile, the scales of a row's block are.
    fn heads(&self, block: usize, lane: usize) -> Heads {
        let (start, sub) = (block / 8, block % 8);
        match self.format {
            BlockFormat::Q4_1 | BlockFormat::Q5_1 => {
                let scale = block * TILE * 4 + 2 * lane;
                Heads { scale, factors: None, min: Some(scale + 2 * TILE), min_factor: None }
            }
            BlockFormat::Q4K | BlockFormat::Q5K => {
                let (start, factors) = (start * K_HEAD, start * K_HEAD + 4 * TILE + sub * TILE + lane);
                let min = Some(start + 2 * TILE + 2 * lane);
                Heads { scale: start + 2 * lane, factors: Some([factors; 2]), min, min_factor: Some(factors + 8 * TILE) }
            }
            BlockFormat::Q6K => {
                let (start, factors) = (start * Q6K_HEAD, start * Q6K_HEAD + 2 * TILE + 2 * sub * TILE + lane);
                Heads { scale: start + 2 * lane, factors: Some([factors, factors + TILE]), min: None, min_factor: None }
            }
            _ => Heads { scale: (block * TILE + lane) * 2, factors: None, min: None, min_factor: None },
        }
    }
}

struct Heads {
    scale: usize,
    factors: Option<[usize; 2]>,
    min: Option<usize>,
    min_factor: Option<usize>,
}

/// The bit of a byte that is the fifth of group g, and the lower of the two upper bits of group g mod 4.
const FIFTH_BIT: [usize; 8] = [4, 5, 6, 7, 3, 2, 1, 0];
const UPPER_BITS: [usize; 4] = [4, 6, 2, 0];

/// One row of a tile that is being written.
struct TileRow<'a> {
    section: &'a Section,
    lines: &'a mut [Line],
    lane: usize,
}

impl TileRow<'_> {
    /// [`TileRow::set_block`] for a block as it stands in a file; returns whether its scale is finite.
    fn set_q8_0(&mut self, block: usize, raw: &[u8]) -> bool {
        let lines = self.set_scale(block, raw);
        let lane = self.lane * 4;
        for (line, four) in self.lines[lines..][..8].iter_mut().zip(raw[2..].as_chunks::<4>().0) {
            line.0[lane..][..4].copy_from_slice(&(u32::from_le_bytes(*four) ^ 0x8080_8080).to_le_bytes());
        }
        f16::from_le_bytes([raw[0], raw[1]]).is_finite()
    }

    /// As [`TileRow::set_q8_0`].
    fn set_q4_0(&mut self, block: usize, raw: &[u8]) -> bool {
        let lines = self.set_scale(block, raw);
        let lane = self.lane * 4;
        // The low halves are the columns 0 to 15, the high halves 16 to 31.
        let words: [u32; 4] = std::array::from_fn(|word| u32::from_le_bytes(std::array::from_fn(|byte| raw[2 + 4 * word + byte])));
        let (low, high) = (words.map(|word| word & 0x0f0f_0f0f), words.map(|word| word >> 4 & 0x0f0f_0f0f));
        let joined = [low[0] | low[1] << 4, low[2] | low[3] << 4, high[0] | high[1] << 4, high[2] | high[3] << 4];
        for (line, word) in self.lines[lines..][..4].iter_mut().zip(joined) {
            line.0[lane..][..4].copy_from_slice(&word.to_le_bytes());
        }
        f16::from_le_bytes([raw[0], raw[1]]).is_finite()
    }

    /// Sets the scale of a format that has only one for each block, and returns the first line of the block.
    fn set_scale(&mut self, block: usize, raw: &[u8]) -> usize {
        self.put((block * TILE + self.lane) * 2, &raw[..2]);
        self.section.head_bytes() / LINE + block * block_lines(self.section.format)
    }

    fn set_plain(&mut self, col: usize, bytes: &[u8]) {
        self.put((col * TILE + self.lane) * bytes.len(), bytes);
    }

    fn set_block(&mut self, block: usize, sub: &SubBlock) {
        let heads = self.section.heads(block, self.lane);
        self.put(heads.scale, &sub.scale.to_le_bytes());
        if let Some(min) = heads.min {
            self.put(min, &sub.min.to_le_bytes());
        }
        for (half, at) in heads.factors.into_iter().flatten().enumerate() {
            self.put(at, &[sub.factors[half] as u8]);
        }
        if let Some(at) = heads.min_factor {
            self.put(at, &[sub.min_factor]);
        }
        let count = block_lines(self.section.format);
        let first = self.section.head_bytes() / LINE + block * count;
        let lane = self.lane * 4;
        let lines = &mut self.lines[first..first + count];
        // Four columns at a time, as one word.
        let mut join = |line: usize, word: u32| {
            let four = &mut lines[line].0[lane..lane + 4];
            let there = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            four.copy_from_slice(&(there | word).to_le_bytes());
        };
        for (group, four) in sub.weights.as_chunks().0.iter().enumerate() {
            let word = u32::from_le_bytes(*four);
            let upper = word >> 4;
            match count {
                8 => join(group, word),
                _ => join(group / 2, (word & 0x0f0f_0f0f) << (4 * (group % 2))),
            }
            match count {
                5 => join(4, (upper & 0x0101_0101) << FIFTH_BIT[group]),
                6 => join(4 + group / 4, (upper & 0x0303_0303) << UPPER_BITS[group % 4]),
                _ => {}
            }
        }
    }

    /// The bytes must not cross a line.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.lines[at / LINE].0[at % LINE..][..bytes.len()].copy_from_slice(bytes);
    }
}
