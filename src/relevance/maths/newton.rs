//! Damped Newton for the small smooth problems of this module, with bounds.
//!
//! Projected Newton (Bertsekas 1982): coordinates that rest on a bound and would leave it stay there, the
//! others take a Newton step whose Hessian is made positive definite by adding to its diagonal, shortened
//! until the value falls. Dimensions here are 1 to about 30.

/// What an objective returns at a point: value, gradient `[d]`, Hessian `[d, d]` row-major.
#[derive(Debug, Clone)]
pub struct Local {
    pub value: f64,
    pub gradient: Vec<f64>,
    pub hessian: Vec<f64>,
}

impl Local {
    /// All zeros.
    pub fn zero(d: usize) -> Self {
        Local { value: 0.0, gradient: vec![0.0; d], hessian: vec![0.0; d * d] }
    }

    /// Adds 1/2 weight (v - centre)^2 for coordinate `i`.
    pub fn ridge(&mut self, i: usize, weight: f64, away: f64) {
        let d = self.gradient.len();
        self.value += 0.5 * weight * away * away;
        self.gradient[i] += weight * away;
        self.hessian[i * d + i] += weight;
    }

    /// Divides everything by `by`.
    pub fn scale_down(&mut self, by: f64) {
        self.value /= by;
        self.gradient.iter_mut().for_each(|g| *g /= by);
        self.hessian.iter_mut().for_each(|h| *h /= by);
    }
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub struct Minimum {
    pub at: Vec<f64>,
    pub value: f64,
    /// Largest entry of the projected gradient.
    pub gradient: f64,
}

const STEPS: usize = 200;
const HALVINGS: usize = 40;
/// Relative falls below this drown in the rounding of a sum over many rows.
const RESOLUTION: f64 = 1e-13;

/// A local minimum of `objective` from `start` within `bounds` (low, high), until the projected gradient is
/// below `tolerance` or no step lowers the value.
pub fn minimize(
    mut objective: impl FnMut(&[f64]) -> Local,
    start: &[f64],
    bounds: &[(f64, f64)],
    tolerance: f64,
) -> Minimum {
    let mut at: Vec<f64> = start.iter().zip(bounds).map(|(v, (low, high))| v.clamp(*low, *high)).collect();
    let mut here = objective(&at);
    for _ in 0..STEPS {
        if largest(&projected(&at, &here.gradient, bounds)) <= tolerance {
            break;
        }
        let Some((next, there)) = step(&mut objective, &at, &here, bounds) else { break };
        at = next;
        here = there;
    }
    let gradient = largest(&projected(&at, &here.gradient, bounds));
    Minimum { at, value: here.value, gradient }
}

/// One accepted step, or none if nothing along the Newton direction, then along the gradient, is lower.
fn step(
    objective: &mut impl FnMut(&[f64]) -> Local,
    at: &[f64],
    here: &Local,
    bounds: &[(f64, f64)],
) -> Option<(Vec<f64>, Local)> {
    let slope = projected(at, &here.gradient, bounds);
    let free: Vec<usize> = (0..at.len()).filter(|&i| slope[i] != 0.0).collect();
    for direction in [newton_direction(here, &free), slope.iter().map(|g| -g).collect()] {
        let mut length = 1.0;
        for _ in 0..HALVINGS {
            let next: Vec<f64> = (0..at.len())
                .map(|i| (at[i] + length * direction[i]).clamp(bounds[i].0, bounds[i].1))
                .collect();
            let expected: f64 = (0..at.len()).map(|i| here.gradient[i] * (next[i] - at[i])).sum();
            let there = objective(&next);
            if -expected <= RESOLUTION * here.value.abs() {
                // The value no longer resolves the fall; the gradient still does.
                let closer = largest(&projected(&next, &there.gradient, bounds)) < 0.5 * largest(&slope);
                return closer.then_some((next, there));
            }
            if there.value <= here.value + 1e-4 * expected {
                return Some((next, there));
            }
            length *= 0.5;
        }
    }
    None
}

/// -(H + tau I)^-1 g over the free coordinates (0 for the others), with the least tau of a fixed ladder that
/// makes the matrix positive definite.
pub fn newton_direction(here: &Local, free: &[usize]) -> Vec<f64> {
    let d = here.gradient.len();
    let m = free.len();
    let steepest = free.iter().map(|&i| here.hessian[i * d + i].abs()).fold(1e-12, f64::max);
    let mut tau = 0.0;
    let mut direction = vec![0.0; d];
    for _ in 0..60 {
        let mut matrix: Vec<f64> = free
            .iter()
            .flat_map(|&i| free.iter().map(move |&j| (i, j)))
            .map(|(i, j)| here.hessian[i * d + j])
            .collect();
        (0..m).for_each(|i| matrix[i * m + i] += tau);
        let right: Vec<f64> = free.iter().map(|&i| -here.gradient[i]).collect();
        if let Some(x) = solve_positive(matrix, right, 1e-13 * steepest) {
            free.iter().zip(x).for_each(|(&i, v)| direction[i] = v);
            break;
        }
        tau = if tau == 0.0 { 1e-6 * steepest } else { 4.0 * tau };
    }
    direction
}

/// Solves A x = b by Cholesky; none if a pivot is not above `least`.
fn solve_positive(mut a: Vec<f64>, mut b: Vec<f64>, least: f64) -> Option<Vec<f64>> {
    let d = b.len();
    for j in 0..d {
        let pivot = a[j * d + j] - (0..j).map(|k| a[j * d + k] * a[j * d + k]).sum::<f64>();
        if pivot.is_nan() || pivot <= least {
            return None;
        }
        let root = pivot.sqrt();
        a[j * d + j] = root;
        for i in j + 1..d {
            let rest = a[i * d + j] - (0..j).map(|k| a[i * d + k] * a[j * d + k]).sum::<f64>();
            a[i * d + j] = rest / root;
        }
    }
    for i in 0..d {
        b[i] = (b[i] - (0..i).map(|k| a[i * d + k] * b[k]).sum::<f64>()) / a[i * d + i];
    }
    for i in (0..d).rev() {
        b[i] = (b[i] - (i + 1..d).map(|k| a[k * d + i] * b[k]).sum::<f64>()) / a[i * d + i];
    }
    Some(b)
}

/// The gradient, zero where a bound stops the descent.
fn projected(at: &[f64], gradient: &[f64], bounds: &[(f64, f64)]) -> Vec<f64> {
    at.iter()
        .zip(gradient)
        .zip(bounds)
        .map(
            |((v, g), (low, high))| {
                if (*v <= *low && *g > 0.0) || (*v >= *high && *g < 0.0) { 0.0 } else { *g }
            },
        )
        .collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).fold(0.0, f64::max)
}
