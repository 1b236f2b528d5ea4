//! Gradients and hessians as integers, and what their sums say of a split.
//!
//! A row's gradient and hessian are rounded to integers and packed into one i64, so that a histogram costs
//! one addition for each row and feature, and sums are exact: order, thread count and subtraction cannot
//! change them.

use crate::student::boosted::bins::BINS;

/// Bits of the hessian's sum; the gradient's has the others.
const H_BITS: u32 = 30;
const H_MASK: i64 = (1 << H_BITS) - 1;
const G_BITS: u32 = 63 - H_BITS;
const TWO_52: f64 = (1u64 << 52) as f64;

/// What one step of the integers stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    g: f64,
    h: f64,
}

/// Gradient and hessian of a set of rows, in the integers of a [`Scale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(i64);

impl std::ops::Add for Sum {
    type Output = Sum;
    fn add(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }
}

impl std::ops::Sub for Sum {
    type Output = Sum;
    fn sub(self, other: Sum) -> Sum {
        Sum(self.0 - other.0)
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(items: I) -> Sum {
        items.fold(Sum::default(), |a, b| a + b)
    }
}

impl Scale {
    /// The finest scale at which no sum over `rows` rows overflows, whose sum of |g| and sum of h (not
    /// negative) these are:
    /// |sum g| < 2^33, sum h < 2^30.
    pub fn new(g: f64, h: f64, rows: usize) -> Scale {
        let step = |mass: f64, bits: i32| {
            if mass > 0.0 { mass / (2f64.powi(bits) - rows as f64).max(1.0) } else { 1.0 }
        };
        Scale { g: step(g, G_BITS as i32), h: step(h, H_BITS as i32) }
    }

    pub fn pack(self, g: f64, h: f64) -> Sum {
        // halves away from zero, as round() does, without a call for each row
        let round = |v: f64| (v + 0.5f64.copysign(v)) as i64;
        Sum(round(g / self.g) * (1 << H_BITS) + round(h / self.h))
    }

    #[inline(always)]
    pub fn unpack(self, s: Sum) -> (f64, f64) {
        // Integers below 2^52 are the last digits of a float64 between 2^52 and 2^53; converted so, several sums
        // take one instruction, which the conversion of an i64 does not. g is made positive by 2^33 first.
        let last_digits = |digits: u64| f64::from_bits(TWO_52.to_bits() | digits);
        let g = last_digits((s.0 as u64 ^ 1 << 63) >> H_BITS) - (TWO_52 + (1u64 << G_BITS) as f64);
        let h = last_digits((s.0 & H_MASK) as u64) - TWO_52;
        (g * self.g, h * self.h)
    }
}

/// What limits a split.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub scale: Scale,
    /// L2 on a leaf's value.
    pub ridge: f64,
    /// Least hessian of a child.
    pub min_hessian: f64,
    /// Least gain of a split.
    pub min_gain: f64,
}

impl Limits {
    /// Twice the drop of the second-order loss that a leaf with these sums allows.
    pub fn score(&self, s: Sum) -> f64 {
        let (g, h) = self.scale.unpack(s);
        g * g / (h + self.ridge)
    }

    /// The value of a leaf with these sums: the minimum of g v + (h + ridge) v^2 / 2.
    pub fn value(&self, s: Sum) -> f64 {
        let (g, h) = self.scale.unpack(s);
        if h + self.ridge > 0.0 { -g / (h + self.ridge) } else { 0.0 }
    }
}

/// A split of a leaf: the bins that go left.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub feature: usize,
    pub gain: f64,
    /// The bins that go left, one bit each; bin 0 is null.
    pub left: [u64; BINS / 64],
    pub left_sum: Sum,
}

impl Found {
    pub fn goes_left(&self, bin: u8) -> bool {
        self.left[bin as usize / 64] >> (bin % 64) & 1 == 1
    }
}
