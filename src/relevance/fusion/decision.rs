//! From a distribution over the classes to a decision: a class, and whether to stand by it.

use serde::{Deserialize, Serialize};

use crate::relevance::maths::probability::argmax;

/// Why an account is left undecided; the first that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// None of the features that some teacher takes is known.
    NoFeatures,
    /// The account looks less like every history than the rule allows.
    LowSupport,
    /// The teachers are further apart than the rule allows.
    TeachersDisagree,
    /// Every class is expected to cost more than abstaining.
    ExpectedCost,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::NoFeatures => "no_features",
            Reason::LowSupport => "low_support",
            Reason::TeachersDisagree => "teachers_disagree",
            Reason::ExpectedCost => "expected_cost",
        }
    }
}

/// What is known of an account beside its distribution.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    /// max_k s_k(x).
    pub support: f64,
    /// In bits.
    pub disagreement: f64,
    /// Share of the teachers' features that are not null.
    pub known: f64,
}

/// How classes are decided and when they are not. The default decides for the largest probability and
/// abstains only where no feature is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// Cost of deciding for a class `[true, decided]`, `[C, C]`; 0 for right and 1 for wrong where there is
    /// none.
    pub costs: Option<Vec<f64>>,
    /// Cost of abstaining, whatever the class.
    pub abstain_cost: Option<f64>,
    pub min_support: Option<f64>,
    pub max_disagreement: Option<f64>,
}

impl Rule {
    /// The class of least expected cost, sum_c p_c cost(c, d), of equal ones the first, and that cost (Chow
    /// 1970).
    pub fn class(&self, p: &[f64]) -> (usize, f64) {
        let Some(costs) = &self.costs else {
            let class = argmax(p);
            return (class, 1.0 - p[class]);
        };
        let expected =
            |d: usize| p.iter().zip(costs.chunks_exact(p.len())).map(|(p, row)| p * row[d]).sum::<f64>();
        (1..p.len()).fold((0, expected(0)), |best, d| {
            let cost = expected(d);
            if cost < best.1 { (d, cost) } else { best }
        })
    }

    /// Cost of deciding for `decided` where the class is `is`, among `classes`.
    pub fn cost(&self, is: usize, decided: usize, classes: usize) -> f64 {
        self.costs.as_ref().map_or(f64::from(u8::from(is != decided)), |costs| costs[is * classes + decided])
    }

    /// The class, and why it is not decided, if it is not.
    pub fn decide(&self, p: &[f64], evidence: Evidence) -> (usize, Option<Reason>) {
        let (class, cost) = self.class(p);
        let reason = if evidence.known <= 0.0 {
            Some(Reason::NoFeatures)
        } else if self.min_support.is_some_and(|least| evidence.support < least) {
            Some(Reason::LowSupport)
        } else if self.max_disagreement.is_some_and(|most| evidence.disagreement > most) {
            Some(Reason::TeachersDisagree)
        } else if self.abstain_cost.is_some_and(|abstain| cost > abstain) {
            Some(Reason::ExpectedCost)
        } else {
            None
        };
        (class, reason)
    }

    /// Whether anything but an account without features is left undecided.
    pub fn abstains(&self) -> bool {
        self.abstain_cost.is_some() || self.min_support.is_some() || self.max_disagreement.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Evidence = Evidence { support: 0.5, disagreement: 0.1, known: 1.0 };

    #[test]
    fn without_a_rule_the_largest_probability_decides_and_only_an_empty_account_is_left() {
        let rule = Rule::default();
        assert_eq!(rule.decide(&[0.5, 0.5], SOUND), (0, None));
        assert_eq!(rule.decide(&[0.4, 0.6], SOUND), (1, None));
        assert_eq!(rule.decide(&[0.4, 0.6], Evidence { known: 0.0, ..SOUND }), (1, Some(Reason::NoFeatures)));
    }

    #[test]
    fn the_class_of_least_expected_cost_is_decided_and_abstaining_must_be_cheaper() {
        // a fraud that passes costs ten, a false alarm one
        let rule =
            Rule { costs: Some(vec![0.0, 1.0, 10.0, 0.0]), abstain_cost: Some(0.5), ..Rule::default() };
        assert_eq!(rule.decide(&[0.97, 0.03], SOUND), (0, None));
        assert_eq!(rule.decide(&[0.8, 0.2], SOUND), (1, Some(Reason::ExpectedCost)));
        assert_eq!(rule.decide(&[0.4, 0.6], SOUND), (1, None));
        assert_eq!(rule.cost(1, 0, 2), 10.0);
    }

    #[test]
    fn the_first_reason_that_applies_is_given() {
        let rule = Rule {
            abstain_cost: Some(0.1),
            min_support: Some(0.0),
            max_disagreement: Some(0.3),
            ..Rule::default()
        };
        let reason = |support, disagreement, p: f64| {
            rule.decide(&[1.0 - p, p], Evidence { support, disagreement, known: 1.0 }).1
        };
        assert_eq!(reason(-0.1, 0.9, 0.5), Some(Reason::LowSupport));
        assert_eq!(reason(0.0, 0.4, 0.5), Some(Reason::TeachersDisagree));
        assert_eq!(reason(0.0, 0.3, 0.5), Some(Reason::ExpectedCost));
        assert_eq!(reason(0.0, 0.3, 0.95), None);
    }
}
