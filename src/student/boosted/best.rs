//! The best cut of a feature, by the sums of its bins.

use crate::models::trees::simd::vectorised;
use crate::student::boosted::bins::BINS;
use crate::student::boosted::sums::{Found, Limits, Sum};

/// Working memory of the search for a feature's best cut.
pub struct Work {
    lefts: [Sum; BINS],
    gains: [f64; BINS],
}

impl Default for Work {
    fn default() -> Self {
        Work { lefts: [Sum::default(); BINS], gains: [0.0; BINS] }
    }
}

/// The best cut of one feature, if it gains more than `limits.min_gain`: of the bins in their order, or of levels
/// in the order of their own best value (which holds the best of all two-way partitions: Fisher 1958), with null
/// on either side.
pub fn best_of_feature(
    feature: usize,
    sums: &[Sum],
    category: bool,
    total: Sum,
    limits: &Limits,
    Work { lefts, gains }: &mut Work,
) -> Option<Found> {
    let (null, bins) = sums.split_first()?;
    let mut order = [0; BINS];
    let order = category.then(|| by_value(&mut order[..bins.len()], sums, limits));
    let lefts = match order {
        Some(order) => running(order.iter().map(|bin| sums[usize::from(*bin)]), lefts),
        None => running(bins.iter().copied(), lefts),
    };
    let first =
        best_cut(lefts, Sum::default(), total, limits, gains).map(|(gain, at)| (gain, at, false, lefts[at]));
    let best = if *null == Sum::default() {
        // no null was seen: it follows the heavier side
        let hessian = |sum| limits.scale.unpack(sum).1;
        first.map(|(gain, at, _, left)| (gain, at, hessian(left) >= hessian(total - left), left))
    } else {
        let limits = Limits { min_gain: first.map_or(limits.min_gain, |(gain, ..)| gain), ..*limits };
        let second = best_cut(lefts, *null, total, &limits, gains);
        second.map(|(gain, at)| (gain, at, true, lefts[at] + *null)).or(first)
    };
    let (gain, at, null_left, left_sum) = best?;
    let mut left = [0u64; BINS / 64];
    let mut go_left = |bin: usize| left[bin / 64] |= 1 << (bin % 64);
    match order {
        Some(order) => order[..=at].iter().for_each(|bin| go_left(usize::from(*bin))),
        None => (1..=at + 1).for_each(&mut go_left),
    }
    left[0] |= u64::from(null_left);
    Some(Found { feature, gain, left, left_sum })
}

/// The sums of the first item, the first two, and so on.
fn running(items: impl ExactSizeIterator<Item = Sum>, out: &mut [Sum; BINS]) -> &[Sum] {
    let out = &mut out[..items.len()];
    let mut sum = Sum::default();
    for (out, item) in out.iter_mut().zip(items) {
        sum = sum + item;
        *out = sum;
    }
    out
}

/// The gain and the place of the first best of the cuts that leave `lefts[at] + with` on the left; none
/// without enough gain.
fn best_cut(
    lefts: &[Sum],
    with: Sum,
    total: Sum,
    limits: &Limits,
    gains: &mut [f64; BINS],
) -> Option<(f64, usize)> {
    let (ridge, least) = (limits.ridge, limits.min_hessian);
    let (g, h) = limits.scale.unpack(total);
    let gains = &mut gains[..lefts.len()];
    // no branch: all cuts are worth a few instructions of the processor's widest kind
    let best = vectorised(
        #[inline(always)]
        || {
            for (gain, left) in gains.iter_mut().zip(lefts) {
                let (gl, hl) = limits.scale.unpack(*left + with);
                let (gr, hr) = (g - gl, h - hl);
                // gl^2 / (hl + ridge) + gr^2 / (hr + ridge) with one division
                let scores =
                    (gl * gl * (hr + ridge) + gr * gr * (hl + ridge)) / ((hl + ridge) * (hr + ridge));
                *gain = if hl >= least && hr >= least { scores } else { 0.0 };
            }
            greatest(gains)
        },
    );
    let gain = best - limits.score(total);
    if gain > limits.min_gain { Some((gain, gains.iter().position(|gain| *gain == best)?)) } else { None }
}

/// The greatest of values that are not negative, eight side by side.
#[inline(always)]
fn greatest(values: &[f64]) -> f64 {
    let larger = |a: f64, b: f64| if b > a { b } else { a };
    let (eights, rest) = values.as_chunks::<8>();
    let mut most = [0.0; 8];
    for eight in eights {
        most.iter_mut().zip(eight).for_each(|(most, value)| *most = larger(*most, *value));
    }
    most.iter().chain(rest).copied().fold(0.0, larger)
}

/// The occupied bins by the value that each would have as a leaf; ties by bin.
fn by_value<'a>(order: &'a mut [u8], sums: &[Sum], limits: &Limits) -> &'a [u8] {
    order.iter_mut().zip(1..).for_each(|(order, bin)| *order = bin);
    let occupied = partition(order, |bin| sums[bin as usize] != Sum::default());
    let order = &mut order[..occupied];
    order.sort_by(|&a, &b| {
        limits.value(sums[a as usize]).total_cmp(&limits.value(sums[b as usize])).then(a.cmp(&b))
    });
    order
}

/// Moves the bins that pass to the front, in their order; returns their number.
fn partition(order: &mut [u8], keep: impl Fn(u8) -> bool) -> usize {
    let mut kept = 0;
    for at in 0..order.len() {
        if keep(order[at]) {
            order.swap(kept, at);
            kept += 1;
        }
    }
    kept
}
