//! A look at the write-ahead log before SQLite reads it.
//!
//! SQLite ends its log at the first frame whose checksum is wrong and says nothing: right after a power cut, which can only
//! tear the transaction that was not acknowledged yet, but a byte that flipped in the middle would take every acknowledged
//! transaction after it along. Format: <https://www.sqlite.org/fileformat2.html#walformat>.

use std::path::Path;
use std::{fs, io, thread, time::Duration};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Where a log is damaged so that acknowledged transactions would be lost; `None` for one that is whole or only torn at its
/// end. A flipped byte in the very last transaction cannot be told from a torn one.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn damage(path: &Path) -> io::Result<Option<String>> {
    let first = damage_in(&read(path)?);
    // Another program may be writing just now; what it leaves half-written for a moment is not damage.
    for _ in 0..2 {
        if first.is_none() {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
        if damage_in(&read(path)?) != first {
            return Ok(None);
        }
    }
    Ok(first)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome,
    }
}

fn damage_in(log: &[u8]) -> Option<String> {
    // The header is one sector and is written before any frame: with frames behind it, it cannot be torn.
    let (header, frames) = log.split_at_checked(HEADER)?;
    if frames.len() < FRAME_HEADER + 512 {
        return None;
    }
    let page_size = word(header, 8) as usize;
    let big_endian = word(header, 0) & 1 == 1;
    let known = matches!(word(header, 0), 0x377f_0682 | 0x377f_0683) && page_size.is_power_of_two() && (512..=65_536).contains(&page_size);
    let mut sum = checksum(big_endian, (0, 0), &header[..24]);
    if !known || sum != (word(header, 24), word(header, 28)) {
        return Some("the header of its log is wrong".to_owned());
    }

    let frames: Vec<_> = frames.chunks_exact(FRAME_HEADER + page_size).collect();
    let ours = |frame: &&[u8]| frame[8..16] == header[16..24];
    let first_bad = frames.iter().position(|frame| {
        sum = checksum(big_endian, sum, &frame[..8]);
        sum = checksum(big_endian, sum, &frame[FRAME_HEADER..]);
        !ours(frame) || sum != (word(frame, 16), word(frame, 20))
    })?;
    // The transaction of the bad frame ends with the next commit frame; if another one follows, it had been acknowledged.
    let rest = &frames[first_bad..];
    let commit = rest.iter().position(|frame| ours(frame) && word(frame, 4) != 0)?;
    rest[commit + 1..].iter().any(ours).then(|| format!("frame {first_bad} of {} in its log is wrong", frames.len()))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(big_endian: bool, start: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    bytes.chunks_exact(8).fold(start, |(first, second), pair| {
        let (a, b) = (word(pair, 0), word(pair, 4));
        let (a, b) = if big_endian { (a, b) } else { (a.swap_bytes(), b.swap_bytes()) };
        let first = first.wrapping_add(a).wrapping_add(second);
        (first, second.wrapping_add(b).wrapping_add(first))
    })
}
