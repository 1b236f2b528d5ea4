//! Small tools: rows of probabilities and their logarithms, row subsets, a stable hash.

use std::ops::Range;

use crate::relevance::maths::real::Real;

/// Floor of raw scores where they are averaged as they come.
pub const RAW_FLOOR: f64 = 1e-4;
/// Floor of calibrated scores.
pub const CALIBRATED_FLOOR: f64 = 1e-3;
/// Floor of class shares.
pub const SHARE_FLOOR: f64 = 0.01;

/// Floor of scores before calibration: 1 / (1 + e^8), a logit of -8.
pub fn steep_floor() -> f64 {
    1.0 / (1.0 + 8f64.exp())
}

/// max(p, least), divided by its sum over the classes, in place; returns that sum.
#[inline(always)]
pub fn floor<R: Real>(p: &mut [R], least: f64) -> R {
    let mut sum = R::default();
    for v in p.iter_mut() {
        *v = v.at_least(R::splat(least));
        sum = sum + *v;
    }
    p.iter_mut().for_each(|v| *v = *v / sum);
    sum
}

/// softmax in place; returns ln sum_c exp(z_c).
#[inline(always)]
pub fn softmax<R: Real>(z: &mut [R]) -> R {
    if let [a, b] = z {
        // Two classes are the common case, and need one exponential.
        let (top, low) = (a.at_least(*b), b.if_above(*a, *a, *b));
        let less = (low - top).exp();
        let sum = less + 1.0;
        let (large, small) = (R::splat(1.0) / sum, less / sum);
        (*a, *b) = (b.if_above(*a, small, large), b.if_above(*a, large, small));
        return top + sum.ln();
    }
    let top = z.iter().copied().fold(R::splat(f64::NEG_INFINITY), |top, v| v.at_least(top));
    let mut sum = R::default();
    for v in z.iter_mut() {
        *v = (*v - top).exp();
        sum = sum + *v;
    }
    z.iter_mut().for_each(|v| *v = *v / sum);
    top + sum.ln()
}

/// Probabilities `[C]` to slope ln p + bias, less slope ln p of the first class, in place: only differences of
/// logits count, so one logarithm is spared.
#[inline(always)]
pub fn logits<R: Real>(p: &mut [R], slope: f64, bias: &[f64]) {
    let Some((first, rest)) = p.split_first_mut() else { return };
    for (z, b) in rest.iter_mut().zip(&bias[1..]) {
        *z = (*z / *first).ln() * slope + *b;
    }
    *first = R::splat(bias[0]);
}

/// (1 - share) z + share ln p, in place of `z`; both `[C]`.
#[inline(always)]
pub fn log_mix<R: Real>(share: f64, p: &[R], z: &mut [R]) {
    z.iter_mut().zip(p).for_each(|(z, p)| *z = *z * (1.0 - share) + p.ln() * share);
}

/// At most `most` of `n` rows: row floor((2 i + 1) n / (2 most)) for i = 0..most; all rows when n <= most.
pub fn spaced_rows(n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    (0..most).map(|i| ((2 * i as u128 + 1) * n as u128 / (2 * most as u128)) as usize).collect()
}

/// Those of some ascending rows that lie in a range, counted from its start.
pub fn rows_within(rows: &[usize], range: Range<usize>) -> Vec<usize> {
    let before = |end: usize| rows.partition_point(|row| *row < end);
    rows[before(range.start)..before(range.end)].iter().map(|row| row - range.start).collect()
}

/// Position of the largest value, the first of equals; 0 for an empty slice.
pub fn argmax(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}

/// The same as a number, for one row or several.
#[inline(always)]
pub fn place_of_largest<R: Real>(values: &[R]) -> R {
    let (mut place, mut top) = (R::default(), values[0]);
    for (i, v) in values.iter().enumerate().skip(1) {
        place = v.if_above(top, R::splat(i as f64), place);
        top = v.if_above(top, *v, top);
    }
    place
}

/// Entropy of a distribution in nats.
pub fn entropy(p: &[f64]) -> f64 {
    p.iter().map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 }).sum()
}

/// Mean of `-ln p[label]` over rows of `p` `[n, C]`.
pub fn log_loss(p: &[f64], labels: &[u16], classes: usize) -> f64 {
    p.chunks_exact(classes).zip(labels).map(|(row, &y)| -row[usize::from(y)].ln()).sum::<f64>()
        / labels.len() as f64
}

/// A hash that is the same in every run and on every machine: FNV-1a, then a mix that spreads its high bits.
pub fn hash(bytes: &[u8]) -> u64 {
    let raw =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let mixed = (raw ^ (raw >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}
