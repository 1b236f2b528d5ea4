//! The soft label of one account at a time, or of eight side by side: the rivals, the soft label, and what
//! explains it. No allocation after the start.
//!
//! Everything is written over [`Real`], so that an account alone has the same bits as among others. A [`Blend`] is fixed before the target is read. One pass over the target's scores gives the mean of the
//! calibrated ones ([`Blend::add`], exact), which the gate's share term needs; with it the blend becomes a
//! [`Fuser`], whose [`Fuser::row`] is a pure function of a row.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::models::trees::simd::vectorised;
use crate::relevance::fusion::aligned_pool::{Alignment, align, floored_softmax, plain_pool};
use crate::relevance::fusion::columns::Columns;
use crate::relevance::fusion::gating::{EVIDENCE, Parts, Theta, evidence};
use crate::relevance::maths::exact_sum::ExactMeans;
use crate::relevance::maths::probability::{
    RAW_FLOOR, floor, log_mix, logits, place_of_largest, softmax, steep_floor,
};
use crate::relevance::maths::real::{LANES, Lanes, Real};
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

    /// Adds rows of raw scores to the means of the calibrated ones.
    pub fn add(&self, columns: &Columns, means: &mut ExactMeans) {
        let (mut raw, mut support, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..columns.rows()).step_by(LANES) {
            columns.load(first, &mut raw, &mut support);
            let rows = LANES.min(columns.rows() - first);
            vectorised(
                #[inline(always)]
                || self.add_rows(&raw, rows, &mut scratch, means),
            );
        }
    }

    /// Adds raw scores `[K, C]` of the first `rows` rows; what follows them is not read.
    #[inline(always)]
    fn add_rows<R: Real>(&self, raw: &[R], rows: usize, scratch: &mut Vec<R>, means: &mut ExactMeans) {
        let raw = &raw[..self.teachers() * self.classes];
        scratch.clear();
        scratch.extend_from_slice(raw);
        scratch.extend_from_slice(raw);
        let (p, spare) = scratch.split_at_mut(raw.len());
        self.calibrate(p, spare);
        for (c, mean) in spare[..self.classes].iter_mut().enumerate() {
            let sum = p[c..].iter().step_by(self.classes).fold(R::default(), |sum, p| sum + *p);
            *mean = sum / R::splat(self.teachers() as f64);
        }
        means.add_rows(&spare[..self.classes], rows);
    }

    /// Raw scores `[K, C]` to calibrated ones, in place; their logarithms into `ln_p` of the same shape.
    #[inline(always)]
    fn calibrate<R: Real>(&self, p: &mut [R], ln_p: &mut [R]) {
        for ((p, ln_p), calibration) in
            p.chunks_exact_mut(self.classes).zip(ln_p.chunks_exact_mut(self.classes)).zip(&self.calibrations)
        {
            floor(p, self.steep_floor);
            ln_p.copy_from_slice(p);
            logits(ln_p, calibration.slope, &calibration.bias);
            floored_softmax(p, ln_p);
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

/// A soft label and what explains it, of a row or of several; reused from row to row.
#[derive(Debug, Clone)]
pub struct Fused<R = f64> {
    /// The published label `[C]`: the default or the aligned pool, moved to the base rate.
    pub label: Vec<R>,
    /// Logits of the label before the base-rate step `[C]`, up to a constant.
    pub z: Vec<R>,
    /// w_k = g w_k(x) + (1 - g)/2 (1/K + u_k) `[K]`; with a pooled teacher these have the rest of its share,
    /// which comes last.
    pub weights: Vec<R>,
    /// max_k s_k(x).
    pub support: R,
    /// How far the teachers are apart: sum_k w_k KL(p_k || sum w p) in bits, of calibrated scores under the
    /// gate's weights; from 0 to log2 K.
    pub disagreement: R,
    /// Which rivals have their largest class where the label has it, 1 or 0: uniform, 1/JS, gate.
    pub agree: [R; 3],
    /// Plain mean of the raw scores `[C]`.
    pub uniform: Vec<R>,
    /// Mean by distance of the raw scores `[C]`.
    pub js: Vec<R>,
    /// The gate alone `[C]`; before its level is set where teachers are aligned.
    pub gate: Vec<R>,
    /// The gate's parts, its weights among them.
    pub parts: Parts<R>,
    /// Calibrated scores `[K, C]`.
    pub p: Vec<R>,
    /// Raw scores, floored `[K, C]`.
    pub raw: Vec<R>,
    /// What the pooled teacher says, floored `[C]`; empty without one.
    pub pooled: Vec<R>,
    ln_p: Vec<R>,
    moved: Vec<R>,
    plain: Vec<R>,
    js_moved: Vec<R>,
    spare: Vec<R>,
    q: Vec<R>,
    phi: Vec<R>,
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
    pub fn scratch<R: Real>(&self) -> Fused<R> {
        let (k, c) = (self.blend.teachers(), self.blend.classes);
        let zeros = |n: usize| vec![R::default(); n];
        let pooled = usize::from(self.pooled_share.is_some());
        Fused {
            label: zeros(c),
            z: zeros(c),
            weights: zeros(k + pooled),
            pooled: zeros(c * pooled),
            support: R::default(),
            disagreement: R::default(),
            agree: [R::default(); 3],
            uniform: zeros(c),
            js: zeros(c),
            plain: zeros(c),
            js_moved: zeros(c),
            spare: zeros(c),
            gate: zeros(c),
            parts: Parts::new(k, c),
            p: zeros(k * c),
            ln_p: zeros(k * c),
            moved: zeros(k * c),
            raw: zeros(k * c),
            q: zeros(k),
            phi: zeros(k * EVIDENCE),
        }
    }

    /// Soft labels of some rows, handed over eight at a time: the place of the first, how many there are, and
    /// what was made of them.
    pub fn each(
        &self,
        columns: &Columns,
        rows: Range<usize>,
        mut each: impl FnMut(usize, usize, &Fused<Lanes>),
    ) {
        let (mut raw, mut support, mut fused) = (Vec::new(), Vec::new(), self.scratch());
        for first in rows.clone().step_by(LANES) {
            columns.load(first, &mut raw, &mut support);
            self.lanes(&raw, &support, &mut fused);
            each(first, LANES.min(rows.end - first), &fused);
        }
    }

    #[inline(never)]
    fn lanes(&self, raw: &[Lanes], s: &[Lanes], out: &mut Fused<Lanes>) {
        vectorised(
            #[inline(always)]
            || self.row(raw, s, out),
        );
    }

    /// Soft label of a row with raw scores `[K, C]`, those of the pooled teacher behind them, and support `s`
    /// `[K]`.
    #[inline(always)]
    pub fn row<R: Real>(&self, raw: &[R], s: &[R], out: &mut Fused<R>) {
        let (raw, pooled) = raw.split_at(self.blend.teachers() * self.blend.classes);
        self.rivals(raw, out);
        evidence(s, &self.relative, &self.blend.log_rows, &mut out.q, &mut out.phi);
        let (g, theta) = match &self.alignment {
            None => {
                out.plain
                    .iter_mut()
                    .zip(&out.uniform)
                    .zip(&out.js)
                    .for_each(|((z, u), j)| *z = (*u * *j).ln() * 0.5);
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
            out.z[c] = (out.parts.z[c] - norm) * g + out.plain[c] * (1.0 - g);
            if let Some(alignment) = &self.alignment {
                if alignment.tilt > 0.0 {
                    out.z[c] = out.z[c] + (out.js_moved[c].ln() - out.z[c]) * alignment.tilt;
                }
                out.z[c] = out.z[c] + alignment.level[c];
            }
        }
        if let Some(share) = self.pooled_share {
            out.pooled.copy_from_slice(pooled);
            floor(&mut out.pooled, RAW_FLOOR);
            log_mix(share, &out.pooled, &mut out.z);
        }
        out.label.iter_mut().zip(&out.z).zip(&self.constants).for_each(|((l, z), b)| *l = *z + *b);
        softmax(&mut out.label);
        self.explain(g, s, out);
    }

    #[inline(always)]
    fn explain<R: Real>(&self, g: f64, s: &[R], out: &mut Fused<R>) {
        let even = 1.0 / self.blend.teachers() as f64;
        let tilt = self.alignment.as_ref().map_or(0.0, |a| a.tilt);
        for ((w, gate), u) in out.weights.iter_mut().zip(&out.parts.weights).zip(&self.blend.js_weights) {
            *w = (*gate * g + (1.0 - g) / 2.0 * (even + u)) * (1.0 - tilt) + tilt * u;
        }
        if let (Some(share), Some((last, rest))) = (self.pooled_share, out.weights.split_last_mut()) {
            rest.iter_mut().for_each(|w| *w = *w * (1.0 - share));
            *last = R::splat(share);
        }
        out.support = s.iter().copied().fold(R::splat(f64::NEG_INFINITY), |most, s| s.at_least(most));
        out.disagreement = disagreement(out, self.blend.classes);
        let class = place_of_largest(&out.label);
        let (yes, no) = (R::splat(1.0), R::default());
        out.agree = [&out.uniform, &out.js, &out.gate].map(|p| {
            let other = place_of_largest(p);
            class.if_above(other, no, other.if_above(class, no, yes))
        });
    }

    #[inline(always)]
    fn align<R: Real>(&self, alignment: &Alignment, out: &mut Fused<R>) {
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
    #[inline(always)]
    fn rivals<R: Real>(&self, raw: &[R], out: &mut Fused<R>) {
        let classes = self.blend.classes;
        out.raw.copy_from_slice(raw);
        out.uniform.fill(R::default());
        out.js.fill(R::default());
        for (p, weight) in out.raw.chunks_exact_mut(classes).zip(&self.blend.js_weights) {
            floor(p, RAW_FLOOR);
            out.uniform.iter_mut().zip(&*p).for_each(|(u, p)| *u = *u + *p);
            out.js.iter_mut().zip(p).for_each(|(js, p)| *js = *js + *p * *weight);
        }
        let teachers = R::splat(self.blend.teachers() as f64);
        out.uniform.iter_mut().for_each(|u| *u = *u / teachers);
        out.p.copy_from_slice(raw);
        self.blend.calibrate(&mut out.p, &mut out.ln_p);
    }
}

#[inline(always)]
fn disagreement<R: Real>(out: &Fused<R>, classes: usize) -> R {
    let gap = |k: usize| {
        (0..classes).fold(R::default(), |sum, c| {
            sum + out.p[k * classes + c] * (out.ln_p[k * classes + c] - out.parts.ln_linear[c])
        })
    };
    let nats = out.parts.weights.iter().enumerate().fold(R::default(), |sum, (k, w)| sum + *w * gap(k));
    (nats * (1.0 / std::f64::consts::LN_2)).at_least(R::default())
}
