//! The soft label of one account at a time: the rivals, the soft label, and what explains it. No allocation
//! after the start.
//!
//! A [`Blend`] is fixed before the target is read. One pass over the target's scores gives the mean of the
//! calibrated ones ([`Blend::add`], exact), which the gate's share term needs; with it the blend becomes a
//! [`Fuser`], whose [`Fuser::row`] is a pure function of a row.

use crate::error::{Error, Result};
use crate::relevance::fusion::aligned_pool::{Alignment, align, plain_pool};
use crate::relevance::fusion::gating::{EVIDENCE, Parts, Theta, evidence, mix};
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::probability::{
    CALIBRATED_FLOOR, RAW_FLOOR, argmax, floor, log_mix, softmax, steep_floor,
};
use crate::relevance::transfer::calibrate::Calibration;
use crate::relevance::transfer::cross_loss::{CrossLoss, share_term};

/// The gate's share of the default where it was trained, and where it was not.
pub fn gate_share(trained: bool) -> f64 {
    if trained { 0.5 } else { 0.25 }
}

/// Everything that makes soft labels but the target's own mean.
#[derive(Debug, Clone)]
pub struct Blend {
    pub classes: usize,
    /// Own calibration and foreign slope in one: softmax(slope ln p + bias) `[K]`.
    pub calibrations: Vec<Calibration>,
    pub judgement: CrossLoss,
    pub log_rows: Vec<f64>,
    pub theta: Theta,
    /// The gate's share g in [0, 1] of the default's logits; uniform and 1/JS have half of the rest each.
    pub gate_share: f64,
    /// Weights by distance `[K]`.
    pub js_weights: Vec<f64>,
    steep_floor: f64,
}

impl Blend {
    /// Composes own calibrations with the foreign slopes of the judgement.
    pub fn new(
        own: &[&Calibration],
        judgement: CrossLoss,
        log_rows: Vec<f64>,
        theta: Theta,
        gate_share: f64,
        js_weights: Vec<f64>,
    ) -> Result<Self> {
        let teachers = own.len();
        let fits =
            judgement.slopes.len() == teachers && log_rows.len() == teachers && js_weights.len() == teachers;
        let Some(classes) = own.first().map(|c| c.bias.len()).filter(|_| fits) else {
            return Err(Error::bug("calibrations, slopes, rows and weights are not of the same teachers"));
        };
        let foreign = |(c, f): (&&Calibration, &f64)| Calibration {
            slope: f * c.slope,
            bias: c.bias.iter().map(|b| f * b).collect(),
        };
        let calibrations = own.iter().zip(&judgement.slopes).map(foreign).collect();
        Ok(Blend {
            classes,
            calibrations,
            judgement,
            log_rows,
            theta,
            gate_share,
            js_weights,
            steep_floor: steep_floor(),
        })
    }

    /// Teachers K.
    pub fn teachers(&self) -> usize {
        self.calibrations.len()
    }

    /// Empty means for [`Blend::add`].
    pub fn means(&self) -> ExactMeans {
        ExactMeans::new(self.classes)
    }

    /// Adds a row of raw scores `[K, C]` to the mean of the calibrated ones; what follows them is not read.
    pub fn add(&self, raw: &[f64], scratch: &mut Vec<f64>, means: &mut ExactMeans) {
        let raw = &raw[..self.teachers() * self.classes];
        scratch.clear();
        scratch.extend_from_slice(raw);
        scratch.extend_from_slice(raw);
        let (p, spare) = scratch.split_at_mut(raw.len());
        self.calibrate(p, spare);
        for (c, mean) in spare[..self.classes].iter_mut().enumerate() {
            *mean = p[c..].iter().step_by(self.classes).sum::<f64>() / self.teachers() as f64;
        }
        means.add(&spare[..self.classes]);
    }

    /// Raw scores `[K, C]` to calibrated ones, in place; their logarithms into `ln_p` of the same shape.
    fn calibrate(&self, p: &mut [f64], ln_p: &mut [f64]) {
        let (least, least_ln) = (self.steep_floor, CALIBRATED_FLOOR.ln());
        for ((p, ln_p), calibration) in
            p.chunks_exact_mut(self.classes).zip(ln_p.chunks_exact_mut(self.classes)).zip(&self.calibrations)
        {
            floor(p, least);
            let first = p[0];
            for ((z, p), b) in ln_p.iter_mut().zip(p.iter()).zip(&calibration.bias) {
                // Only differences of logits count, so one logarithm is spared.
                *z = if p == &first { *b } else { calibration.slope * (p / first).ln() + b };
            }
            p.copy_from_slice(ln_p);
            let norm = softmax(p);
            let sum = floor(p, CALIBRATED_FLOOR);
            let floored = if sum > 1.0 + 1e-12 { sum.ln() } else { 0.0 };
            ln_p.iter_mut().for_each(|z| *z = (*z - norm).max(least_ln) - floored);
        }
    }
}

/// Makes soft labels.
#[derive(Debug, Clone)]
pub struct Fuser {
    blend: Blend,
    relative: Vec<f64>,
    d: Vec<f64>,
    alignment: Option<Alignment>,
    pooled_share: Option<f64>,
    constants: Vec<f64>,
}

/// A soft label and what explains it; reused from row to row.
#[derive(Debug, Clone)]
pub struct Fused {
    /// The published label `[C]`: the default or the aligned pool, moved to the base rate.
    pub label: Vec<f64>,
    /// Logits of the label before the base-rate step `[C]`, up to a constant.
    pub z: Vec<f64>,
    /// w_k = g w_k(x) + (1 - g)/2 (1/K + u_k) `[K]`; with a pooled teacher these have the rest of its share,
    /// which comes last.
    pub weights: Vec<f64>,
    /// max_k s_k(x).
    pub support: f64,
    /// How far the teachers are apart: sum_k w_k KL(p_k || sum w p) in bits, of calibrated scores under the
    /// gate's weights; from 0 to log2 K.
    pub disagreement: f64,
    /// Which rivals have their largest class where the label has it: uniform, 1/JS, gate.
    pub agree: [bool; 3],
    /// Plain mean of the raw scores `[C]`.
    pub uniform: Vec<f64>,
    /// Mean by distance of the raw scores `[C]`.
    pub js: Vec<f64>,
    /// The gate alone `[C]`; before its level is set where teachers are aligned.
    pub gate: Vec<f64>,
    /// The gate's parts, its weights among them.
    pub parts: Parts,
    /// Calibrated scores `[K, C]`.
    pub p: Vec<f64>,
    /// Raw scores, floored `[K, C]`.
    pub raw: Vec<f64>,
    /// What the pooled teacher says, floored `[C]`; empty without one.
    pub pooled: Vec<f64>,
    ln_p: Vec<f64>,
    moved: Vec<f64>,
    plain: Vec<f64>,
    js_moved: Vec<f64>,
    spare: Vec<f64>,
    q: Vec<f64>,
    phi: Vec<f64>,
}

impl Fuser {
    /// With the target's mean of calibrated scores.
    pub fn new(blend: Blend, means: &ExactMeans) -> Self {
        let d = share_term(&blend.judgement, &means.means());
        let constants = vec![0.0; blend.classes];
        Fuser {
            relative: blend.judgement.relative.concat(),
            d,
            alignment: None,
            pooled_share: None,
            constants,
            blend,
        }
    }

    /// The same with a pooled teacher that has this share of the logits; its probabilities `[C]` follow the
    /// raw scores of every row.
    pub fn with_pooled(mut self, share: Option<f64>) -> Self {
        self.pooled_share = share;
        self
    }

    /// The same with the constants of the base-rate step `[C]`.
    pub fn with_constants(mut self, constants: &[f64]) -> Self {
        self.constants = constants.to_vec();
        self
    }

    /// The same with aligned teachers; the gate's share term has no part then.
    pub fn with_alignment(mut self, alignment: Alignment) -> Self {
        self.d.fill(0.0);
        self.alignment = Some(alignment);
        self
    }

    /// The same with constants `[C]` that bring the pool of aligned teachers to its level.
    pub fn with_level(mut self, level: &[f64]) -> Self {
        if let Some(alignment) = &mut self.alignment {
            alignment.level = level.to_vec();
        }
        self
    }

    /// What aligns the teachers, if they are aligned; to be saved, and given back by
    /// [`Fuser::with_alignment`].
    pub fn alignment(&self) -> Option<&Alignment> {
        self.alignment.as_ref()
    }

    pub fn blend(&self) -> &Blend {
        &self.blend
    }

    /// Room for a row's result.
    pub fn scratch(&self) -> Fused {
        let (k, c) = (self.blend.teachers(), self.blend.classes);
        let (row, stack) = (vec![0.0; c], vec![0.0; k * c]);
        Fused {
            label: row.clone(),
            z: row.clone(),
            weights: vec![0.0; k + usize::from(self.pooled_share.is_some())],
            pooled: if self.pooled_share.is_some() { row.clone() } else { Vec::new() },
            support: 0.0,
            disagreement: 0.0,
            agree: [true; 3],
            uniform: row.clone(),
            js: row.clone(),
            plain: row.clone(),
            js_moved: row.clone(),
            spare: row.clone(),
            gate: row,
            parts: Parts::new(k, c),
            p: stack.clone(),
            ln_p: stack.clone(),
            moved: stack.clone(),
            raw: stack,
            q: vec![0.0; k],
            phi: vec![0.0; k * EVIDENCE],
        }
    }

    /// Soft label of a row with raw scores `[K, C]`, those of the pooled teacher behind them, and support `s`
    /// `[K]`.
    pub fn row(&self, raw: &[f64], s: &[f64], out: &mut Fused) {
        let (raw, pooled) = raw.split_at(self.blend.teachers() * self.blend.classes);
        self.rivals(raw, out);
        evidence(s, &self.relative, &self.blend.log_rows, &mut out.q, &mut out.phi);
        let (g, theta) = match &self.alignment {
            None => {
                out.plain
                    .iter_mut()
                    .zip(&out.uniform)
                    .zip(&out.js)
                    .for_each(|((z, u), j)| *z = 0.5 * (u * j).ln());
                (self.blend.gate_share, &self.blend.theta)
            }
            Some(alignment) => {
                self.align(alignment, out);
                (alignment.gate_share, &alignment.theta)
            }
        };
        out.parts.fill(theta, &out.p, &out.ln_p, &out.phi, &self.d);
        out.gate.copy_from_slice(&out.parts.z);
        let norm = softmax(&mut out.gate);
        for c in 0..self.blend.classes {
            out.z[c] = g * (out.parts.z[c] - norm) + (1.0 - g) * out.plain[c];
            if let Some(alignment) = &self.alignment {
                let tilt = if alignment.tilt > 0.0 {
                    alignment.tilt * (out.js_moved[c].ln() - out.z[c])
                } else {
                    0.0
                };
                out.z[c] += tilt + alignment.level[c];
            }
        }
        if let Some(share) = self.pooled_share {
            out.pooled.copy_from_slice(pooled);
            floor(&mut out.pooled, RAW_FLOOR);
            log_mix(share, &out.pooled, &mut out.z);
        }
        out.label.iter_mut().zip(&out.z).zip(&self.constants).for_each(|((l, z), b)| *l = z + b);
        softmax(&mut out.label);
        self.explain(g, s, out);
    }

    fn explain(&self, g: f64, s: &[f64], out: &mut Fused) {
        let even = 1.0 / self.blend.teachers() as f64;
        let tilt = self.alignment.as_ref().map_or(0.0, |a| a.tilt);
        for ((w, gate), u) in out.weights.iter_mut().zip(&out.parts.weights).zip(&self.blend.js_weights) {
            *w = (1.0 - tilt) * (g * gate + (1.0 - g) / 2.0 * (even + u)) + tilt * u;
        }
        if let (Some(share), Some((last, rest))) = (self.pooled_share, out.weights.split_last_mut()) {
            rest.iter_mut().for_each(|w| *w *= 1.0 - share);
            *last = share;
        }
        out.support = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        out.disagreement = disagreement(out, self.blend.classes);
        let class = argmax(&out.label);
        out.agree = [&out.uniform, &out.js, &out.gate].map(|p| argmax(p) == class);
    }

    fn align(&self, alignment: &Alignment, out: &mut Fused) {
        let classes = self.blend.classes;
        out.moved.copy_from_slice(&out.raw);
        plain_pool(
            &alignment.raw,
            &self.blend.js_weights,
            &mut out.moved,
            &mut out.plain,
            &mut out.js_moved,
            &mut out.spare,
        );
        let rows = out.p.chunks_exact_mut(classes).zip(out.ln_p.chunks_exact_mut(classes));
        for ((p, ln_p), b) in rows.zip(alignment.calibrated.chunks_exact(classes)) {
            align(b, p, ln_p);
        }
    }

    /// Uniform and 1/JS of the raw scores, and the calibrated ones.
    fn rivals(&self, raw: &[f64], out: &mut Fused) {
        let classes = self.blend.classes;
        out.raw.copy_from_slice(raw);
        out.uniform.fill(0.0);
        for p in out.raw.chunks_exact_mut(classes) {
            floor(p, RAW_FLOOR);
            out.uniform.iter_mut().zip(p).for_each(|(u, p)| *u += *p);
        }
        let teachers = self.blend.teachers() as f64;
        out.uniform.iter_mut().for_each(|u| *u /= teachers);
        mix(&self.blend.js_weights, &out.raw, &mut out.js);
        out.p.copy_from_slice(raw);
        self.blend.calibrate(&mut out.p, &mut out.ln_p);
    }
}

fn disagreement(out: &Fused, classes: usize) -> f64 {
    let gap = |k: usize| {
        (0..classes)
            .map(|c| out.p[k * classes + c] * (out.ln_p[k * classes + c] - out.parts.ln_linear[c]))
            .sum::<f64>()
    };
    let bits =
        out.parts.weights.iter().enumerate().map(|(k, w)| w * gap(k)).sum::<f64>() / std::f64::consts::LN_2;
    bits.max(0.0)
}
