//! The penalised soft cross-entropy and its gradient, over blocks of rows.
//!
//! f(v) = [sum_i w_i CE(t_i, p_i(v)) + penalty / 2 |weights|^2] / sum_i w_i, weights without the constants.
//! Columns are standardised, to float32, a block of rows at a time: once where they fit a fixed room, on the
//! fly otherwise, so that a fit of many rows needs no second copy of the data.

use rayon::prelude::*;
use std::ops::Range;

use crate::student::logistic::design::{Column, Design};
use crate::student::numeric::{sigmoid, softmax};
use crate::student::sample::{Sample, level};

/// Rows that are standardised at once; small enough for the second-level cache.
const BLOCK: usize = 256;
/// Most blocks that one task sums. Their number depends on the rows alone, so that sums do not depend on the
/// number of threads.
const TASK: usize = 32;
/// Standardised inputs that are kept.
const KEPT: usize = 1 << 24;

/// The loss of linear functions on some rows of a sample.
pub struct Objective<'a> {
    design: &'a Design,
    sample: &'a Sample<'a>,
    /// None for all.
    rows: Option<&'a [u32]>,
    penalty: f64,
    mass: f64,
    /// Slots that are read as vectors: the numbers'.
    dense: Vec<usize>,
    /// Their inputs, `[block][dense]`, where they are kept.
    kept: Vec<[f32; BLOCK]>,
}

/// The standardised inputs of a block: `dense` vectors of BLOCK values, and for each category column the slot
/// of each row.
struct Block {
    number: usize,
    rows: Vec<u32>,
    dense: Vec<[f32; BLOCK]>,
    slots: Vec<Vec<u32>>,
    z: Vec<[f64; BLOCK]>,
}

impl<'a> Objective<'a> {
    pub fn new(design: &'a Design, sample: &'a Sample<'a>, rows: Option<&'a [u32]>, penalty: f64) -> Self {
        let mass = match rows {
            Some(rows) => rows.iter().map(|&r| sample.weights[r as usize]).sum(),
            None => sample.weights.iter().sum::<f64>(),
        };
        let slots = |(column, first): &(Column, usize)| match column {
            Column::Number { nulls, .. } => *first..*first + 1 + usize::from(*nulls),
            _ => 0..0,
        };
        let dense = design.columns.iter().flat_map(slots).collect();
        let mass = if mass > 0.0 { mass } else { 1.0 };
        let mut objective = Objective { design, sample, rows, penalty, mass, dense, kept: Vec::new() };
        let blocks = objective.count().div_ceil(BLOCK);
        if blocks * BLOCK * objective.dense.len() <= KEPT {
            let read = |number: usize| {
                let mut block = Block::new(&objective, 0);
                block.read(&objective, number);
                block.dense
            };
            objective.kept = (0..blocks).into_par_iter().flat_map_iter(read).collect();
        }
        objective
    }

    /// The same with another penalty.
    pub fn penalised(self, penalty: f64) -> Self {
        Objective { penalty, ..self }
    }

    /// The value of f at `v` `[outputs][width]`.
    pub fn loss(&self, v: &[f64]) -> f64 {
        self.evaluate(v, &mut vec![0.0; v.len()])
    }

    /// The value of f at `v`; writes its gradient.
    pub fn evaluate(&self, v: &[f64], gradient: &mut [f64]) -> f64 {
        let blocks = self.count().div_ceil(BLOCK);
        let size = (blocks / 8).clamp(1, TASK);
        let tasks = blocks.div_ceil(size);
        let parts: Vec<(f64, Vec<f64>)> = (0..tasks)
            .into_par_iter()
            .map(|task| self.task(task * size..blocks.min((task + 1) * size), v))
            .collect();
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (part, g) in &parts {
            loss += part;
            gradient.iter_mut().zip(g).for_each(|(a, b)| *a += b);
        }
        let width = self.design.width();
        for (i, (g, v)) in gradient.iter_mut().zip(v).enumerate() {
            if i % width > 0 {
                loss += 0.5 * self.penalty * v * v;
                *g += self.penalty * v;
            }
            *g /= self.mass;
        }
        loss / self.mass
    }

    fn task(&self, blocks: Range<usize>, v: &[f64]) -> (f64, Vec<f64>) {
        let mut gradient = vec![0.0; v.len()];
        let mut loss = 0.0;
        let mut block = Block::new(self, v.len() / self.design.width());
        for number in blocks {
            block.read(self, number);
            block.forward(self, v);
            loss += block.residuals(self);
            block.backward(self, &mut gradient);
        }
        (loss, gradient)
    }

    /// Rows, evenly spread in blocks of which every `step`th is read, with their inputs and the weight w p (1
    /// - p) of each output at `v`. Returns the mass of the rows that were read.
    pub fn visit_curvature(
        &self,
        v: &[f64],
        step: usize,
        mut visit: impl FnMut(&[(usize, f64)], &[f64]),
    ) -> f64 {
        let outputs = v.len() / self.design.width();
        let (mut block, mut mass, mut inputs, mut weights) =
            (Block::new(self, outputs), 0.0, Vec::new(), vec![0.0; outputs]);
        for number in (0..self.count().div_ceil(BLOCK)).step_by(step.max(1)) {
            block.read(self, number);
            block.forward(self, v);
            for (i, &row) in block.rows.iter().enumerate() {
                let w = self.sample.weights[row as usize];
                mass += w;
                weights.iter_mut().enumerate().for_each(|(output, h)| {
                    let p = block.probability(i, output);
                    *h = w * p * (1.0 - p);
                });
                block.inputs(self, i, &mut inputs);
                visit(&inputs, &weights);
            }
        }
        mass
    }

    /// Rows summed over.
    pub fn count(&self) -> usize {
        self.rows.map_or(self.sample.rows(), <[u32]>::len)
    }

    /// Inputs of each linear function.
    pub fn width(&self) -> usize {
        self.design.width()
    }

    /// The penalty on a weight, in units of f.
    pub fn ridge(&self) -> f64 {
        self.penalty / self.mass
    }
}

impl Block {
    fn new(objective: &Objective, outputs: usize) -> Block {
        let categories =
            objective.design.columns.iter().filter(|(c, _)| matches!(c, Column::Category { .. })).count();
        Block {
            number: 0,
            rows: Vec::with_capacity(BLOCK),
            dense: if objective.kept.is_empty() {
                vec![[0.0; BLOCK]; objective.dense.len()]
            } else {
                Vec::new()
            },
            slots: vec![Vec::with_capacity(BLOCK); categories],
            z: vec![[0.0; BLOCK]; outputs],
        }
    }

    /// Standardises the rows of the block `number`.
    fn read(&mut self, objective: &Objective, number: usize) {
        self.number = number;
        let start = number * BLOCK;
        let end = objective.count().min(start + BLOCK);
        self.rows.clear();
        match objective.rows {
            Some(rows) => self.rows.extend_from_slice(&rows[start..end]),
            None => self.rows.extend(start as u32..end as u32),
        }
        let (mut dense, mut slots) = (self.dense.iter_mut(), self.slots.iter_mut());
        for ((column, _), values) in objective.design.columns.iter().zip(objective.sample.columns) {
            match column {
                Column::Constant => {}
                Column::Number { .. } if !objective.kept.is_empty() => {}
                Column::Number { mean, deviation, nulls } => {
                    let by = 1.0 / deviation;
                    let Some(to) = dense.next() else { return };
                    let of = |x: f32| ((f64::from(x) - mean) * by) as f32;
                    match objective.rows {
                        Some(_) => {
                            to.iter_mut().zip(&self.rows).for_each(|(to, &r)| *to = of(values[r as usize]))
                        }
                        None => to.iter_mut().zip(&values[start..end]).for_each(|(to, &x)| *to = of(x)),
                    }
                    if *nulls {
                        let Some(null) = dense.next() else { return };
                        for (x, null) in to[..end - start].iter_mut().zip(null.iter_mut()) {
                            *null = f32::from(u8::from(x.is_nan()));
                            *x = if x.is_nan() { 0.0 } else { *x };
                        }
                    }
                }
                Column::Category { slot_of } => {
                    let Some(to) = slots.next() else { return };
                    let slot = |x: f32| level(x, slot_of.len()).map_or(0, |at| slot_of[at]);
                    to.clear();
                    to.extend(self.rows.iter().map(|&r| slot(values[r as usize])));
                }
            }
        }
    }

    /// The inputs of the numbers' slots.
    fn dense<'b>(&'b self, objective: &'b Objective) -> &'b [[f32; BLOCK]] {
        match objective.kept.is_empty() {
            true => &self.dense,
            false => &objective.kept[self.number * objective.dense.len()..][..objective.dense.len()],
        }
    }

    /// z = the linear functions `v` of the rows.
    fn forward(&mut self, objective: &Objective, v: &[f64]) {
        let (n, width) = (self.rows.len(), objective.design.width());
        let mut z = std::mem::take(&mut self.z);
        let dense = self.dense(objective);
        for (z, v) in z.iter_mut().zip(v.chunks_exact(width)) {
            z.fill(v[0]);
            for (x, &slot) in dense.iter().zip(&objective.dense) {
                let w = v[slot];
                z.iter_mut().zip(x).for_each(|(z, x)| *z += w * f64::from(*x));
            }
            for slots in &self.slots {
                z[..n]
                    .iter_mut()
                    .zip(slots)
                    .for_each(|(z, &slot)| *z += if slot > 0 { v[slot as usize] } else { 0.0 });
            }
        }
        self.z = z;
    }

    /// Replaces z by w (p - t), 0 past the last row; returns the weighted cross-entropy.
    fn residuals(&mut self, objective: &Objective) -> f64 {
        let (n, sample, mut loss) = (self.rows.len(), objective.sample, 0.0);
        if let [z] = &mut self.z[..] {
            for (z, &row) in z.iter_mut().zip(&self.rows) {
                let (w, t) = (sample.weights[row as usize], sample.target(row as usize, 1));
                // ln(1 + e^z) - t z, with the exponential of a number that is not positive
                let e = (-z.abs()).exp();
                loss += w * (z.max(0.0) + e.ln_1p() - t * *z);
                let p = if *z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
                *z = w * (p - t);
            }
        } else {
            let mut p = vec![0.0; self.z.len()];
            for (i, &row) in self.rows.iter().enumerate() {
                let w = sample.weights[row as usize];
                p.iter_mut().zip(&self.z).for_each(|(p, z)| *p = z[i]);
                softmax(&mut p);
                for (class, p) in p.iter().enumerate() {
                    let t = sample.target(row as usize, class);
                    loss -= w * t * p.max(1e-300).ln();
                    self.z[class][i] = w * (p - t);
                }
            }
        }
        self.z.iter_mut().for_each(|z| z[n..].fill(0.0));
        loss
    }

    /// Adds the residuals' gradient.
    fn backward(&self, objective: &Objective, gradient: &mut [f64]) {
        for (r, g) in self.z.iter().zip(gradient.chunks_exact_mut(objective.design.width())) {
            g[0] += r.iter().sum::<f64>();
            for (x, &slot) in self.dense(objective).iter().zip(&objective.dense) {
                g[slot] += dot(x, r);
            }
            for slots in &self.slots {
                slots
                    .iter()
                    .zip(r)
                    .for_each(|(&slot, r)| g[slot as usize] += if slot > 0 { *r } else { 0.0 });
            }
        }
    }

    /// P of the class of an output, after `forward`.
    fn probability(&self, i: usize, output: usize) -> f64 {
        if let [z] = &self.z[..] {
            return sigmoid(z[i]);
        }
        let sum: f64 = self.z.iter().map(|z| (z[i] - self.z[output][i]).exp()).sum();
        1.0 / sum
    }

    /// Row i as a list of (slot, value), the constant first.
    fn inputs(&self, objective: &Objective, i: usize, out: &mut Vec<(usize, f64)>) {
        out.clear();
        out.push((0, 1.0));
        out.extend(
            objective.dense.iter().zip(self.dense(objective)).map(|(&slot, x)| (slot, f64::from(x[i]))),
        );
        out.extend(self.slots.iter().map(|slots| (slots[i] as usize, 1.0)).filter(|(slot, _)| *slot > 0));
    }
}

fn dot(a: &[f32; BLOCK], b: &[f64; BLOCK]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for lane in 0..8 {
            sums[lane] += f64::from(a[lane]) * b[lane];
        }
    }
    sums.iter().sum()
}
