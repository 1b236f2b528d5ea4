//! One feature of a scenario, as seen so far: a number's or a category's sketch.

use serde::{Deserialize, Serialize};

use crate::features::column::{Column, Kind, NULL};
use crate::relevance::profile::categories::CategorySketch;
use crate::relevance::profile::numbers::NumberSketch;
use crate::relevance::profile::profiles::Summary;

/// One feature as seen so far.
#[derive(Serialize, Deserialize)]
pub enum Sketch {
    Number(NumberSketch),
    Category(CategorySketch),
}

impl Sketch {
    pub fn new(kind: Kind) -> Sketch {
        match kind {
            Kind::Number => Sketch::Number(NumberSketch::default()),
            Kind::Category => Sketch::Category(CategorySketch::default()),
        }
    }

    pub fn add(&mut self, column: &Column) {
        match (self, column) {
            (Sketch::Number(sketch), Column::Number(values)) => {
                sketch.add_nullable(values);
            }
            (Sketch::Category(sketch), Column::Category { codes, levels }) => {
                let mut counts = vec![0u64; levels.len()];
                let mut nulls = 0;
                for code in codes {
                    match *code {
                        NULL => nulls += 1,
                        code => counts[code as usize] += 1,
                    }
                }
                sketch.add_nulls(nulls);
                levels.iter().zip(counts).for_each(|(level, n)| sketch.add(level, n));
            }
            _ => {}
        }
    }

    /// Adds what another sketch of the same kind has seen.
    pub fn merge(&mut self, other: &Sketch) {
        match (self, other) {
            (Sketch::Number(a), Sketch::Number(b)) => a.merge(b),
            (Sketch::Category(a), Sketch::Category(b)) => a.merge(b),
            _ => {}
        }
    }

    pub fn summary(&self) -> Summary {
        match self {
            Sketch::Number(sketch) => Summary::Number(sketch.summary()),
            Sketch::Category(sketch) => Summary::Category(sketch.summary()),
        }
    }
}
