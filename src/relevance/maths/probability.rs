//! Small tools: rows of probabilities and their logarithms, row subsets, a stable hash.

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
#[inline]
pub fn floor(p: &mut [f64], least: f64) -> f64 {
    let mut sum = 0.0;
    for v in p.iter_mut() {
        *v = v.max(least);
        sum += *v;
    }
    p.iter_mut().for_each(|v| *v /= sum);
    sum
}

/// ln sum_c exp(z_c), safe from overflow.
pub fn log_sum_exp(z: &[f64]) -> f64 {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + z.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

/// softmax in place; returns ln sum_c exp(z_c).
#[inline]
pub fn softmax(z: &mut [f64]) -> f64 {
    if let [a, b] = z {
        // Two classes are the common case, and need one exponential.
        let (top, less) = (a.max(*b), (-(*a - *b).abs()).exp());
        let sum = 1.0 + less;
        (*a, *b) = if *a >= *b { (1.0 / sum, less / sum) } else { (less / sum, 1.0 / sum) };
        return top + sum.ln();
    }
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for v in z.iter_mut() {
        *v = (*v - top).exp();
        sum += *v;
    }
    z.iter_mut().for_each(|v| *v /= sum);
    top + sum.ln()
}

/// (1 - share) z + share ln p, in place of `z`; both `[C]`.
pub fn log_mix(share: f64, p: &[f64], z: &mut [f64]) {
    z.iter_mut().zip(p).for_each(|(z, p)| *z = (1.0 - share) * *z + share * p.ln());
}

/// At most `most` of `n` rows: row floor((2 i + 1) n / (2 most)) for i = 0..most; all rows when n <= most.
pub fn spaced_rows(n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    (0..most).map(|i| ((2 * i as u128 + 1) * n as u128 / (2 * most as u128)) as usize).collect()
}

/// Position of the largest value, the first of equals; 0 for an empty slice.
pub fn argmax(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
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
