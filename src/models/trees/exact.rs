//! Columns of float64 for the engine, which compares in float32.
//!
//! For a threshold t the engine asks `x <= T`, T the largest float32 not above t. That is what `x <= t` says for
//! every float32 x, and for a float64 x that is rounded up to a float32, but where t lies within the gap that x is
//! in. Where one threshold lies in a gap, a value there is moved to the end of the gap on its own side
//! ([`Exact::Snap`]). Where several do (amounts in cents, timestamps), or one beside another at the gap's lower end,
//! both thresholds and values are replaced by their ranks ([`Exact::Rank`]). Either way each split answers as
//! LightGBM does, which compares in float64.

use super::ensemble::{Ensemble, Rule, ZERO};

/// How the float64 values of one feature become float32 that every split of the model answers alike.
#[derive(Debug)]
pub enum Exact {
    /// Categories: the fraction is cut off.
    Cut,
    /// Values in the gap of a threshold move to one of its ends; all others are rounded up.
    Snap(Gaps),
    /// Values become the number of boundaries below them, counted from zero's; also values that are float32.
    Rank(Ranks),
}

/// Thresholds that are not float32 (and the lower edge of zero), ascending, and a filter over the float32 below them.
#[derive(Debug)]
pub struct Gaps {
    thresholds: Vec<f64>,
    filter: Vec<u64>,
    shift: u32,
}

/// Boundaries, ascending; a value's rank is the number of those below it, less that of zero.
#[derive(Debug)]
pub struct Ranks {
    boundaries: Vec<f64>,
    zero: i64,
}

/// For each feature how it is fed; replaces the thresholds of features that are ranked.
pub fn prepare(model: &mut Ensemble) -> Vec<Exact> {
    let mut thresholds: Vec<Vec<f64>> = vec![Vec::new(); model.features];
    let mut is_set = vec![false; model.features];
    for split in model.trees.iter().flat_map(|t| &t.splits) {
        let feature = split.feature as usize;
        match &split.rule {
            Rule::LessOrEqual(t) => thresholds[feature].push(*t),
            Rule::Less(_) => {}
            Rule::InSet(_) => is_set[feature] = true,
        }
    }
    let exact: Vec<Exact> = thresholds.into_iter().zip(&is_set).map(|(t, set)| Exact::new(t, *set)).collect();
    for split in model.trees.iter_mut().flat_map(|t| &mut t.splits) {
        if let (Rule::LessOrEqual(t), Exact::Rank(ranks)) = (&mut split.rule, &exact[split.feature as usize])
        {
            *t = f64::from(ranks.of(split_boundary(*t)));
        }
    }
    exact
}

/// The largest float64 that is below zero to LightGBM; of float32 it is the neighbour of -[`ZERO`].
fn below_zero() -> f64 {
    f64::from(-ZERO).next_down()
}

/// A threshold as a boundary of float64: the reader moves those within zero to zero's edge in float32.
fn split_boundary(threshold: f64) -> f64 {
    if threshold == f64::from((-ZERO).next_down()) { below_zero() } else { threshold }
}

/// The largest float32 that is not above `x`.
fn floor(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) > x { near.next_down() } else { near }
}

impl Exact {
    /// For all thresholds of a feature; `is_set` where it is asked for categories.
    fn new(thresholds: Vec<f64>, is_set: bool) -> Exact {
        if is_set {
            return Exact::Cut;
        }
        // the edges of zero count as thresholds: a value beside them is no zero
        let edges = [below_zero(), f64::from(ZERO)];
        let mut boundaries: Vec<f64> = thresholds.into_iter().map(split_boundary).chain(edges).collect();
        boundaries.sort_by(f64::total_cmp);
        boundaries.dedup();
        // a threshold that is a float32 is at the lower end of a gap, whose values are above it
        if boundaries.windows(2).all(|pair| floor(pair[0]) != floor(pair[1])) {
            boundaries.retain(|t| f64::from(floor(*t)) != *t);
            return Exact::Snap(Gaps::new(boundaries));
        }
        let zero = boundaries.partition_point(|b| *b < 0.0) as i64;
        Exact::Rank(Ranks { boundaries, zero })
    }

    /// Whether values that are float32 already are fed as they are.
    pub fn keeps_float32(&self) -> bool {
        !matches!(self, Exact::Rank(_))
    }

    /// What the engine is fed for `values`; NaN stays NaN.
    pub fn feed(&self, values: impl Iterator<Item = f64>) -> Vec<f32> {
        match self {
            Exact::Cut => values.map(|v| v.trunc() as f32).collect(),
            Exact::Snap(gaps) => values.map(|v| gaps.snap(v)).collect(),
            Exact::Rank(ranks) => values.map(|v| if v.is_nan() { f32::NAN } else { ranks.of(v) }).collect(),
        }
    }
}

impl Gaps {
    fn new(thresholds: Vec<f64>) -> Gaps {
        // eight bits for each threshold: few of the other values get past it
        let bits = (8 * thresholds.len()).next_power_of_two().max(64);
        let mut gaps = Gaps { filter: vec![0; bits / 64], shift: 32 - bits.trailing_zeros(), thresholds };
        for t in 0..gaps.thresholds.len() {
            let place = gaps.place(floor(gaps.thresholds[t]));
            gaps.filter[place / 64] |= 1 << (place % 64);
        }
        gaps
    }

    #[inline(always)]
    fn place(&self, below: f32) -> usize {
        (below.to_bits().wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    #[inline(always)]
    fn snap(&self, x: f64) -> f32 {
        let below = floor(x);
        if f64::from(below) == x || x.is_nan() {
            return below;
        }
        let (place, above) = (self.place(below), below.next_up());
        if self.filter[place / 64] >> (place % 64) & 1 == 0 {
            return above;
        }
        match self.thresholds.get(self.thresholds.partition_point(|t| *t < x)) {
            // the gap's threshold is not below the value
            Some(t) if *t < f64::from(above) => below,
            // it is below it, or there is none
            _ => above,
        }
    }
}

impl Ranks {
    fn of(&self, x: f64) -> f32 {
        (self.boundaries.partition_point(|b| *b < x) as i64 - self.zero) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Engine, Scratch};
    use super::super::ensemble::{Link, Missing, Split, Tree};
    use super::*;

    /// A stump for each threshold, its leaves told apart by powers of two, and what the definition says of `x`.
    fn model(thresholds: &[f64], missing: Missing, missing_left: bool) -> Ensemble {
        let tree = |(k, t): (usize, &f64)| {
            let rule = Rule::LessOrEqual(*t);
            let split = Split { feature: 0, rule, missing, missing_left, left: !0, right: !1 };
            Tree { splits: vec![split], leaves: vec![0.0, (k as f64).exp2()], width: 1, output: 0 }
        };
        let trees = thresholds.iter().enumerate().map(tree).collect();
        let (base, link) = (vec![0.0], Link::Identity);
        Ensemble { features: 1, outputs: 1, trees, base, scale: 1.0, sum_in_f32: false, link }
    }

    fn check(thresholds: &[f64]) {
        let zero = f64::from(ZERO);
        let mut values =
            vec![0.0, -0.0, f64::NAN, 1e-35, -1e-35, zero, -zero, zero.next_up(), zero.next_down()];
        values.extend([
            (-zero).next_up(),
            (-zero).next_down(),
            1e-40,
            -1e-40,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ]);
        for t in thresholds {
            let (low, near) = (f64::from(floor(*t)), *t as f32);
            let high = f64::from(floor(*t).next_up());
            values.extend([*t, t.next_up(), t.next_down(), low, high, (low + t) / 2.0, (high + t) / 2.0]);
            values.extend([f64::from(near), -t, t * 2.0, low.next_up(), high.next_down()]);
        }
        for missing in [Missing::Nan, Missing::Zero, Missing::None] {
            for missing_left in [false, true] {
                // as LightGBM means a threshold that the reader has moved to zero's edge in float32
                let meant: Vec<f64> = thresholds.iter().map(|t| split_boundary(*t)).collect();
                let definition = model(&meant, missing, missing_left);
                let mut fed = model(thresholds, missing, missing_left);
                let exact = prepare(&mut fed);
                let column = exact[0].feed(values.iter().copied());
                let mut found = vec![0.0; 2 * values.len()];
                Engine::new(&fed).unwrap().predict(&[&column], &mut found, &mut Scratch::default());
                for (x, p) in values.iter().zip(found.chunks_exact(2)) {
                    let mut wanted = [0.0; 2];
                    definition.predict_row(&[*x], &mut wanted);
                    assert_eq!(p, wanted, "{x:e} against {thresholds:?}, {missing:?}, {missing_left}");
                }
            }
        }
    }

    #[test]
    fn every_float64_goes_where_the_definition_sends_it() {
        check(&[0.1, 0.3, 1.0, 123_456.789, -7.3]);
        check(&[2_000_000_001.5, 2_000_000_002.5, 2_000_000_100.5, 5.0, 0.1]);
        check(&[1_700_000_000_123_456_789.0, 1_700_000_000_123_457_000.0, -3.0, -1e17 - 16.0, -1e17]);
        check(&[f64::from(ZERO), f64::from((-ZERO).next_down()), 0.1]);
        check(&[
            f64::from(ZERO),
            f64::from((-ZERO).next_down()),
            0.1,
            f64::from(0.1f32) + 1e-12,
            f64::INFINITY,
        ]);
        check(&[f64::from(ZERO) * (1.0 + 1e-10), 1e-30]);
    }
}
