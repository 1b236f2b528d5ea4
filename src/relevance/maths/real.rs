//! Arithmetic that is written once for one row and for eight rows side by side, and exponentials and logarithms
//! that a compiler can turn into vector instructions.
//!
//! A formula over `R: Real` gives the same bits for a row alone ([`f64`]) as for the same row among seven others
//! ([`Lanes`]). [`exp`] and [`ln`] have no branches and call no library, so that their bits do not depend on the
//! machine either.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Rows side by side in [`Lanes`].
pub const LANES: usize = 8;

/// One number of one row, or of several.
pub trait Real:
    Copy
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Mul<f64, Output = Self>
    + Add<f64, Output = Self>
{
    /// The same number in every row.
    fn splat(value: f64) -> Self;

    /// The number of each row.
    fn rows(&self) -> &[f64];

    /// [`exp`] of each.
    fn exp(self) -> Self;

    /// [`ln`] of each.
    fn ln(self) -> Self;

    /// The larger of two numbers; `other` where this is NaN.
    fn at_least(self, other: Self) -> Self;

    /// `yes` where `self` > `other`, else `no`.
    fn if_above(self, other: Self, yes: Self, no: Self) -> Self;
}

impl Real for f64 {
    #[inline(always)]
    fn splat(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn rows(&self) -> &[f64] {
        std::slice::from_ref(self)
    }

    #[inline(always)]
    fn exp(self) -> f64 {
        exp(self)
    }

    #[inline(always)]
    fn ln(self) -> f64 {
        ln(self)
    }

    #[inline(always)]
    fn at_least(self, other: f64) -> f64 {
        if self > other { self } else { other }
    }

    #[inline(always)]
    fn if_above(self, other: f64, yes: f64, no: f64) -> f64 {
        if self > other { yes } else { no }
    }
}

/// A number of each of eight rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(align(32))]
pub struct Lanes(pub [f64; LANES]);

impl Lanes {
    /// The values of rows `first..` of a column; the last value again where the column ends.
    #[inline(always)]
    pub fn load(column: &[f64], first: usize) -> Lanes {
        match column[first..].first_chunk() {
            Some(values) => Lanes(*values),
            None => Lanes(std::array::from_fn(|i| column[(first + i).min(column.len() - 1)])),
        }
    }

    #[inline(always)]
    fn map(self, f: impl Fn(f64) -> f64) -> Lanes {
        Lanes(std::array::from_fn(|i| f(self.0[i])))
    }

    #[inline(always)]
    fn zip(self, other: Lanes, f: impl Fn(f64, f64) -> f64) -> Lanes {
        Lanes(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Real for Lanes {
    #[inline(always)]
    fn splat(value: f64) -> Lanes {
        Lanes([value; LANES])
    }

    #[inline(always)]
    fn rows(&self) -> &[f64] {
        &self.0
    }

    #[inline(always)]
    fn exp(self) -> Lanes {
        self.map(exp)
    }

    #[inline(always)]
    fn ln(self) -> Lanes {
        self.map(ln)
    }

    #[inline(always)]
    fn at_least(self, other: Lanes) -> Lanes {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn if_above(self, other: Lanes, yes: Lanes, no: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|i| if self.0[i] > other.0[i] { yes.0[i] } else { no.0[i] }))
    }
}

/// At most eight rows `[n, C]` side by side, as columns `[C]`; what is in the columns beyond them stays.
#[inline(always)]
pub fn gather(rows: &[f64], columns: &mut [Lanes]) {
    for (i, row) in rows.chunks_exact(columns.len()).enumerate() {
        columns.iter_mut().zip(row).for_each(|(column, v)| column.0[i] = *v);
    }
}

/// Columns `[C]` back to rows `[n, C]`.
#[inline(always)]
pub fn scatter(columns: &[Lanes], rows: &mut [f64]) {
    for (i, row) in rows.chunks_exact_mut(columns.len()).enumerate() {
        columns.iter().zip(row).for_each(|(column, v)| *v = column.0[i]);
    }
}

/// The numbers of one of the rows.
pub fn of_row(values: &[Lanes], row: usize) -> impl Iterator<Item = f64> {
    values.iter().map(move |v| v.0[row])
}

macro_rules! by_row {
    ($($operator:ident $name:ident $sign:tt),*) => {$(
        impl $operator for Lanes {
            type Output = Lanes;

            #[inline(always)]
            fn $name(self, other: Lanes) -> Lanes {
                self.zip(other, |a, b| a $sign b)
            }
        }
    )*};
}

by_row!(Add add +, Sub sub -, Mul mul *, Div div /);

impl Neg for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn neg(self) -> Lanes {
        self.map(|a| -a)
    }
}

impl Mul<f64> for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn mul(self, by: f64) -> Lanes {
        self.map(|a| a * by)
    }
}

impl Add<f64> for Lanes {
    type Output = Lanes;

    #[inline(always)]
    fn add(self, more: f64) -> Lanes {
        self.map(|a| a + more)
    }
}

const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// Added to a small number it leaves the nearest integer in the lowest bits.
const ROUNDING: f64 = 6_755_399_441_055_744.0;
/// e^x is a normal number between these.
const LEAST_EXPONENT: f64 = -708.0;
const LARGEST_EXPONENT: f64 = 709.0;

/// e^x within 1 unit in the last place; as of -708 below it (so never 0), as of 709 above, NaN of NaN.
///
/// x = k ln 2 + r with |r| <= ln 2 / 2, and e^r by its series to the 13th power.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    let x = if x < LEAST_EXPONENT { LEAST_EXPONENT } else { x };
    let x = if x > LARGEST_EXPONENT { LARGEST_EXPONENT } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUNDING;
    let k = shifted - ROUNDING;
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    const SERIES: [f64; 12] = {
        let (mut series, mut factorial, mut n) = ([0.0; 12], 1.0, 2);
        while n < 14 {
            factorial *= n as f64;
            series[n - 2] = 1.0 / factorial;
            n += 1;
        }
        series
    };
    let mut sum = SERIES[11];
    let mut n = 11;
    while n > 0 {
        n -= 1;
        sum = sum * r + SERIES[n];
    }
    let of_r = 1.0 + (r + r * r * sum);
    of_r * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1.0f64.to_bits()))
}

/// The smallest fraction that [`ln`] works on, the square root of 1/2, cut off.
const LEAST_FRACTION: u64 = 0x3fe6_a09e_0000_0000;

/// Natural logarithm within 1 unit in the last place; that of the smallest normal number for what is below it, NaN
/// of what is not finite.
///
/// x = 2^k (1 + f), ln(1 + f) by the rational form and coefficients of fdlibm's `__ieee754_log`.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    const L: [f64; 7] = [
        0.6666666666666735,
        0.3999999999940942,
        0.2857142874366239,
        0.22222198432149784,
        0.1818357216161805,
        0.15313837699209373,
        0.14798198605116586,
    ];
    let normal = if x < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { x };
    let bits = normal.to_bits().wrapping_add(1.0f64.to_bits() - LEAST_FRACTION);
    // an integer in the lowest bits of 2^52
    let k = f64::from_bits((bits >> 52) | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let f = f64::from_bits((bits & 0x000f_ffff_ffff_ffff).wrapping_add(LEAST_FRACTION)) - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (L[1] + w * (L[3] + w * L[5]));
    let odd = z * (L[0] + w * (L[2] + w * (L[4] + w * L[6])));
    let rest = s * (half_square + (even + odd)) + k * LN_2_LOW;
    // the product is 0 of what is finite
    (rest - half_square + f + k * LN_2_HIGH) + 0.0 * x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units in the last place between two numbers of one sign.
    fn apart(a: f64, b: f64) -> u64 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn exponentials_and_logarithms_are_those_of_the_library_but_for_the_last_place() {
        for i in -7_000_000..=7_000_000i32 {
            let x = f64::from(i) * 1e-4 + f64::from(i % 97) * 1e-9;
            assert!(apart(exp(x), x.exp()) <= 1, "exp {x}: {} {}", exp(x), x.exp());
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= f64::EPSILON * y.ln().abs(), "ln {y}: {} {}", ln(y), y.ln());
            let p = f64::from(i + 7_000_001) / 14_000_002.0;
            assert!((ln(p) - p.ln()).abs() <= f64::EPSILON * p.ln().abs(), "ln {p}: {} {}", ln(p), p.ln());
        }
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
        assert!(exp(f64::NEG_INFINITY) > 0.0 && exp(f64::INFINITY).is_finite());
        assert!(ln(0.0).is_finite() && ln(f64::NAN).is_nan() && exp(f64::NAN).is_nan());
    }

    #[test]
    fn a_row_alone_is_as_among_others() {
        let column: Vec<f64> = (0..21).map(|i| f64::from(i) * 0.37 - 3.0).collect();
        for first in (0..column.len()).step_by(LANES) {
            let lanes = Lanes::load(&column, first);
            for (i, x) in column[first..].iter().take(LANES).enumerate() {
                assert_eq!(lanes.exp().0[i].to_bits(), exp(*x).to_bits());
                assert_eq!((lanes.exp() + 1.0).ln().0[i].to_bits(), ln(exp(*x) + 1.0).to_bits());
            }
        }
    }
}
