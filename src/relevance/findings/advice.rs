//! Which accounts to label next: those whose labels tell most about the constants of the base rate.
//!
//! A label tells the constants about p (1 - p) of the account (its Fisher information), so accounts are drawn
//! with a chance proportional to 1 - sum_c p_c^2, systematically along the soft label (Madow 1949): every
//! region of it has its share of the batch. Taking the most uncertain accounts alone would be far worse,
//! since the constants would fit them and nobody else; `EXPERIMENTS.md` has the measurements.

use crate::relevance::maths::probability::argmax;

/// Accounts with a smaller size than this are drawn last.
const LEAST_SIZE: f64 = 1e-9;

/// An account that could be labelled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// 1 - sum_c p_c^2.
    size: f64,
    /// Along the soft label: for two classes its logit.
    place: (usize, f64),
    /// Breaks ties, and orders the batch: depends on the account and the seed.
    pub key: u64,
}

impl Candidate {
    /// From a soft label `[C]`.
    pub fn new(p: &[f64], key: u64) -> Self {
        let top = argmax(p);
        // Back and forth over the classes, so that neighbours in the order are neighbours in the simplex.
        let along = if top.is_multiple_of(2) { -p[top] } else { p[top] };
        Candidate {
            size: (1.0 - p.iter().map(|p| p * p).sum::<f64>()).max(LEAST_SIZE),
            place: (top, along),
            key,
        }
    }
}

/// Draws `most` candidates, or all if there are fewer: places in `all` in a random order, each with the
/// chance at which it was drawn.
///
/// `start` in [0, 1) is where the systematic draw begins. The result does not depend on the order of `all` as
/// long as keys differ, and any first part of the batch is itself spread by chance over the whole.
pub fn draw(all: &[Candidate], most: usize, start: f64) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&all[*a], &all[*b]);
        a.place.0.cmp(&b.place.0).then(a.place.1.total_cmp(&b.place.1)).then(a.key.cmp(&b.key))
    });
    let (mut drawn, mut rest) = (Vec::new(), order);
    // Those whose chance would be one or more are taken, and the others share what is left, until no chance
    // is.
    loop {
        let wanted = most.min(all.len()) - drawn.len();
        let step = rest.iter().map(|i| all[*i].size).sum::<f64>() / wanted.max(1) as f64;
        let (certain, others): (Vec<usize>, Vec<usize>) =
            rest.iter().partition(|i| wanted > 0 && all[**i].size >= step);
        rest = others;
        if certain.is_empty() {
            drawn.extend(
                systematic(all, &rest, wanted, step, start).into_iter().map(|i| (i, all[i].size / step)),
            );
            break;
        }
        drawn.extend(certain.into_iter().map(|i| (i, 1.0)));
    }
    drawn.sort_by_key(|(i, _)| all[*i].key);
    drawn
}

/// The rows of `order` at which the running sum of sizes passes (start + i) step, i < wanted.
fn systematic(all: &[Candidate], order: &[usize], wanted: usize, step: f64, start: f64) -> Vec<usize> {
    let (mut sum, mut out) = (0.0, Vec::with_capacity(wanted));
    for &i in order {
        sum += all[i].size;
        if out.len() < wanted && sum > (start + out.len() as f64) * step {
            out.push(i);
        }
    }
    // Rounding of the sum may leave the last place open.
    let last = order.iter().rev().find(|i| !out.contains(i)).filter(|_| out.len() < wanted);
    out.extend(last);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relevance::maths::probability::hash;

    fn candidates(n: u64) -> Vec<Candidate> {
        let p = |i: u64| (i as f64 + 0.5) / n as f64;
        (0..n).map(|i| Candidate::new(&[1.0 - p(i), p(i)], hash(&i.to_le_bytes()))).collect()
    }

    #[test]
    fn chances_are_proportional_to_information_and_add_up_to_the_batch() {
        let all = candidates(1000);
        let total: f64 = all.iter().map(|c| c.size).sum();
        let mut times = vec![0.0; all.len()];
        for s in 0..400 {
            let batch = draw(&all, 40, (f64::from(s) + 0.5) / 400.0);
            assert_eq!(batch.len(), 40);
            for (i, chance) in batch {
                assert!((chance - 40.0 * all[i].size / total).abs() < 1e-12);
                times[i] += 1.0 / 400.0;
            }
        }
        for (i, t) in times.iter().enumerate() {
            assert!((t - 40.0 * all[i].size / total).abs() < 0.006, "{i}: {t}");
        }
    }

    #[test]
    fn the_order_of_accounts_does_not_matter_and_all_are_drawn_where_few_are_left() {
        let all = candidates(101);
        let keys = |all: &[Candidate], n: usize| {
            draw(all, n, 0.3).iter().map(|(i, _)| all[*i].key).collect::<Vec<_>>()
        };
        let mut turned = all.clone();
        turned.reverse();
        assert_eq!(keys(&all, 20), keys(&turned, 20));
        for n in [0, 1, 99, 100, 101, 500] {
            let mut found = keys(&all, n);
            found.dedup();
            assert_eq!(found.len(), n.min(101), "{n}");
        }
        assert!(draw(&[], 5, 0.5).is_empty());
    }

    #[test]
    fn certain_accounts_are_drawn_last_and_several_classes_are_ordered() {
        let sure = |key| Candidate::new(&[1.0, 0.0, 0.0], key);
        let torn = |key| Candidate::new(&[0.3, 0.4, 0.3], key);
        let all = [sure(1), torn(2), sure(3), torn(4), sure(5)];
        let mut batch: Vec<usize> = draw(&all, 2, 0.5).into_iter().map(|(i, _)| i).collect();
        batch.sort_unstable();
        assert_eq!(batch, [1, 3]);
        assert_eq!(draw(&all, 4, 0.5).len(), 4);
    }
}
