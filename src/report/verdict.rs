//! Three sentences that a manager reads: what came out, how far it can be trusted, what to do next.

use crate::report::data::{ClassShare, Estimate, Level, Truth, Verdict, Worth};
use crate::report::html::{count, named, percent};

/// Changes of log-loss below this are none.
const LITTLE: f64 = 0.01;

/// What the sentences are made of.
pub struct Facts<'a> {
    pub accounts: u64,
    pub undecided: u64,
    pub classes: &'a [ClassShare],
    pub accuracy: Option<Estimate>,
    /// Histories that played the target.
    pub trials: usize,
    /// Trials in which the labels were worse than the plain mean of the teachers.
    pub harmed: usize,
    /// Whether no history overlaps with the target.
    pub irrelevant: bool,
    pub distrust: Option<&'a str>,
    pub worth: &'a [Worth],
    pub truth: Option<&'a Truth>,
    /// The feature that moved most since the date before, where that is much.
    pub moved: Option<&'a str>,
    pub detail: Vec<String>,
}

impl Facts<'_> {
    pub fn verdict(self) -> Verdict {
        let (trust, level) = self.trust();
        Verdict { headline: [self.result(), trust, self.next()], level, detail: self.detail }
    }

    fn result(&self) -> String {
        let mut order: Vec<&ClassShare> = self.classes.iter().collect();
        order.sort_by(|a, b| b.share.total_cmp(&a.share));
        let of = |c: &&ClassShare| format!("{} {}", percent(c.share, 1), named(&c.class));
        let shown: Vec<String> = order.iter().take(3).map(of).collect();
        let list = match shown.as_slice() {
            [] => "none".to_string(),
            [one] => one.clone(),
            [all @ .., last] if order.len() <= 3 => format!("{} and {last}", all.join(", ")),
            all => format!("{}, and {} classes more", all.join(", "), order.len() - 3),
        };
        let undecided = match self.undecided {
            0 => String::new(),
            n => format!("; {} are left undecided", count(n)),
        };
        format!("{} accounts have a label: {list}{undecided}.", count(self.accounts))
    }

    fn trust(&self) -> (String, Level) {
        if let Some(truth) = self.truth {
            let expected = self.accuracy.map_or(truth.said, |a| a.value);
            let low = self.accuracy.map_or(truth.said - 0.05, |a| a.low);
            let level = if truth.accuracy >= low { Level::Good } else { Level::Stop };
            let kept = if truth.accuracy >= low { "as expected" } else { "fewer than expected" };
            let found = percent(truth.accuracy, 1);
            return (
                format!(
                    "{found} agree with the {} labels that arrived, {kept} ({}).",
                    count(truth.labels),
                    percent(expected, 1)
                ),
                level,
            );
        }
        if self.irrelevant {
            return (
                "No teacher's history resembles these accounts: take the labels for a guess.".to_string(),
                Level::Stop,
            );
        }
        let Some(a) = self.accuracy else {
            let why = "How many are right is not known: to estimate it takes three teachers with a labelled history.";
            return (why.to_string(), Level::Care);
        };
        let hundred = |share: f64| format!("{:.0}", 100.0 * share);
        let mut text = format!(
            "About {} of 100 should be right, most likely {} to {}: so it was when each of {} labelled histories took the place of these accounts.",
            hundred(a.value),
            hundred(a.low),
            hundred(a.high),
            self.trials
        );
        // what a rule without any model would reach
        let common =
            self.classes.iter().filter_map(|c| c.expected.map(|e| (e, c))).max_by(|a, b| a.0.total_cmp(&b.0));
        let mut level = if 2 * self.harmed > self.trials { Level::Care } else { Level::Good };
        if let Some((share, class)) = common.filter(|(share, _)| *share >= a.low) {
            text += &format!(
                " To call all of them {} would be right on about {}.",
                named(&class.class),
                hundred(share)
            );
            level = Level::Care;
        }
        if self.moved.is_some() || a.high - a.low > 0.3 {
            level = Level::Care;
        }
        (text, level)
    }

    fn next(&self) -> String {
        if let Some(feature) = self.moved {
            return format!("First look at {feature}: it has moved far since the date before.");
        }
        if self.irrelevant {
            return "Next: label some of these accounts (coldstart advise), or add a teacher whose scenario is nearer.".to_string();
        }
        let best =
            self.worth.iter().filter(|w| -w.change > LITTLE).min_by(|a, b| a.change.total_cmp(&b.change));
        let help = best.map(|w| {
            format!(
                "Most would be gained by {}: the log-loss fell by {} in the trials.",
                w.what,
                percent(-w.change, 1)
            )
        });
        match (help, self.distrust) {
            (Some(help), None) => help,
            (Some(help), Some(teacher)) => format!("{help} And look at the teacher {teacher}."),
            (None, Some(teacher)) => format!("Next: look at the teacher {teacher}, whose labels or scores may be wrong."),
            (None, None) if self.trials == 0 => "Next: a third teacher with a labelled history, or labels of some accounts.".to_string(),
            (None, None) => "Nothing that was tried would help much; a few labels of these accounts would tell for certain.".to_string(),
        }
    }
}
