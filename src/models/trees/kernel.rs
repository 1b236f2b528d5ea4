//! The inner loops of the engine, in plain Rust; `x86` has them in vector instructions.

use std::ops::AddAssign;

use crate::models::trees::code::{Lane, Node, ROWS, Search};

/// Work that is compiled once for each [`Kernel`].
pub trait Task {
    /// Does the work; to be `inline(always)`.
    fn run<K: Kernel>(self);
}

/// The loops that are written by hand for a processor. `Isa::run` alone picks one.
pub trait Kernel {
    /// Up to so many thresholds are cheaper compared with than searched.
    const FEW: usize;

    /// `out[k]` has the rows with `x <= thresholds[k]`.
    fn compare(x: &[f32; ROWS], thresholds: &[f32], out: &mut [Lane]);

    /// The first threshold k (or their number) with `x <= thresholds[k]`.
    fn search(x: &[f32; ROWS], search: &Search, out: &mut [u32; ROWS]);

    /// Parts the rows of slot i, for each node i, to its children's slots; from `inner` on only to the right.
    fn part(nodes: &[Node], inner: usize, conditions: &[Lane], slots: &mut [Lane]);

    /// XOR of slots.
    fn xor(turns: &[u32], slots: &[Lane]) -> Lane;

    /// Adds to each row's sum the leaf (`stride` values apart, starting at `leaves[0]`) whose number's binary
    /// digits are the planes (at most 32), lowest first.
    fn add<T: Sum>(planes: &[Lane], leaves: &[T], stride: usize, sums: &mut [T]);
}

/// The type that sums are kept in.
pub trait Sum: Copy + Default + AddAssign + Send + Sync + 'static {
    /// The nearest value.
    fn from_f64(value: f64) -> Self;
    /// The same value.
    fn to_f64(self) -> f64;
}

impl Sum for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Sum for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// Plain code.
pub struct Plain;

impl Kernel for Plain {
    const FEW: usize = 0;

    #[inline(always)]
    fn compare(x: &[f32; ROWS], thresholds: &[f32], out: &mut [Lane]) {
        for (threshold, lane) in thresholds.iter().zip(out) {
            for (word, values) in lane.0.iter_mut().zip(x.chunks_exact(64)) {
                *word = values.iter().rev().fold(0, |word, v| word << 1 | u64::from(v <= threshold));
            }
        }
    }

    #[inline(always)]
    fn search(x: &[f32; ROWS], search: &Search, out: &mut [u32; ROWS]) {
        for (place, value) in out.iter_mut().zip(x) {
            *place = search.thresholds.partition_point(|threshold| {
                // said so that NaN is above all
                let meets = value <= threshold;
                !meets
            }) as u32;
        }
    }

    #[inline(always)]
    fn part(nodes: &[Node], inner: usize, conditions: &[Lane], slots: &mut [Lane]) {
        for (at, node) in nodes.iter().enumerate() {
            let (here, holds) = (slots[at], conditions[node.condition as usize]);
            if at < inner {
                slots[node.left as usize] = here.and(holds);
            }
            slots[node.right as usize] = here.and_not(holds);
        }
    }

    #[inline(always)]
    fn xor(turns: &[u32], slots: &[Lane]) -> Lane {
        turns.iter().fold(Lane([0; ROWS / 64]), |all, &turn| all.xor(slots[turn as usize]))
    }

    #[inline(always)]
    fn add<T: Sum>(planes: &[Lane], leaves: &[T], stride: usize, sums: &mut [T]) {
        let digits: [[u8; ROWS]; 4] =
            std::array::from_fn(|group| bytes(planes.chunks(8).nth(group).unwrap_or_default()));
        for (row, sum) in sums.iter_mut().enumerate().take(ROWS) {
            let number = u32::from_le_bytes(std::array::from_fn(|group| digits[group][row]));
            *sum += leaves[number as usize * stride];
        }
    }
}

/// `SPREAD[b]` has bit i of b as byte i.
const SPREAD: [u64; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        let mut i = 0;
        while i < 8 {
            table[b] |= ((b as u64 >> i) & 1) << (8 * i);
            i += 1;
        }
        b += 1;
    }
    table
};

/// The bytes whose binary digits are the planes (at most 8), lowest first.
#[inline(always)]
fn bytes(planes: &[Lane]) -> [u8; ROWS] {
    let mut out = [0; ROWS];
    for (group, eight) in out.chunks_exact_mut(8).enumerate() {
        let byte = |plane: &Lane| (plane.0[group / 8] >> (8 * (group % 8))) as usize & 255;
        let all = planes.iter().enumerate().fold(0, |all, (digit, plane)| all | SPREAD[byte(plane)] << digit);
        eight.copy_from_slice(&all.to_le_bytes());
    }
    out
}
