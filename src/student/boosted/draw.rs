//! Which rows and columns a tree sees.
//!
//! Of many rows a tree sees those that it has most to learn from: row i with probability min(1, r_i / mu),
//! r_i = sqrt(g_i^2 + h_i^2 / 100), and with the weight 1 / that probability, so that every sum over the rows
//! keeps its expectation at the least variance (Ibragimov & Gusev 2019, minimal variance sampling). All draws
//! come from the tree's number alone.

use crate::student::boosted::BLOCK;
use crate::student::boosted::sums::{Scale, Sum};
use crate::student::numeric::mix;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that the threshold mu is found from.
const JUDGED: usize = 1 << 12;

/// Some `most` of `count` groups of features, ascending; all where there are no more.
pub fn groups(count: usize, most: usize, seed: u64) -> Vec<u32> {
    let mut groups: Vec<u32> = (0..count as u32).collect();
    if count > most {
        groups.sort_unstable_by_key(|&g| mix(seed, u64::from(g)));
        groups.truncate(most);
        groups.sort_unstable();
    }
    groups
}

/// Whether trees of `most` rows see a part of `rows`.
pub fn draws(rows: usize, most: usize) -> bool {
    rows > 2 * most
}

/// The rows that a tree of `output` sees, about `most` of more than twice as many, their packed gradients and
/// the scale of those. `steps` are the gradients and hessians `[row][output]`.
pub fn rows(
    steps: &[(f64, f64)],
    outputs: usize,
    output: usize,
    most: usize,
    seed: u64,
) -> (Vec<u32>, Vec<Sum>, Scale) {
    let n = steps.len() / outputs;
    let step = |row: usize| steps[row * outputs + output];
    let mu = if draws(n, most) {
        threshold(
            (0..JUDGED).map(|i| squared(step((2 * i + 1) * n / (2 * JUDGED))).sqrt()),
            most as f64 / n as f64,
        )
    } else {
        0.0
    };
    let blocks: Vec<Block> = (0..n.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (first, end) = (block * BLOCK, n.min((block + 1) * BLOCK));
            let rows = if mu > 0.0 {
                drawn(first..end, step, mu, seed)
            } else {
                (first as u32..end as u32).collect()
            };
            let of = |row: &u32| {
                let (g, h) = step(*row as usize);
                let p = if mu > 0.0 { (squared((g, h)).sqrt() / mu).min(1.0) } else { 1.0 };
                (g / p, h / p)
            };
            let steps: Vec<(f64, f64)> = rows.iter().map(of).collect();
            let mass = steps.iter().fold((0.0, 0.0), |(gs, hs), (g, h)| (gs + g.abs(), hs + h));
            Block { rows, steps, mass }
        })
        .collect();
    let (g, h) = blocks.iter().fold((0.0, 0.0), |(g, h), b| (g + b.mass.0, h + b.mass.1));
    let scale = Scale::new(g, h, blocks.iter().map(|b| b.rows.len()).sum());
    let pack = |b: &Block| b.steps.iter().map(|(g, h)| scale.pack(*g, *h)).collect();
    let packed: Vec<Vec<Sum>> = blocks.par_iter().map(pack).collect();
    let rows = blocks.iter().map(|b| &b.rows[..]).collect::<Vec<_>>().concat();
    (rows, packed.concat(), scale)
}

/// The drawn rows of a block, what they stand for, and the masses of that: their sum over the blocks has one
/// order.
struct Block {
    rows: Vec<u32>,
    steps: Vec<(f64, f64)>,
    mass: (f64, f64),
}

/// The rows for which a u in [0, 1) is below size / mu.
fn drawn(rows: Range<usize>, step: impl Fn(usize) -> (f64, f64), mu: f64, seed: u64) -> Vec<u32> {
    let (mut out, mut count) = (vec![0; rows.len()], 0);
    for row in rows {
        let u = mu * (mix(seed, row as u64) >> 11) as f64 / (1u64 << 53) as f64;
        // every row is written and counts if it is drawn
        out[count] = row as u32;
        count += usize::from(u * u < squared(step(row)));
    }
    out.truncate(count);
    out
}

/// The square of a row's size r.
fn squared((g, h): (f64, f64)) -> f64 {
    g * g + 0.01 * h * h
}

/// The mu at which min(1, size / mu) has the mean `share`; 0 where all sizes are.
fn threshold(sizes: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut sizes: Vec<f64> = sizes.collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let wanted = share * sizes.len() as f64;
    let mut sum = 0.0;
    for (i, &size) in sizes.iter().enumerate() {
        sum += size;
        // mu = size: all larger ones are certain
        if size > 0.0 && sum / size + ((sizes.len() - 1 - i) as f64) <= wanted {
            // the next ones are certain, these share what is left
            return sum / (wanted - (sizes.len() - 1 - i) as f64);
        }
    }
    sum / wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_rows_carry_weights_that_keep_every_sum() {
        let n = 60_000;
        let steps: Vec<(f64, f64)> = (0..n as u64)
            .map(|i| (mix(1, i) as f64 / u64::MAX as f64 - 0.5, 0.2 + (i % 7) as f64 / 50.0))
            .collect();
        let true_sums = steps.iter().fold((0.0, 0.0), |a, s| (a.0 + s.0.abs(), a.1 + s.1));
        let (rows, packed, scale) = rows(&steps, 1, 0, 10_000, 3);
        assert!((9_000..11_000).contains(&rows.len()), "{}", rows.len());
        assert!(rows.windows(2).all(|w| w[0] < w[1]));
        let sums =
            packed.iter().map(|&sum| scale.unpack(sum)).fold((0.0, 0.0), |a, s| (a.0 + s.0.abs(), a.1 + s.1));
        assert!(
            (sums.0 / true_sums.0 - 1.0).abs() < 0.02 && (sums.1 / true_sums.1 - 1.0).abs() < 0.03,
            "{sums:?}"
        );
    }

    #[test]
    fn few_rows_and_few_columns_are_all_seen() {
        let steps = vec![(0.1, 0.2); 50];
        assert_eq!(rows(&steps, 2, 1, 20, 0).0, (0..25).collect::<Vec<u32>>());
        assert_eq!(groups(3, 5, 0), [0, 1, 2]);
        let drawn = groups(100, 10, 4);
        assert!(drawn.len() == 10 && drawn.windows(2).all(|w| w[0] < w[1]) && drawn != groups(100, 10, 5));
    }
}
