//! The trained relevance calculator: what the teachers' histories taught, kept for the next target.
//!
//! It is trained either from the bundles alone, before any target exists, or in passing with the target's
//! features at hand. Only the edges of the profiles, and through them theta, differ: without a target the
//! edges come from the histories alone, and the target is counted on them later. Cross-loss, calibrations and
//! slopes never depend on a target.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::relevance::fusion::alignment::{Pool, aligned, aligned_gate_share};
use crate::relevance::fusion::base_rate::{ShareRange, wanted_shares};
use crate::relevance::fusion::columns::Columns;
use crate::relevance::fusion::fuse::{Blend, Fuser, gate_share};
use crate::relevance::fusion::gating::Theta;
use crate::relevance::profile::distance::{Distances, between_histories, irrelevant, weights};
use crate::relevance::profile::profiles::Profiles;
use crate::relevance::training::leave_one_out::{rehearse, tilt};
use crate::relevance::training::mixed::mix;
use crate::relevance::training::pooled::{Fitted, NAME, Pooled};
use crate::relevance::training::rehearsal::Rehearsal;
use crate::relevance::training::train::{judgements_without, others, train};
use crate::relevance::transfer::calibrate::Calibration;
use crate::relevance::transfer::cross_loss::CrossLoss;
use crate::relevance::transfer::sources::SourceScores;

/// Version of the saved form.
pub const FORMAT: u32 = 1;

/// A teacher as the calculator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub name: String,
    /// Digest of everything of the bundle that training depends on.
    pub digest: String,
}

/// A teacher that is left out because it gives the same scores as another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    pub name: String,
    pub digest: String,
    pub same_as: String,
}

/// The calculator, as it is saved in `calculator.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calculator {
    pub format: u32,
    pub classes: Vec<String>,
    /// In the order of every list of teachers below.
    pub teachers: Vec<Member>,
    /// Teachers that say the same as one of them.
    pub repeats: Vec<Repeat>,
    /// ln n_k.
    pub log_rows: Vec<f64>,
    pub calibrations: Vec<Calibration>,
    pub theta: Theta,
    /// theta for aligned teachers.
    pub theta_aligned: Theta,
    /// False where theta is theta0: fewer than three teachers, or no labelled history.
    pub trained: bool,
    pub judgement: CrossLoss,
    /// The judgement of all teachers but k: what the drop-one table needs.
    pub without: Vec<CrossLoss>,
    /// Bins and counts of the histories, and of the target where it was there.
    pub profiles: Profiles,
    /// The leave-one-scenario-out table; empty where nothing was trained.
    pub rehearsals: Vec<Rehearsal>,
    /// The pooled teacher, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled: Option<Pooled>,
}

impl Calculator {
    /// Trains on the histories of `world`, with a pooled teacher or without one; `profiles` are those that gave its support, `teachers` in the same
    /// order.
    pub fn train(
        world: &SourceScores,
        profiles: Profiles,
        teachers: Vec<Member>,
        classes: Vec<String>,
        pooled: Option<Fitted>,
    ) -> Result<Self> {
        if teachers.len() != world.teachers()
            || profiles.teachers != world.teachers()
            || classes.len() != world.classes
        {
            return Err(Error::bug("teachers, profiles and classes of the calculator do not fit together"));
        }
        let without = judgements_without(world);
        let training = train(world, &without);
        let played = rehearse(world, &training, &without, &between_histories(&profiles))?;
        let (pooled, rehearsed) = pooled.map_or((None, Vec::new()), |f| (Some(f.pooled), f.rehearsed));
        let rows = pooled.as_ref().map_or(0, |p| p.rows);
        let (rehearsals, share) = mix(played, &rehearsed, rows, world.classes)?;
        let pooled = pooled.map(|pooled| Pooled { share, ..pooled });
        let all: Vec<usize> = (0..world.teachers()).collect();
        Ok(Calculator {
            format: FORMAT,
            classes,
            teachers,
            repeats: Vec::new(),
            log_rows: world.log_rows.clone(),
            calibrations: world.calibrations.clone(),
            theta: training.theta,
            theta_aligned: training.aligned,
            trained: !training.pseudo_targets.is_empty(),
            judgement: CrossLoss::new(world, &all),
            without,
            profiles,
            rehearsals,
            pooled,
        })
    }

    /// Refuses (78) a calculator of another version, of other teachers (in whatever order they stand now) or
    /// of other classes.
    pub fn check(&self, teachers: &[Member], classes: &[String]) -> Result<()> {
        match self.stale(teachers, classes) {
            None => Ok(()),
            Some((what, teacher)) => {
                let error = Error::config(format!("the saved relevance calculator is stale: {what}"));
                let error = if teacher.is_empty() { error } else { error.with("teacher", teacher) };
                Err(error.hint("train it again: coldstart relevance train PIPELINE -o FILE"))
            }
        }
    }

    /// What is no longer as it was in training, and the teacher that it is about, if it is about one.
    pub fn stale(&self, teachers: &[Member], classes: &[String]) -> Option<(String, String)> {
        if self.format != FORMAT {
            return Some((
                format!("its format is {}, this program reads {FORMAT}", self.format),
                String::new(),
            ));
        }
        if self.classes != classes {
            return Some((
                format!("it was trained for the classes {}", self.classes.join(", ")),
                String::new(),
            ));
        }
        let known: Vec<(&String, &String)> = self
            .teachers
            .iter()
            .map(|t| (&t.name, &t.digest))
            .chain(self.repeats.iter().map(|r| (&r.name, &r.digest)))
            .collect();
        for member in teachers {
            let what = match known.iter().find(|(name, _)| **name == member.name) {
                None => "is new",
                Some((_, digest)) if **digest != member.digest => "has changed",
                Some(_) => continue,
            };
            return Some((format!("teacher {} {what}", member.name), member.name.clone()));
        }
        let gone = known.iter().find(|(name, _)| !teachers.iter().any(|m| m.name == **name))?;
        Some((format!("teacher {} is no longer among the teachers", gone.0), gone.0.clone()))
    }

    /// The share of the pooled teacher, where there is one, in the label of a target at these distances: none
    /// of what it has learned is known to hold where no history overlaps with the target.
    pub fn pooled_share(&self, distances: &Distances) -> Option<f64> {
        self.pooled.as_ref().map(|p| if irrelevant(&distances.js) { 0.0 } else { p.share })
    }

    /// The same calculator as if it had been trained without a pooled teacher.
    pub fn without_pooled(mut self) -> Self {
        self.pooled = None;
        self.rehearsals.iter_mut().for_each(|r| r.mixed = None);
        self
    }

    /// The rehearsals of the label that is published, see [`Rehearsal::published`].
    pub fn rehearsed(&self) -> Vec<Rehearsal> {
        self.rehearsals.iter().map(Rehearsal::published).collect()
    }

    /// Mean log-loss of the pooled teacher alone on histories that it had not seen.
    pub fn pooled_loss(&self) -> Option<f64> {
        let losses: Vec<f64> =
            self.rehearsals.iter().filter_map(|r| r.mixed.as_ref()?.losses.last().copied()).collect();
        (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
    }

    /// Names of all teachers, the pooled one last.
    pub fn names(&self) -> Vec<&str> {
        let pooled = self.pooled.iter().map(|_| NAME);
        self.teachers.iter().map(|t| t.name.as_str()).chain(pooled).collect()
    }

    /// Moves the teachers of a fuser to one level of class shares, see [`aligned`]; `ranges` are the class
    /// shares that the user named, if any.
    pub fn align(&self, reference: &Fuser, sample: &Columns, ranges: &[ShareRange]) -> Fuser {
        let tilt = tilt(&self.rehearsals, !ranges.is_empty());
        let gate_share =
            if reference.blend().gate_share > 0.0 { aligned_gate_share(self.trained) } else { 0.0 };
        let pool = Pool { theta: self.theta_aligned, gate_share, tilt };
        aligned(reference, sample, pool, |mean| wanted_shares(mean, ranges))
    }

    /// The blend of all teachers for a target at these distances.
    pub fn blend(&self, distances: &Distances) -> Result<Blend> {
        let all: Vec<usize> = (0..self.teachers.len()).collect();
        self.blend_of(&all, self.judgement.clone(), distances)
    }

    /// The blend without teacher `k`, under the same theta; what the label would be if it had never been
    /// asked. Without the pooled teacher, the last, all others are left.
    pub fn blend_without(&self, k: usize, distances: &Distances) -> Result<Blend> {
        if self.pooled.is_some() && k == self.teachers.len() {
            return self.blend(distances);
        }
        let judgement = self
            .without
            .get(k)
            .cloned()
            .ok_or_else(|| Error::bug("there is no such teacher to leave out"))?;
        self.blend_of(&others(self.teachers.len(), k), judgement, distances)
    }

    fn blend_of(&self, set: &[usize], judgement: CrossLoss, distances: &Distances) -> Result<Blend> {
        let own: Vec<&Calibration> = set.iter().map(|&k| &self.calibrations[k]).collect();
        let log_rows = set.iter().map(|&k| self.log_rows[k]).collect();
        let js: Vec<f64> = set.iter().map(|&k| distances.js[k]).collect();
        if irrelevant(&js) {
            let even = vec![1.0 / set.len() as f64; set.len()];
            return Blend::new(&own, judgement, log_rows, self.theta, 0.0, even);
        }
        Blend::new(&own, judgement, log_rows, self.theta, gate_share(self.trained), weights(&js))
    }
}
