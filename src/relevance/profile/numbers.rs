//! Profiles, numbers: what one pass over a column keeps of it.
//!
//! A [`NumberSketch`] is filled batch by batch and merged across threads; the same multiset of values gives
//! the same sketch whatever the order. Up to
//! [`EXACT`] values it holds them all; beyond that it counts them in buckets of the float's own bits: twelve
//! significant binary digits, so that integers up to 4096 stay exact and other values move down by less than
//! 1/2048 of their size. [`NumberSketch::summary`] turns either into a [`NumberSummary`], the sorted values
//! with counts from which everything else is read.

use serde::{Deserialize, Serialize};

use crate::models::trees::simd::vectorised;

/// Values that are held as they are before a sketch goes over to buckets.
pub const EXACT: usize = 65_536;
/// Order statistics that a scenario gives to the common edges.
pub const ORDER_STATISTICS: usize = 240;

/// Values that are looked at together.
const TOGETHER: usize = 512;

/// Mantissa bits that a bucket drops of 52.
const DROPPED: u32 = 41;
/// Buckets of a page: those of one sign and power of two.
const PAGE: usize = 2048;
/// Keys reach from -MIDDLE to MIDDLE.
const MIDDLE: i32 = 1 << 22;
const PAGES: usize = 2 * MIDDLE as usize / PAGE + 1;

/// A column of numbers as seen so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct NumberSketch {
    nulls: u64,
    nans: u64,
    min: f64,
    max: f64,
    /// Empty from the day there are buckets.
    values: Vec<f64>,
    buckets: Option<Buckets>,
}

/// Counts by key, a page allocated when first needed.
type Buckets = Vec<Option<Box<[u32; PAGE]>>>;

impl Default for NumberSketch {
    fn default() -> Self {
        NumberSketch {
            nulls: 0,
            nans: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            values: Vec::new(),
            buckets: None,
        }
    }
}

impl NumberSketch {
    /// Counts `count` nulls.
    pub fn add_nulls(&mut self, count: u64) {
        self.nulls += count;
    }

    /// Adds values; a NaN among them is counted as NaN, not as null.
    pub fn add_all(&mut self, values: &[f64]) {
        for values in values.chunks(TOGETHER) {
            let nans = self.see(values);
            if self.buckets.is_none() && self.values.len() + values.len() - nans <= EXACT {
                // -0.0 becomes 0.0
                self.values.extend(values.iter().filter(|v| !v.is_nan()).map(|v| v + 0.0));
                continue;
            }
            // keys first, then counts, none of which waits for the one before it
            let mut keys = [0; TOGETHER];
            vectorised(
                #[inline(always)]
                || keys.iter_mut().zip(values).for_each(|(k, v)| *k = key(*v)),
            );
            let buckets = self.collapse();
            keys.iter().zip(values).for_each(|(k, v)| count(buckets, *k, u32::from(!v.is_nan())));
        }
    }

    /// Adds values among which NaN stands for null.
    pub fn add_nullable(&mut self, values: &[f64]) {
        let before = self.nans;
        self.add_all(values);
        self.nulls += self.nans - before;
        self.nans = before;
    }

    /// Takes numbers into the extremes and counts NaN; how many of them there are.
    fn see(&mut self, values: &[f64]) -> usize {
        const WIDTH: usize = 8;
        let (mut min, mut max) = ([f64::INFINITY; WIDTH], [f64::NEG_INFINITY; WIDTH]);
        let mut nans = [0u64; WIDTH];
        let (eights, rest) = values.as_chunks::<WIDTH>();
        let mut see = |values: &[f64]| {
            for (i, &v) in values.iter().enumerate() {
                // no comparison holds for NaN
                min[i] = if v < min[i] { v } else { min[i] };
                max[i] = if v > max[i] { v } else { max[i] };
                nans[i] += u64::from(v.is_nan());
            }
        };
        vectorised(
            #[inline(always)]
            || eights.iter().for_each(|values| see(values)),
        );
        see(rest);
        // -0.0 becomes 0.0
        self.min = min.iter().fold(self.min, |least, v| least.min(v + 0.0));
        self.max = max.iter().fold(self.max, |most, v| most.max(v + 0.0));
        let found: u64 = nans.iter().sum();
        self.nans += found;
        found as usize
    }

    /// Adds what another sketch has seen.
    pub fn merge(&mut self, other: &NumberSketch) {
        self.nulls += other.nulls;
        self.nans += other.nans;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if self.buckets.is_none()
            && other.buckets.is_none()
            && self.values.len() + other.values.len() <= EXACT
        {
            self.values.extend(&other.values);
            return;
        }
        let buckets = self.collapse();
        other.values.iter().for_each(|v| count(buckets, key(*v), 1));
        each_bucket(other.buckets.as_deref().unwrap_or_default(), |k, n| count(buckets, k, n));
    }

    /// Goes over to buckets if it has not, and gives them.
    fn collapse(&mut self) -> &mut Buckets {
        let buckets = self.buckets.get_or_insert_with(|| vec![None; PAGES]);
        std::mem::take(&mut self.values).iter().for_each(|v| count(buckets, key(*v), 1));
        buckets
    }

    /// The sorted values with their counts.
    pub fn summary(&self) -> NumberSummary {
        let mut runs = Runs::default();
        match &self.buckets {
            Some(buckets) => {
                each_bucket(buckets, |k, n| runs.push(lowest(k).clamp(self.min, self.max), u64::from(n)))
            }
            None => {
                let mut sorted = self.values.clone();
                radsort::sort(&mut sorted);
                sorted.iter().for_each(|v| runs.push(*v, 1));
            }
        }
        let Runs { values, counts } = runs;
        let n = counts.iter().sum();
        NumberSummary {
            nulls: self.nulls,
            nans: self.nans,
            n,
            min: (n > 0).then_some(self.min),
            max: (n > 0).then_some(self.max),
            exact: self.buckets.is_none(),
            values,
            counts,
        }
    }
}

/// A sketch as it is written down: the same for the same values, whatever the order in which they came.
#[derive(Serialize, Deserialize)]
struct Written {
    nulls: u64,
    nans: u64,
    min: f64,
    max: f64,
    /// Sorted; empty where there are buckets.
    values: Vec<f64>,
    /// Each occupied bucket's distance from the one before it, the first from the lowest, and its count.
    buckets: Option<Vec<(u32, u32)>>,
}

impl From<NumberSketch> for Written {
    fn from(sketch: NumberSketch) -> Written {
        let NumberSketch { nulls, nans, min, max, mut values, buckets } = sketch;
        radsort::sort(&mut values);
        let buckets = buckets.map(|pages| {
            let (mut out, mut last) = (Vec::new(), -MIDDLE);
            each_bucket(&pages, |key, n| {
                out.push(((key - last).cast_unsigned(), n));
                last = key;
            });
            out
        });
        Written { nulls, nans, min, max, values, buckets }
    }
}

impl TryFrom<Written> for NumberSketch {
    type Error = &'static str;

    fn try_from(written: Written) -> std::result::Result<NumberSketch, &'static str> {
        let Written { nulls, nans, min, max, values, buckets } = written;
        if values.len() > EXACT
            || values.iter().any(|v| v.is_nan())
            || (buckets.is_some() && !values.is_empty())
        {
            return Err("a sketch of numbers that no column gives");
        }
        let mut sketch = NumberSketch { nulls, nans, min, max, values, buckets: None };
        if let Some(buckets) = buckets {
            let mut key = i64::from(-MIDDLE);
            let pages = sketch.collapse();
            for (step, n) in buckets {
                key += i64::from(step);
                let key = i32::try_from(key).ok().filter(|k| *k <= MIDDLE);
                count(pages, key.ok_or("a bucket beyond the largest number")?, n);
            }
        }
        Ok(sketch)
    }
}

/// Bucket of a value. Buckets are half-open upwards, `[lowest(key), lowest(key + 1))`, on both sides of zero,
/// so that an edge at the lowest value of a bucket splits no bucket.
#[inline(always)]
fn key(v: f64) -> i32 {
    let sign = v.to_bits().cast_signed() >> 63;
    let size = (v.to_bits() & !(1 << 63)).cast_signed();
    let signed = (size ^ sign) - sign;
    // an unsigned shift, which processors have for several numbers at a time
    ((signed.cast_unsigned() ^ (1 << 63)) >> DROPPED) as i32 - MIDDLE
}

/// The lowest value of a bucket.
fn lowest(key: i32) -> f64 {
    let size = f64::from_bits(u64::from(key.unsigned_abs()) << DROPPED);
    if key < 0 { -size } else { size }
}

#[inline]
fn count(pages: &mut [Option<Box<[u32; PAGE]>>], key: i32, n: u32) {
    let place = (key + MIDDLE) as usize;
    let page = pages[place / PAGE].get_or_insert_with(|| Box::new([0; PAGE]));
    let cell = &mut page[place % PAGE];
    *cell = cell.saturating_add(n);
}

/// Occupied buckets in ascending order.
fn each_bucket(pages: &[Option<Box<[u32; PAGE]>>], mut visit: impl FnMut(i32, u32)) {
    for (i, page) in pages.iter().enumerate() {
        for (j, &n) in page.iter().flat_map(|p| p.iter()).enumerate().filter(|(_, n)| **n > 0) {
            visit((i * PAGE + j) as i32 - MIDDLE, n);
        }
    }
}

#[derive(Default)]
struct Runs {
    values: Vec<f64>,
    counts: Vec<u64>,
}

impl Runs {
    fn push(&mut self, value: f64, n: u64) {
        match (self.values.last(), self.counts.last_mut()) {
            (Some(last), Some(total)) if *last == value => *total += n,
            _ => {
                self.values.push(value);
                self.counts.push(n);
            }
        }
    }
}

/// A column of numbers: distinct values in ascending order with their counts (bucket representatives where
/// `exact` is false).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberSummary {
    pub nulls: u64,
    /// Not-a-number values that were not null; they share the bin of null.
    pub nans: u64,
    /// Values that are neither null nor NaN; infinities are among them.
    pub n: u64,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub exact: bool,
    pub values: Vec<f64>,
    pub counts: Vec<u64>,
}

impl NumberSummary {
    /// Rows: values, NaN and nulls.
    pub fn rows(&self) -> u64 {
        self.n + self.missing()
    }

    /// Rows that fall into the bin of null.
    pub fn missing(&self) -> u64 {
        self.nulls + self.nans
    }

    /// Values that are infinite.
    pub fn infinite(&self) -> u64 {
        self.values.iter().zip(&self.counts).filter(|(v, _)| v.is_infinite()).map(|(_, n)| n).sum()
    }

    /// Mean and variance (over n) of the finite values; of bucket representatives where not exact. None
    /// without any.
    pub fn moments(&self) -> Option<(f64, f64)> {
        let finite = || {
            self.values.iter().zip(&self.counts).filter(|(v, _)| v.is_finite()).map(|(v, n)| (*v, *n as f64))
        };
        let n: f64 = finite().map(|(_, n)| n).sum();
        let mean = finite().map(|(v, c)| v * (c / n)).sum::<f64>();
        let variance = finite().map(|(v, c)| (v - mean) * (v - mean) * (c / n)).sum::<f64>();
        (n > 0.0).then_some((mean, variance))
    }

    /// `most` order statistics, those at floor((2 i + 1) n / (2 most)); none for an empty column.
    pub fn order_statistics(&self, most: usize) -> Vec<f64> {
        let mut out = Vec::with_capacity(most);
        if most == 0 {
            return out;
        }
        let place = |i: usize| ((2 * i as u128 + 1) * u128::from(self.n) / (2 * most as u128)) as u64;
        if self.values.len() as u64 == self.n {
            // each of them once
            return (0..if self.n == 0 { 0 } else { most }).map(|i| self.values[place(i) as usize]).collect();
        }
        let (mut until, mut next) = (0, place(0));
        for (v, c) in self.values.iter().zip(&self.counts) {
            until += c;
            while out.len() < most && next < until {
                out.push(*v);
                next = place(out.len());
            }
        }
        out
    }

    /// Rows in each of the bins that `edges` make: values below the first edge, between edges (lower one
    /// included), from the last edge on; then null.
    pub fn bin_counts(&self, edges: &[f64]) -> Vec<u64> {
        let mut out = vec![0; edges.len() + 2];
        let mut bin = 0;
        // both ascend
        for (v, c) in self.values.iter().zip(&self.counts) {
            while edges.get(bin).is_some_and(|e| e <= v) {
                bin += 1;
            }
            out[bin] += c;
        }
        out[edges.len() + 1] = self.missing();
        out
    }

    /// The same column in at most `cells` values, each standing for the rows from it up to the next; what an
    /// owner may ship instead of rows.
    pub fn coarse(&self, cells: usize) -> NumberSummary {
        let mut edges = self.order_statistics(cells);
        edges.extend(self.values.first());
        edges.sort_unstable_by(f64::total_cmp);
        edges.dedup();
        let counts = self.bin_counts(&edges)[1..=edges.len()].to_vec();
        NumberSummary {
            exact: self.exact && edges.len() == self.values.len(),
            values: edges,
            counts,
            ..self.clone()
        }
    }
}
