//! The trained relevance calculator: what the teachers' histories taught, kept for the next target.
//!
//! It is trained either from the bundles alone, before any target exists, or in passing with the target's features at hand. Only the edges of the profiles,
//! and through them theta, differ: without a target the edges come from the histories alone, and the target is counted on them later. Cross-loss,
//! calibrations and slopes never depend on a target.

use super::alignment::{Pool, Sample, aligned, aligned_gate_share};
use super::base_rate::{ShareRange, wanted_shares};
use super::calibrate::Calibration;
use super::distance::{Distances, between_histories};
use super::fuse::{Blend, Fuser, gate_share};
use super::gate::Theta;
use super::judgement::Judgement;
use super::profiles::Profiles;
use super::rehearsal::{Rehearsal, rehearse, tilt};
use super::train::{judgements_without, others, train};
use super::world::World;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Version of the saved form.
const FORMAT: u32 = 1;

/// A teacher as the calculator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub name: String,
    /// Digest of everything of the bundle that training depends on.
    pub digest: String,
}

/// The calculator, as it is saved in `calculator.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calculator {
    pub format: u32,
    pub classes: Vec<String>,
    /// In the order of every list of teachers below.
    pub teachers: Vec<Member>,
    /// ln n_k.
    pub log_rows: Vec<f64>,
    pub calibrations: Vec<Calibration>,
    pub theta: Theta,
    /// theta for aligned teachers.
    pub theta_aligned: Theta,
    /// False where theta is theta0: fewer than three teachers, or no labelled history.
    pub trained: bool,
    pub judgement: Judgement,
    /// The judgement of all teachers but k: what the drop-one table needs.
    pub without: Vec<Judgement>,
    /// Bins and counts of the histories, and of the target where it was there.
    pub profiles: Profiles,
    /// The leave-one-scenario-out table; empty where nothing was trained.
    pub rehearsals: Vec<Rehearsal>,
}

impl Calculator {
    /// Trains on the histories of `world`; `profiles` are those that gave its support, `teachers` in the same order.
    pub fn train(world: &World, profiles: Profiles, teachers: Vec<Member>, classes: Vec<String>) -> Result<Self> {
        if teachers.len() != world.teachers() || profiles.teachers != world.teachers() || classes.len() != world.classes {
            return Err(Error::bug("teachers, profiles and classes of the calculator do not fit together"));
        }
        let without = judgements_without(world);
        let training = train(world, &without);
        let rehearsals = rehearse(world, &training, &without, &between_histories(&profiles))?;
        let all: Vec<usize> = (0..world.teachers()).collect();
        Ok(Calculator {
            format: FORMAT,
            classes,
            teachers,
            log_rows: world.log_rows.clone(),
            calibrations: world.calibrations.clone(),
            theta: training.theta,
            theta_aligned: training.aligned,
            trained: !training.pseudo_targets.is_empty(),
            judgement: Judgement::new(world, &all),
            without,
            profiles,
            rehearsals,
        })
    }

    /// Refuses a calculator of another version, of other teachers (in whatever order they stand now) or of other classes.
    pub fn check(&self, teachers: &[Member], classes: &[String]) -> Result<()> {
        let stale = |what: String| {
            Error::config(format!("the saved relevance calculator is stale: {what}")).hint("train it again: coldstart relevance train")
        };
        if self.format != FORMAT {
            return Err(stale(format!("its format is {}, this program writes {FORMAT}", self.format)));
        }
        if self.classes != classes {
            return Err(stale(format!("it was trained for the classes {}", self.classes.join(", "))));
        }
        for member in teachers {
            match self.teachers.iter().find(|t| t.name == member.name) {
                None => return Err(stale(format!("teacher {} is new", member.name))),
                Some(known) if known.digest != member.digest => return Err(stale(format!("teacher {} has changed", member.name))),
                Some(_) => {}
            }
        }
        match self.teachers.iter().find(|t| !teachers.iter().any(|m| m.name == t.name)) {
            Some(gone) => Err(stale(format!("teacher {} is no longer among the teachers", gone.name))),
            None => Ok(()),
        }
    }

    /// Moves the teachers of a fuser to one level of class shares, see [`aligned`]; `ranges` are the class shares that the user named, if any.
    pub fn align(&self, reference: &Fuser, sample: Sample, ranges: &[ShareRange]) -> Fuser {
        let tilt = tilt(&self.rehearsals, !ranges.is_empty());
        let pool = Pool { theta: self.theta_aligned, gate_share: aligned_gate_share(self.trained), tilt };
        aligned(reference, sample, pool, |mean| wanted_shares(mean, ranges))
    }

    /// The blend of all teachers for a target at these distances.
    pub fn blend(&self, distances: &Distances) -> Result<Blend> {
        let all: Vec<usize> = (0..self.teachers.len()).collect();
        self.blend_of(&all, self.judgement.clone(), distances)
    }

    /// The blend without teacher `k`, under the same theta; what the label would be if it had never been asked.
    pub fn blend_without(&self, k: usize, distances: &Distances) -> Result<Blend> {
        let judgement = self.without.get(k).cloned().ok_or_else(|| Error::bug("there is no such teacher to leave out"))?;
        self.blend_of(&others(self.teachers.len(), k), judgement, distances)
    }

    fn blend_of(&self, set: &[usize], judgement: Judgement, distances: &Distances) -> Result<Blend> {
        let own: Vec<&Calibration> = set.iter().map(|&k| &self.calibrations[k]).collect();
        let log_rows = set.iter().map(|&k| self.log_rows[k]).collect();
        let js = super::distance::weights(&set.iter().map(|&k| distances.js[k]).collect::<Vec<_>>());
        Blend::new(&own, judgement, log_rows, self.theta, gate_share(self.trained), js)
    }
}
