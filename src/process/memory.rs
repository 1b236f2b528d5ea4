//! Memory: what the process holds, and the limit that `--max-memory` sets.
//!
//! Every stage asks after each batch ([`crate::process::cancel::check`]); beyond the limit it ends with exit
//! 75 and what it needed.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};

/// Bytes; 0 is no limit.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// A number of bytes as people write it: `800000000`, `512M`, `2Gi`, `1.5GiB`. K, M, G, T are powers of 1000,
/// Ki, Mi, Gi, Ti of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Size, String> {
        let refuse = || format!("{text:?} is no size; write bytes, or 512M, 2Gi, 1.5GiB");
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim().to_ascii_lowercase();
        let unit = unit.strip_suffix('b').unwrap_or(&unit);
        let (letter, base) = match unit.strip_suffix('i') {
            Some(letter) => (letter, 1024f64),
            None => (unit, 1000f64),
        };
        let power = ["", "k", "m", "g", "t"].iter().position(|l| *l == letter).ok_or_else(refuse)?;
        let bytes = number * base.powi(power as i32);
        // No process of this job runs in less than a mebibyte.
        if (1048576.0..1e18).contains(&bytes) { Ok(Size(bytes as u64)) } else { Err(refuse()) }
    }
}

/// From now on no stage may hold more.
pub fn limit(size: Size) {
    LIMIT.store(size.0, Ordering::Relaxed);
}

/// An error (75) while the process holds more than the limit.
pub fn check() -> Result<()> {
    let limit = LIMIT.load(Ordering::Relaxed);
    if limit == 0 || resident() <= limit {
        return Ok(());
    }
    // What was freed may not have been returned yet.
    give_back();
    match resident() {
        held if held > limit => {
            Err(Error::new(Kind::Memory, "this needs more memory than --max-memory allows")
                .value(format!("{} MiB and more, {} MiB are allowed", held >> 20, limit >> 20))
                .hint("raise --max-memory, or lower --threads or student.max_training_rows"))
        }
        _ => Ok(()),
    }
}

/// Memory below which nothing is given back: to take it again costs more than it is worth.
const WORTH_GIVING: u64 = 256 << 20;

/// Returns what was freed to the operating system, so that the stages of a large job do not add up to the peak.
pub fn give_back() {
    if resident() < WORTH_GIVING {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that the process holds in memory now; 0 where the system does not say (it is asked on Linux only).
pub fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|t| t.split(' ').nth(1)?.parse::<u64>().ok());
    // SAFETY: sysconf takes no pointer.
    pages.unwrap_or(0) * unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as u64
}

/// The most that the process has held, in bytes.
pub fn peak() -> u64 {
    // SAFETY: rusage is plain numbers, for which zeros are valid, and getrusage fills what the pointer is to.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss as u64 * if cfg!(target_os = "macos") { 1 } else { 1024 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let good = [
            ("2000000", 2_000_000),
            ("512M", 512_000_000),
            ("2Gi", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("4 mib", 4 << 20),
            ("1tb", 10u64.pow(12)),
        ];
        for (text, bytes) in good {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "G", "12", "1.2.3G", "-1G", "1X", "1Gig", "1e300", "9999999T"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
