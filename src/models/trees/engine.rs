//! Scores an [`Ensemble`]: columns of float32 in, probabilities out, from the same leaves and in the same
//! order of addition as the library that trained it.
//!
//! Rows are taken `ROWS` at a time through the trees of a `Batch` (see `program.rs` for how), batches one
//! after the other over a chunk of slabs, so that neither the rows nor the trees leave the cache more often
//! than they must.

use crate::error::Result;
use crate::models::trees::code::ROWS;
use crate::models::trees::ensemble::{Ensemble, Link};
use crate::models::trees::kernel::Sum;
use crate::models::trees::program::Batch;
use crate::models::trees::simd::Isa;
use crate::models::trees::slab::{Slab, Work};

/// Rows whose sums are kept while the batches pass over them.
const CHUNK: usize = 16 * ROWS;

/// An ensemble ready to score. It is shared by threads; each brings its own [`Scratch`].
#[derive(Debug)]
pub struct Engine {
    features: usize,
    outputs: usize,
    base: Vec<f64>,
    scale: f64,
    link: Link,
    isa: Isa,
    trees: Trees,
}

/// The batches, by the type that the model's library adds leaves in.
#[derive(Debug)]
enum Trees {
    Narrow(Vec<Batch<f32>>),
    Wide(Vec<Batch<f64>>),
}

/// Working memory of one thread; it grows to what the engines that use it need and can serve several of them.
#[derive(Debug, Default)]
pub struct Scratch {
    narrow: Vec<f32>,
    wide: Vec<f64>,
    work: Work,
}

impl Engine {
    /// Compiles a model, which is validated first.
    pub fn new(model: &Ensemble) -> Result<Engine> {
        Engine::for_isa(model, Isa::all()[0])
    }

    fn for_isa(model: &Ensemble, isa: Isa) -> Result<Engine> {
        model.validate()?;
        let trees = if model.sum_in_f32 {
            Trees::Narrow(Batch::compile_all(model, f32::from_f64))
        } else {
            Trees::Wide(Batch::compile_all(model, f64::from_f64))
        };
        let Ensemble { features, outputs, scale, link, .. } = *model;
        Ok(Engine { features, outputs, base: model.base.clone(), scale, link, isa, trees })
    }

    /// Columns that [`Engine::predict`] takes.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Probabilities that it gives for each row.
    pub fn classes(&self) -> usize {
        self.outputs.max(2)
    }

    /// Probabilities of n rows. `columns` are the features, n values each; `out` is row-major, n times
    /// [`Engine::classes`]. Blocks of some thousand rows are best; a row's result does not depend on the rows
    /// around it.
    ///
    /// # Panics
    /// If a length is another.
    pub fn predict(&self, columns: &[&[f32]], out: &mut [f64], scratch: &mut Scratch) {
        let rows = out.len() / self.classes();
        assert_eq!(out.len(), rows * self.classes(), "`out` is rows times classes");
        assert_eq!(columns.len(), self.features, "one column for each feature");
        assert!(columns.iter().all(|c| c.len() == rows), "columns are as long as `out` has rows");
        for (chunk, out) in out.chunks_mut(CHUNK * self.classes()).enumerate() {
            let first = chunk * CHUNK;
            match &self.trees {
                Trees::Narrow(batches) => {
                    self.chunk(batches, columns, first, out, &mut scratch.narrow, &mut scratch.work)
                }
                Trees::Wide(batches) => {
                    self.chunk(batches, columns, first, out, &mut scratch.wide, &mut scratch.work)
                }
            }
        }
    }

    /// Probabilities of the rows from `first` on that fit into `out`.
    fn chunk<T: Sum>(
        &self,
        batches: &[Batch<T>],
        columns: &[&[f32]],
        first: usize,
        out: &mut [f64],
        sums: &mut Vec<T>,
        work: &mut Work,
    ) {
        let rows = out.len() / self.classes();
        // sums of a slab: one row of ROWS for each output
        let size = self.outputs * ROWS;
        sums.clear();
        for _ in 0..rows.div_ceil(ROWS) {
            for base in &self.base {
                let start = if self.starts_at_base() { *base } else { 0.0 };
                sums.resize(sums.len() + ROWS, T::from_f64(start));
            }
        }
        for batch in batches {
            for (slab, sums) in sums.chunks_exact_mut(size).enumerate() {
                self.isa.run(Slab { batch, columns, first: first + slab * ROWS, sums, work });
            }
        }
        for (sums, out) in sums.chunks_exact(size).zip(out.chunks_mut(ROWS * self.classes())) {
            self.link(sums, out);
        }
    }

    fn starts_at_base(&self) -> bool {
        matches!(self.trees, Trees::Narrow(_)) && self.scale == 1.0
    }

    fn link<T: Sum>(&self, sums: &[T], out: &mut [f64]) {
        let mut row = vec![0.0; self.outputs];
        for (r, out) in out.chunks_exact_mut(self.classes()).enumerate() {
            for (k, sum) in row.iter_mut().enumerate() {
                let total = sums[k * ROWS + r].to_f64();
                *sum = match (self.starts_at_base(), &self.trees) {
                    (true, _) => total,
                    (false, Trees::Wide(_)) => self.base[k] + self.scale * total,
                    (false, Trees::Narrow(_)) => {
                        f64::from(self.base[k] as f32 + self.scale as f32 * total as f32)
                    }
                };
            }
            self.link.probabilities(&row, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ensemble::{CategorySet, Missing, Rule, Split, Tree, ZERO};
    use super::*;

    /// Repeatable numbers (a linear congruential generator).
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit
        }

        fn value(&mut self) -> f32 {
            let edges = [
                0.0,
                -0.0,
                f32::NAN,
                1e-45,
                -1e-45,
                ZERO,
                -ZERO,
                1e38,
                f32::INFINITY,
                f32::NEG_INFINITY,
                -0.5,
            ];
            match self.below(3) {
                0 => edges[self.below(edges.len())],
                1 => self.below(40) as f32,
                _ => (self.below(2000) as f32 - 1000.0) / 100.0,
            }
        }

        fn rule(&mut self, sets: bool) -> Rule {
            let threshold = loop {
                match self.value() {
                    t if t.is_nan() || t == f32::NEG_INFINITY => {}
                    t => break t,
                }
            };
            match self.below(if sets { 3 } else { 2 }) {
                0 => Rule::LessOrEqual(f64::from(threshold) + self.below(3) as f64 * 1e-9),
                1 => Rule::Less(threshold),
                _ => {
                    let categories = (0..40).filter(|_| self.below(3) == 0).collect();
                    Rule::InSet(CategorySet { categories, cut_below_zero: self.below(2) == 0 })
                }
            }
        }

        /// A random leaf is split until there are enough.
        fn tree(&mut self, leaves: usize, width: usize, sets: bool) -> Tree {
            let mut splits: Vec<Split> = Vec::new();
            // where each leaf hangs
            let mut places = vec![None];
            while places.len() < leaves {
                let (leaf, at) = (self.below(places.len()), splits.len() as i32);
                if let Some((parent, is_left)) = places[leaf] {
                    let parent: &mut Split = &mut splits[parent as usize];
                    if is_left { parent.left = at } else { parent.right = at }
                }
                places[leaf] = Some((at, true));
                let missing = [Missing::Nan, Missing::Zero, Missing::None][self.below(3)];
                let (feature, rule, missing_left) =
                    (self.below(4) as u32, self.rule(sets), self.below(2) == 0);
                splits.push(Split {
                    feature,
                    rule,
                    missing,
                    missing_left,
                    left: !(leaf as i32),
                    right: !(places.len() as i32),
                });
                places.push(Some((at, false)));
            }
            let leaves = (0..leaves * width).map(|_| self.below(1000) as f64 / 1e4 - 0.05).collect();
            Tree { splits, leaves, width, output: self.below(3) }
        }
    }

    #[test]
    fn every_processor_gives_the_bits_of_the_definition() {
        let mut draws = Draws(7);
        for (leaves, sets) in [
            (1, false),
            (2, true),
            (8, true),
            (31, false),
            (32, true),
            (33, false),
            (64, true),
            (100, false),
            (128, true),
            (129, false),
            (700, true),
            (1500, true),
            (2500, true),
            (2500, false),
        ] {
            for sum_in_f32 in [false, true] {
                let trees = (0..6).map(|k| draws.tree(leaves, if k == 3 { 3 } else { 1 }, sets)).collect();
                let scale = if leaves == 8 { 0.25 } else { 1.0 };
                let model = Ensemble {
                    features: 4,
                    outputs: 3,
                    trees,
                    base: vec![0.1, -0.2, 0.3],
                    scale,
                    sum_in_f32,
                    link: Link::Softmax,
                };
                let columns: Vec<Vec<f32>> =
                    (0..4).map(|_| (0..ROWS + 70).map(|_| draws.value()).collect()).collect();
                let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
                for isa in Isa::all() {
                    let mut found = vec![0.0; columns[0].len() * 3];
                    Engine::for_isa(&model, isa).unwrap().predict(
                        &columns,
                        &mut found,
                        &mut Scratch::default(),
                    );
                    for (r, p) in found.chunks_exact(3).enumerate() {
                        let (row, mut expected) =
                            (columns.iter().map(|c| c[r]).collect::<Vec<f32>>(), [0.0; 3]);
                        model.predict_row(
                            &row.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>(),
                            &mut expected,
                        );
                        assert_eq!(p, expected, "{leaves} leaves, {isa:?}, {row:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn many_conditions_are_answered_in_several_batches() {
        let split = |t: usize| Split {
            feature: 0,
            rule: Rule::Less(t as f32),
            missing: Missing::Nan,
            missing_left: false,
            left: !0,
            right: !1,
        };
        let trees = (0..40_000)
            .map(|t| Tree { splits: vec![split(t)], leaves: vec![0.0, 1.0], width: 1, output: 0 })
            .collect();
        let model = Ensemble {
            features: 1,
            outputs: 1,
            trees,
            base: vec![0.0],
            scale: 1.0,
            sum_in_f32: false,
            link: Link::Identity,
        };
        let rows: Vec<f32> = (0..100).map(|r| (r * 401) as f32).collect();
        let mut found = vec![0.0; 200];
        Engine::new(&model).unwrap().predict(&[&rows], &mut found, &mut Scratch::default());
        assert!(found.chunks_exact(2).zip(&rows).all(|(p, &x)| p[1] == f64::from((x + 1.0).min(40_000.0))));
    }
}
