//! Names and numbers that nobody else has: ids of tables and snapshots, names of their metadata files.

use std::hash::{BuildHasher, RandomState};

/// 128 bits of chance.
pub fn bits() -> u128 {
    let half = || RandomState::new().hash_one(std::process::id());
    u128::from(half()) << 64 | u128::from(half())
}

/// A UUID of version 4.
pub fn uuid() -> String {
    let bits = bits() & !(0xf000 << 64) & !(0xc << 60) | 0x4000 << 64 | 0x8 << 60;
    let text = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
