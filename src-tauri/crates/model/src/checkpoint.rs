//! Safetensors files, checked by ourselves before a number is read from them.
//!
//! The header is the part of a model file that a stranger can craft. Everything it claims is checked against the length of
//! the file first: header at most 8 MB, at most 20,000 tensors, known dtypes, sizes equal to dtype × shape in checked
//! arithmetic, and tensors that tile the data without overlap or gap. Nothing is allocated by a size that was only claimed.
//! Pickle (`.bin`, `.pt`) is never read.

use crate::ModelError;
use half::{bf16, f16};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const MAX_HEADER_BYTES: u64 = 8 << 20;
const MAX_TENSORS: usize = 20_000;
const MAX_DIMENSIONS: usize = 8;

/// An open safetensors file whose header has been checked.
pub(crate) struct Checkpoint {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, Tensor>,
}

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes from the start of the data.
    begin: u64,
    end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F32,
    F16,
    Bf16,
    I8,
    /// Known to the format, not to us: counted, never read.
    Other(u64),
}

impl Checkpoint {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged` with what is wrong in the header, `Unsupported` for pickle and GGUF files.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let mut file = File::open(path).map_err(ModelError::io(path))?;
        let length = file.metadata().map_err(ModelError::io(path))?.len();
        let mut start = [0u8; 8];
        let damaged = |reason: &str| ModelError::damaged(path, reason);
        file.read_exact(&mut start).map_err(|_| damaged("it ends within its first 8 bytes"))?;
        refuse_other_formats(&start, path)?;
        let header_bytes = u64::from_le_bytes(start);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(damaged("its header claims more than 8 MB"));
        }
        let data_start = 8 + header_bytes;
        if data_start > length {
            return Err(damaged("it ends within its header"));
        }
        let mut header = vec![0u8; header_bytes as usize];
        file.read_exact(&mut header).map_err(ModelError::io(path))?;
        let tensors = parse_header(&header, length - data_start).map_err(|reason| ModelError::damaged(path, reason))?;
        Ok(Self { path: path.to_owned(), file, data_start, tensors })
    }

    /// How many tensors it holds.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Of the whole file.
    pub fn bytes(&self) -> u64 {
        self.data_start + self.tensors.values().map(|tensor| tensor.end).max().unwrap_or(0)
    }

    /// How the numbers of a tensor are held, as GGUF names it.
    pub fn dtype(&self, name: &str) -> Option<&'static str> {
        self.tensors.get(name).map(|tensor| match tensor.dtype {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::I8 => "I8",
            Dtype::Other(_) => "other",
        })
    }

    /// Reads one f32, f16 or bf16 tensor of exactly this shape, row-major.
    ///
    /// # Errors
    /// `Damaged` when it is absent, has another shape or holds a number that is not finite; `Unsupported` for another dtype.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let tensor = self.find(name, |held| held == shape, &format!("{shape:?}"))?;
        let (dtype, begin, end) = (tensor.dtype, tensor.begin, tensor.end);
        self.numbers(name, dtype, begin, end)
    }

    /// Reads `count` rows from `first` on, of a tensor of exactly this shape; a vector counts as one row.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn rows(&mut self, name: &str, rows: usize, cols: usize, first: usize, count: usize) -> Result<Vec<f32>, ModelError> {
        let fits = |held: &[usize]| held == [rows, cols] || (rows == 1 && held == [cols]);
        let tensor = self.find(name, fits, &format!("[{rows}, {cols}]"))?;
        let (dtype, row_bytes) = (tensor.dtype, (tensor.end - tensor.begin) / rows as u64);
        let (begin, end) = (tensor.begin + first as u64 * row_bytes, tensor.begin + (first + count) as u64 * row_bytes);
        if end > tensor.end {
            return Err(ModelError::damaged(&self.path, format!("{name} has only {rows} rows")));
        }
        self.numbers(name, dtype, begin, end)
    }

    /// Reads one int8 tensor of exactly this shape, row-major.
    ///
    /// # Errors
    /// `Damaged` when it is absent or has another shape; `Unsupported` for another dtype.
    pub fn read_i8(&mut self, name: &str, shape: &[usize]) -> Result<Vec<i8>, ModelError> {
        let tensor = self.find(name, |held| held == shape, &format!("{shape:?}"))?;
        if tensor.dtype != Dtype::I8 {
            return Err(ModelError::unsupported(&self.path, format!("{name} is not int8")));
        }
        let (begin, end) = (tensor.begin, tensor.end);
        Ok(self.bytes_between(begin, end)?.into_iter().map(|byte| byte as i8).collect())
    }

    fn find(&self, name: &str, fits: impl Fn(&[usize]) -> bool, wanted: &str) -> Result<&Tensor, ModelError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(ModelError::damaged(&self.path, format!("the tensor {name} is missing")));
        };
        if !fits(&tensor.shape) {
            return Err(ModelError::damaged(&self.path, format!("{name} has the shape {:?} instead of {wanted}", tensor.shape)));
        }
        Ok(tensor)
    }

    fn bytes_between(&mut self, begin: u64, end: u64) -> Result<Vec<u8>, ModelError> {
        let mut bytes = vec![0u8; (end - begin) as usize];
        self.file.seek(SeekFrom::Start(self.data_start + begin)).map_err(ModelError::io(&self.path))?;
        self.file.read_exact(&mut bytes).map_err(ModelError::io(&self.path))?;
        Ok(bytes)
    }

    fn numbers(&mut self, name: &str, dtype: Dtype, begin: u64, end: u64) -> Result<Vec<f32>, ModelError> {
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return Err(ModelError::unsupported(&self.path, format!("{name} is not f32, f16 or bf16")));
        }
        let bytes = self.bytes_between(begin, end)?;
        let values: Vec<f32> = match dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect(),
            Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|raw| f16::from_le_bytes(*raw).to_f32()).collect(),
            _ => bytes.as_chunks::<2>().0.iter().map(|raw| bf16::from_le_bytes(*raw).to_f32()).collect(),
        };
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ModelError::damaged(&self.path, format!("{name} holds a number that is not finite")));
        }
        Ok(values)
    }
}

/// Disguised files are told by their first bytes, so that the error can say what to do.
fn refuse_other_formats(start: &[u8; 8], path: &Path) -> Result<(), ModelError> {
    let refuse = |reason: &str| Err(ModelError::unsupported(path, reason));
    match start {
        [b'P', b'K', 3, 4, ..] => refuse("it is a pickle archive, which could run code; convert it to safetensors"),
        [0x80, 2..=5, b'}' | b']' | b'(' | b'c' | 0x8a | 0x95, ..] => {
            refuse("it is a pickle, which could run code; convert it to safetensors")
        }
        [b'G', b'G', b'U', b'F', ..] => refuse("it is a GGUF file; this place needs safetensors"),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Parses and checks a header against the bytes of data that really follow it; an error says what is wrong.
fn parse_header(header: &[u8], data_bytes: u64) -> Result<BTreeMap<String, Tensor>, String> {
    let raw: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    if raw.len() > MAX_TENSORS {
        return Err(format!("it claims {} tensors, more than {MAX_TENSORS}", raw.len()));
    }
    let mut tensors = BTreeMap::new();
    for (name, value) in raw.into_iter().filter(|(name, _)| name != "__metadata__") {
        let raw = RawTensor::deserialize(value).map_err(|error| format!("{name}: {error}"))?;
        let tensor = check_tensor(raw).map_err(|reason| format!("{name}: {reason}"))?;
        tensors.insert(name, tensor);
    }
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| (tensor.begin, tensor.end));
    let mut expected = 0;
    for (name, tensor) in order {
        if tensor.begin != expected {
            return Err(format!("{name} begins at {} where {expected} is due, so tensors overlap or leave a gap", tensor.begin));
        }
        expected = tensor.end;
    }
    if expected != data_bytes {
        return Err(format!("its tensors take {expected} bytes, but {data_bytes} follow the header"));
    }
    Ok(tensors)
}

fn check_tensor(raw: RawTensor) -> Result<Tensor, String> {
    let dtype = match raw.dtype.as_str() {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "F64" | "I64" | "U64" => Dtype::Other(8),
        "I32" | "U32" => Dtype::Other(4),
        "I16" | "U16" => Dtype::Other(2),
        "I8" => Dtype::I8,
        "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => Dtype::Other(1),
        other => return Err(format!("the dtype \"{other}\" is not known")),
    };
    let width = match dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::Bf16 => 2,
        Dtype::I8 => 1,
        Dtype::Other(width) => width,
    };
    if raw.shape.len() > MAX_DIMENSIONS {
        return Err(format!("it has {} dimensions", raw.shape.len()));
    }
    let size = raw.shape.iter().try_fold(width, |size: u64, side| size.checked_mul(*side)).ok_or("its size overflows")?;
    let [begin, end] = raw.data_offsets;
    if end.checked_sub(begin) != Some(size) {
        return Err(format!("its offsets {begin}..{end} do not hold its {size} bytes"));
    }
    let shape = raw.shape.into_iter().map(usize::try_from).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok(Tensor { dtype, shape, begin, end })
}
