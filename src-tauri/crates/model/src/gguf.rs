//! GGUF files (versions 2 and 3), checked by ourselves before a number is read from them.
//!
//! The header is read as a stream: nothing is allocated by a size that was only claimed, and every count, length, offset and
//! product of dimensions is held against the length of the file. Tensors must lie one behind the other, each at a multiple of
//! the alignment, without overlap or gap. Layout as in ggml's `docs/gguf.md`.

use crate::ModelError;
use kernels::packed::{BlockFormat, PackError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const MAX_TENSORS: u64 = 20_000;
const MAX_ENTRIES: u64 = 10_000;
/// The largest known vocabularies with their merges take 12 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_NAME_BYTES: u64 = 256;
const MAX_DIMENSIONS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 16;

/// An open GGUF file whose header has been checked.
pub(crate) struct Gguf {
    path: PathBuf,
    file: File,
    bytes: u64,
    metadata: BTreeMap<String, Value>,
    data_start: u64,
    tensors: BTreeMap<String, Tensor>,
}

/// An entry of the metadata. Whole numbers of any width are `Integer`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    /// An array of another kind, which nothing here needs.
    Other,
}

#[derive(Debug, Clone)]
struct Tensor {
    kind: BlockFormat,
    /// Outermost first, as everywhere else here; the file has them the other way round.
    shape: Vec<usize>,
    /// Bytes from the start of the data.
    begin: u64,
    bytes: u64,
}

impl Gguf {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged` with what is wrong, `Unsupported` for another version, byte order or kind of tensor.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::io(path))?;
        let length = file.metadata().map_err(ModelError::io(path))?.len();
        let mut header = Header { path, left: length.min(MAX_HEADER_BYTES), input: BufReader::with_capacity(1 << 16, file) };
        if header.array::<4>()? != *b"GGUF" {
            return Err(header.damaged("it does not begin as a GGUF file does"));
        }
        match header.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() == 3 || version.swap_bytes() == 2 => {
                return Err(ModelError::unsupported(path, "its bytes are in big-endian order"));
            }
            version => return Err(ModelError::unsupported(path, format!("it is GGUF version {version}; known are 2 and 3"))),
        }
        let (tensors, entries) = (header.u64()?, header.u64()?);
        if tensors > MAX_TENSORS || entries > MAX_ENTRIES {
            return Err(header.damaged(format!("it claims {tensors} tensors and {entries} entries")));
        }
        let metadata = header.metadata(entries)?;
        let raw = (0..tensors).map(|_| header.tensor()).collect::<Result<Vec<_>, _>>()?;
        let read = length.min(MAX_HEADER_BYTES) - header.left;
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Integer(value)) if *value > 0 && (*value as u64).is_power_of_two() && *value as u64 <= MAX_ALIGNMENT => {
                *value as u64
            }
            Some(_) => return Err(header.damaged("its alignment is not a power of two")),
        };
        let data_start = read.next_multiple_of(alignment);
        let tensors = place(raw, alignment, length.saturating_sub(data_start)).map_err(|reason| ModelError::damaged(path, reason))?;
        Ok(Self { path: path.to_owned(), file: header.input.into_inner(), bytes: length, metadata, data_start, tensors })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the whole file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn integer(&self, key: &str) -> Option<i64> {
        match self.metadata.get(key) {
            Some(Value::Integer(value)) => Some(*value),
            _ => None,
        }
    }

    pub fn float(&self, key: &str) -> Option<f32> {
        match self.metadata.get(key) {
            Some(Value::Float(value)) => Some(*value as f32),
            Some(Value::Integer(value)) => Some(*value as f32),
            _ => None,
        }
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key) {
            Some(Value::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Kind and shape of a tensor, outermost dimension first.
    pub fn layout(&self, name: &str) -> Option<(BlockFormat, &[usize])> {
        self.tensors.get(name).map(|tensor| (tensor.kind, &tensor.shape[..]))
    }

    /// [`Gguf::rows`] in f32.
    ///
    /// # Errors
    /// As [`Gguf::rows`], and `Damaged` for a number that is not finite.
    pub fn numbers(&self, name: &str, first: usize, rows: usize, cols: usize) -> Result<Vec<f32>, ModelError> {
        let (kind, bytes) = self.rows(name, first, rows, cols)?;
        let mut values = vec![0.0; rows * cols];
        match kind.dequantise(&bytes, &mut values) {
            Ok(()) if values.iter().all(|value| value.is_finite()) => Ok(values),
            Ok(()) => Err(ModelError::damaged(&self.path, format!("{name} holds a number that is not finite"))),
            Err(error) => Err(ModelError::damaged(&self.path, format!("{name}: {error}"))),
        }
    }

    /// Reads the bytes of `rows` rows from `first` on, of a tensor that has `cols` columns.
    ///
    /// # Errors
    /// As [`Gguf::format_of`].
    pub fn rows(&self, name: &str, first: usize, rows: usize, cols: usize) -> Result<(BlockFormat, Vec<u8>), ModelError> {
        let kind = self.format_of(name, first.saturating_add(rows), cols)?;
        let row_bytes = kind.row_bytes(cols).map_err(|error| ModelError::damaged(&self.path, format!("{name}: {error}")))?;
        let mut bytes = vec![0u8; rows * row_bytes];
        self.read_rows(name, first, cols, &mut bytes)?;
        Ok((kind, bytes))
    }

    /// How a tensor that has `cols` columns and at least `rows` rows is held.
    ///
    /// # Errors
    /// `Damaged` when it is absent, has another width or fewer rows.
    pub fn format_of(&self, name: &str, rows: usize, cols: usize) -> Result<BlockFormat, ModelError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(ModelError::damaged(&self.path, format!("the tensor {name} is missing")));
        };
        let (width, held) = match tensor.shape[..] {
            [width] => (width, 1),
            [rows, width] => (width, rows),
            _ => (0, 0),
        };
        if width != cols || rows > held {
            let reason = format!("{name} has the shape {:?}, where {rows} rows of {cols} are due", tensor.shape);
            return Err(ModelError::damaged(&self.path, reason));
        }
        Ok(tensor.kind)
    }

    /// Reads rows of `cols` columns from `first` on, as many as fit into `out`; from several threads at once, if need be.
    ///
    /// # Errors
    /// As [`Gguf::format_of`], and `Io`.
    pub fn read_rows(&self, name: &str, first: usize, cols: usize, out: &mut [u8]) -> Result<(), ModelError> {
        let damaged = |error: PackError| ModelError::damaged(&self.path, format!("{name}: {error}"));
        let row_bytes = self.format_of(name, first, cols)?.row_bytes(cols).map_err(damaged)?;
        self.format_of(name, first.saturating_add(out.len() / row_bytes), cols)?;
        // Inside the file by now, so nothing can overflow.
        let begin = self.tensors.get(name).map_or(0, |tensor| tensor.begin);
        let at = self.data_start + begin + (first * row_bytes) as u64;
        read_exact_at(&self.file, out, at).map_err(ModelError::io(&self.path))
    }
}

/// Reads at a place in a file without moving a cursor that other threads may use.
#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => (out, at) = (&mut out[count..], at + count as u64),
        }
    }
    Ok(())
}

/// Gives every tensor its place, or says what is wrong. `available` is what follows the header.
fn place(raw: Vec<(String, Tensor)>, alignment: u64, available: u64) -> Result<BTreeMap<String, Tensor>, String> {
    let mut order: Vec<&(String, Tensor)> = raw.iter().collect();
    order.sort_by_key(|(_, tensor)| (tensor.begin, tensor.bytes));
    let mut end = 0u64;
    for (name, tensor) in order {
        if tensor.begin != end.next_multiple_of(alignment) {
            return Err(format!("{name} begins at {}, so tensors overlap or leave a gap", tensor.begin));
        }
        end = tensor.begin.checked_add(tensor.bytes).ok_or_else(|| format!("the place of {name} overflows"))?;
        if end > available {
            return Err(format!("{name} ends at {end}, but only {available} bytes follow the header"));
        }
    }
    let count = raw.len();
    let tensors: BTreeMap<String, Tensor> = raw.into_iter().collect();
    if tensors.len() != count {
        return Err("two of its tensors have the same name".to_owned());
    }
    Ok(tensors)
}

/// The header while it is read; `left` bytes of it may still follow.
struct Header<'a> {
    path: &'a Path,
    left: u64,
    input: BufReader<File>,
}

impl Header<'_> {
    fn damaged(&self, reason: impl Into<String>) -> ModelError {
        ModelError::damaged(self.path, reason)
    }

    fn take(&mut self, count: u64) -> Result<(), ModelError> {
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => return Err(self.damaged("it ends within its header, or its header is larger than 64 MB")),
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(ModelError::io(self.path))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, longest: u64) -> Result<String, ModelError> {
        let length = self.u64()?;
        if length > longest {
            return Err(self.damaged(format!("a text of {length} bytes is longer than {longest}")));
        }
        self.take(length)?;
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes).map_err(ModelError::io(self.path))?;
        // Tokens of some vocabularies are bytes that are no UTF-8; those are found again by their ids only.
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn metadata(&mut self, entries: u64) -> Result<BTreeMap<String, Value>, ModelError> {
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = self.text(MAX_NAME_BYTES)?;
            let kind = self.u32()?;
            let value = if kind == 9 { self.values()? } else { self.value(kind)? };
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.damaged(format!("it has two entries {key}")));
            }
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32) -> Result<Value, ModelError> {
        Ok(match kind {
            0 => Value::Integer(self.array::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => match self.array::<1>()?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(self.damaged("an entry is neither true nor false")),
            },
            8 => Value::Text(self.text(MAX_HEADER_BYTES)?),
            // Numbers beyond i64 mean nothing that could be used here.
            10 => Value::Integer(i64::try_from(self.u64()?).unwrap_or(i64::MAX)),
            11 => Value::Integer(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(self.damaged(format!("an entry has the unknown type {kind}"))),
        })
    }

    /// An array. Its length is believed only as far as bytes follow: every element takes at least one.
    fn values(&mut self) -> Result<Value, ModelError> {
        let (kind, length) = (self.u32()?, self.u64()?);
        if length > self.left {
            return Err(self.damaged(format!("an array claims {length} elements")));
        }
        match kind {
            0..=5 | 10 | 11 => {
                let mut all = Vec::new();
                for _ in 0..length {
                    if let Value::Integer(value) = self.value(kind)? {
                        all.push(value);
                    }
                }
                Ok(Value::Integers(all))
            }
            6 => {
                let mut all = Vec::new();
                for _ in 0..length {
                    all.push(f32::from_le_bytes(self.array()?));
                }
                Ok(Value::Floats(all))
            }
            8 => {
                let mut all = Vec::new();
                for _ in 0..length {
                    all.push(self.text(MAX_HEADER_BYTES)?);
                }
                Ok(Value::Texts(all))
            }
            7 | 12 => {
                for _ in 0..length {
                    self.value(kind)?;
                }
                Ok(Value::Other)
            }
            _ => Err(self.damaged(format!("an array holds the unknown type {kind}"))),
        }
    }

    fn tensor(&mut self) -> Result<(String, Tensor), ModelError> {
        let name = self.text(MAX_NAME_BYTES)?;
        let dimensions = self.u32()?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(self.damaged(format!("{name} has {dimensions} dimensions")));
        }
        let mut shape = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<u64>, _>>()?;
        shape.reverse();
        let kind = self.u32()?;
        let begin = self.u64()?;
        let Some(kind) = BlockFormat::from_ggml(kind) else {
            return Err(ModelError::unsupported(self.path, format!("{name} is held in a way (type {kind}) that is not known")));
        };
        let values = shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side)).filter(|values| *values > 0);
        let width = shape[shape.len() - 1];
        let (values_a_block, bytes_a_block) = (kind.columns(), kind.bytes());
        let (Some(values), true) = (values, width.is_multiple_of(values_a_block as u64)) else {
            return Err(self.damaged(format!("{name} has the impossible shape {shape:?}")));
        };
        let bytes = (values / values_a_block as u64).checked_mul(bytes_a_block as u64);
        let sides = shape.iter().map(|side| usize::try_from(*side).ok()).collect::<Option<Vec<usize>>>();
        match (bytes, sides) {
            (Some(bytes), Some(shape)) => Ok((name, Tensor { kind, shape, begin, bytes })),
            _ => Err(self.damaged(format!("the size of {name} overflows"))),
        }
    }
}
