//! Which rows and columns a tree sees.
//!
//! Of many rows a tree sees those that it has most to learn from: row i with probability min(1, r_i / mu),
//! r_i = sqrt(g_i^2 + h_i^2 / 100), and with the weight 1 / that probability, so that every sum over the rows
//! keeps its expectation at the least variance (Ibragimov & Gusev 2019, minimal variance sampling). All draws
//! come from the tree's number alone.

use crate::student::boosted::BLOCK;
use crate::student::boosted::histogram::{Scale, Sum};
use crate::student::numeric::mix;
use rayon::prelude::*;

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

/// The rows that a tree of `output` sees, about `most` of more than twice as many, and the scale of their
/// gradients; writes those, packed, at the rows' places in `packed`. `steps` are the gradients and hessians
/// `[row][output]`.
pub fn rows(
    steps: &[(f64, f64)],
    outputs: usize,
    output: usize,
    most: usize,
    seed: u64,
    packed: &mut Vec<Sum>,
) -> (Vec<u32>, Scale) {
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
    let chance = |step| if mu > 0.0 { (squared(step).sqrt() / mu).min(1.0) } else { 1.0 };
    // the masses of each block, so that their sum has one order
    let blocks: Vec<(Vec<u32>, f64, f64)> = (0..n.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let (first, end) = (block * BLOCK, n.min((block + 1) * BLOCK));
            let (mut rows, mut count) = (vec![0; end - first], 0);
            for row in first..end {
                // drawn where u < size / mu for a u in [0, 1); every row is written and counts if it is
                let u = mu * (mix(seed, row as u64) >> 11) as f64 / (1u64 << 53) as f64;
                rows[count] = row as u32;
                count += usize::from(mu == 0.0 || u * u < squared(step(row)));
            }
            rows.truncate(count);
            let mut mass = (0.0, 0.0);
            for &row in &rows {
                let (g, h) = step(row as usize);
                let p = chance((g, h));
                mass = (mass.0 + f64::abs(g) / p, mass.1 + h / p);
            }
            (rows, mass.0, mass.1)
        })
        .collect();
    let (g, h) = blocks.iter().fold((0.0, 0.0), |(g, h), b| (g + b.1, h + b.2));
    let rows = blocks.iter().map(|b| &b.0[..]).collect::<Vec<_>>().concat();
    let scale = Scale::new(g, h, rows.len());
    packed.resize(n, Sum::default());
    packed.par_chunks_mut(BLOCK).zip(blocks).enumerate().for_each(|(block, (packed, (rows, ..)))| {
        for row in rows {
            let (g, h) = step(row as usize);
            let p = chance((g, h));
            packed[row as usize - block * BLOCK] = scale.pack(g / p, h / p);
        }
    });
    (rows, scale)
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
        let mut packed = Vec::new();
        let (rows, scale) = rows(&steps, 1, 0, 10_000, 3, &mut packed);
        assert!((9_000..11_000).contains(&rows.len()), "{}", rows.len());
        assert!(rows.windows(2).all(|w| w[0] < w[1]));
        let sums = rows
            .iter()
            .map(|&row| scale.unpack(packed[row as usize]))
            .fold((0.0, 0.0), |a, s| (a.0 + s.0.abs(), a.1 + s.1));
        assert!(
            (sums.0 / true_sums.0 - 1.0).abs() < 0.02 && (sums.1 / true_sums.1 - 1.0).abs() < 0.03,
            "{sums:?}"
        );
    }

    #[test]
    fn few_rows_and_few_columns_are_all_seen() {
        let steps = vec![(0.1, 0.2); 50];
        let mut packed = Vec::new();
        assert_eq!(rows(&steps, 2, 1, 20, 0, &mut packed).0, (0..25).collect::<Vec<u32>>());
        assert_eq!(groups(3, 5, 0), [0, 1, 2]);
        let drawn = groups(100, 10, 4);
        assert!(drawn.len() == 10 && drawn.windows(2).all(|w| w[0] < w[1]) && drawn != groups(100, 10, 5));
    }
}
