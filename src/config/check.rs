//! What a pipeline file may say: each refusal names the key and the value.

use crate::config::{Abstain, Pipeline};
use crate::error::{Error, Result};

impl Pipeline {
    /// All of it; called once, when the file is read.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |key: &'static str, value: &dyn std::fmt::Display, wanted: &str| {
            Err(Error::config(wanted).with("key", key).value(value))
        };
        let plain = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if !plain(&self.name) || self.name.len() > 100 {
            return bad("name", &self.name, "a name is 1 to 100 of a-z, 0-9, - and _");
        }
        if self.classes.len() < 2 || self.classes.len() > 1000 {
            return bad("classes", &self.classes.len(), "between 2 and 1000 classes are needed");
        }
        for (i, class) in self.classes.iter().enumerate() {
            if class.is_empty() || class.contains('\0') {
                return bad("classes", &format!("{class:?}"), "a class needs a name without NUL");
            }
            if self.classes[..i].contains(class) {
                return bad("classes", class, "this class stands twice");
            }
        }
        if self.teachers.len() < 2 {
            return Err(Error::config(format!(
                "at least two teachers are needed, the pipeline names {}",
                self.teachers.len()
            ))
            .with("key", "teachers"));
        }
        self.check_shares()?;
        self.check_abstain()?;
        let share = |key: &'static str, v: f64, low: f64, high: f64| match (low..=high).contains(&v) {
            true => Ok(()),
            false => {
                Err(Error::config(format!("must lie between {low} and {high}")).with("key", key).value(v))
            }
        };
        share("student.held_out_share", self.student.held_out_share, 0.01, 0.5)?;
        share("student.min_agreement", self.student.min_agreement, 0.0, 1.0)?;
        share("student.max_kl", self.student.max_kl, 0.0, f64::MAX)?;
        share("student.max_training_rows", self.student.max_training_rows as f64, 100.0, 1e9)?;
        let [low, high] = self.gates.volume;
        if !(0.0 <= low && low <= high) {
            return bad(
                "gates.volume",
                &format!("[{low}, {high}]"),
                "a least and a greatest multiple are needed, [LEAST, MOST]",
            );
        }
        share("gates.shares", self.gates.shares, 0.0, f64::MAX)?;
        for key in &self.output.partition_by {
            if !["class", "decision"].contains(&key.as_str()) {
                return bad(
                    "output.partition_by",
                    key,
                    "the table can be partitioned by \"class\" and \"decision\"",
                );
            }
        }
        if self.output.format != "parquet" {
            return bad("output.format", &self.output.format, "this build writes \"parquet\"");
        }
        Ok(())
    }

    fn check_abstain(&self) -> Result<()> {
        let known = |class: &String, key: String| match self.classes.contains(class) {
            true => Ok(()),
            false => Err(Error::config("fuse.costs names a class that is not in classes")
                .with("key", key)
                .value(class)),
        };
        for (is, costs) in self.fuse.costs.iter().flatten() {
            known(is, "fuse.costs".to_string())?;
            for (decided, cost) in costs {
                let key = format!("fuse.costs.{is}");
                known(decided, key.clone())?;
                if !(0.0..f64::INFINITY).contains(cost) {
                    return Err(Error::config("a cost is a finite number and not negative")
                        .with("key", format!("{key}.{decided}"))
                        .value(cost));
                }
            }
        }
        let Abstain { cost, min_support, max_disagreement } = &self.fuse.abstain;
        let limits = [
            ("fuse.abstain.cost", cost, 0.0),
            ("fuse.abstain.min_support", min_support, f64::MIN),
            ("fuse.abstain.max_disagreement", max_disagreement, 0.0),
        ];
        for (key, value, least) in limits {
            if let Some(value) = value.filter(|v| !(least..f64::INFINITY).contains(v)) {
                let wanted = if least == 0.0 {
                    "a finite number, not negative, is expected"
                } else {
                    "a finite number is expected"
                };
                return Err(Error::config(wanted).with("key", key).value(value));
            }
        }
        Ok(())
    }

    fn check_shares(&self) -> Result<()> {
        let Some(shares) = &self.target.class_shares else { return Ok(()) };
        let mut least = 0.0;
        for (class, share) in shares {
            let (low, high) = share.range();
            if !self.classes.contains(class) {
                return Err(Error::config("class_shares names a class that is not in classes")
                    .with("key", "target.class_shares")
                    .value(class));
            }
            if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
                return Err(Error::config("a share lies between 0 and 1, a range goes from low to high")
                    .with("key", format!("target.class_shares.{class}"))
                    .value(format!("[{low}, {high}]")));
            }
            least += low;
        }
        let all = shares.len() == self.classes.len();
        let most: f64 = shares.values().map(|s| s.range().1).sum();
        if least > 1.0 + 1e-3 || (all && most < 1.0 - 1e-3) {
            return Err(Error::config("the class shares cannot sum to 1")
                .with("key", "target.class_shares")
                .value(least));
        }
        Ok(())
    }
}
