//! What splits ask of a row, in float32 alone, and the columns that answer (see `program.rs`).

use crate::models::trees::code::{BinSet, Nan, NumberColumn, Search, SetColumn, Source};
use crate::models::trees::ensemble::{CategorySet, Missing, Rule, Split, ZERO};

/// What a split asks, without regard to where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question<'a> {
    Number { source: Source, threshold: Ordered },
    Set { feature: u32, missing: u8, cut_below_zero: bool, missing_left: bool, categories: &'a [u32] },
}

/// A finite or infinite float32 as an integer of the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ordered(i32);

impl Ordered {
    /// The value, which is no NaN; both zeros are one.
    pub fn new(value: f32) -> Self {
        let bits = (value + 0.0).to_bits() as i32;
        Ordered(if bits < 0 { !(bits & i32::MAX) } else { bits })
    }

    /// The value again.
    pub fn value(self) -> f32 {
        f32::from_bits(if self.0 < 0 { !self.0 as u32 | 1 << 31 } else { self.0 as u32 })
    }
}

/// The question of a split, in float32 alone: for a float32 x, `x <= t` is `x <= (the largest float32 <= t)`
/// and `x < t` is `x <= (the one before t)`.
pub fn question(split: &Split) -> Question<'_> {
    let threshold = match &split.rule {
        Rule::LessOrEqual(threshold) => round_down(*threshold),
        Rule::Less(threshold) => threshold.next_down(),
        Rule::InSet(CategorySet { categories, cut_below_zero }) => {
            let missing = split.missing as u8;
            return Question::Set {
                feature: split.feature,
                missing,
                cut_below_zero: *cut_below_zero,
                missing_left: split.missing_left,
                categories,
            };
        }
    };
    let nan = match split.missing {
        Missing::None => Nan::Zero,
        _ if split.missing_left => Nan::Lowest,
        _ => Nan::Itself,
    };
    // where zeros go to the default side anyway, the column can be read as it is
    let as_is = if split.missing_left { threshold >= ZERO } else { threshold < -ZERO };
    let zero_is_missing = split.missing == Missing::Zero && !as_is;
    let source = Source { feature: split.feature as usize, zero_is_missing, nan };
    Question::Number { source, threshold: Ordered::new(threshold) }
}

fn round_down(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) > threshold { near.next_down() } else { near }
}

/// Sorted questions by the column that answers them.
pub fn columns(questions: &[Question]) -> (Vec<NumberColumn>, Vec<SetColumn>) {
    let (mut numbers, mut sets): (Vec<NumberColumn>, Vec<SetColumn>) = (Vec::new(), Vec::new());
    for group in questions.chunk_by(|a, b| column_of(a) == column_of(b)) {
        match group[0] {
            Question::Number { source, .. } => {
                let threshold = |q: &Question| {
                    if let Question::Number { threshold, .. } = q { Some(threshold.value()) } else { None }
                };
                numbers.push(NumberColumn {
                    source,
                    search: Search::new(group.iter().filter_map(threshold).collect()),
                });
            }
            Question::Set { feature, missing, cut_below_zero, .. } => {
                let missing = [Missing::Nan, Missing::Zero, Missing::None]
                    .into_iter()
                    .find(|&m| m as u8 == missing)
                    .unwrap_or(Missing::Nan);
                sets.push(set_column(feature as usize, missing, cut_below_zero, group));
            }
        }
    }
    (numbers, sets)
}

/// What questions of one column have in common.
fn column_of(question: &Question) -> (Source, Option<(u8, bool)>) {
    match *question {
        Question::Number { source, .. } => (source, None),
        Question::Set { feature, missing, cut_below_zero, .. } => (
            Source { feature: feature as usize, zero_is_missing: false, nan: Nan::Itself },
            Some((missing, cut_below_zero)),
        ),
    }
}

fn set_column(feature: usize, missing: Missing, cut_below_zero: bool, group: &[Question]) -> SetColumn {
    let asked: Vec<(&[u32], bool)> = group
        .iter()
        .filter_map(|q| {
            if let Question::Set { categories, missing_left, .. } = q {
                Some((*categories, *missing_left))
            } else {
                None
            }
        })
        .collect();
    let mut categories: Vec<u32> = asked.iter().flat_map(|(set, _)| set.iter().copied()).collect();
    categories.sort_unstable();
    categories.dedup();
    let bins = categories.len() as u32 + 2;
    let mut sets = Vec::with_capacity(asked.len());
    for (set, missing_left) in asked {
        let mut inside: Vec<u32> =
            set.iter().filter_map(|c| categories.binary_search(c).ok()).map(|p| p as u32).collect();
        inside.extend(missing_left.then_some(bins - 1));
        let outside = inside.len() > bins as usize / 2;
        let bins =
            if outside { (0..bins).filter(|b| inside.binary_search(b).is_err()).collect() } else { inside };
        sets.push(BinSet { bins, outside });
    }
    SetColumn { feature, missing, cut_below_zero, categories, sets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_become_float32_without_moving_a_value() {
        for t in [0.1f64, -0.1, 1e300, -1e300, 0.0, 1e-46, -1e-46, 16777217.0, f64::from(f32::MAX)] {
            let near = round_down(t);
            for x in [near, near.next_up(), near.next_down(), 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(f64::from(x) <= t, x <= near, "{x} <= {t}");
            }
        }
    }

    #[test]
    fn order_of_floats_survives() {
        let floats = [f32::NEG_INFINITY, -1.0, -1e-45, 0.0, 1e-45, 1.0, f32::INFINITY];
        assert!(floats.map(Ordered::new).is_sorted());
        assert!(floats.iter().all(|&f| Ordered::new(f).value() == f));
        assert_eq!(Ordered::new(-0.0), Ordered::new(0.0));
    }
}
