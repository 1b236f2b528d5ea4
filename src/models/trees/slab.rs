//! One batch of trees over one slab of rows: the answers to the conditions, then the leaves tree by tree.

use crate::models::trees::code::{Lane, Nan, NumberColumn, ROWS, SetColumn, Source, Step, TreeCode, Way};
use crate::models::trees::ensemble::{Missing, ZERO, category};
use crate::models::trees::kernel::{Kernel, Sum, Task};
use crate::models::trees::program::{Batch, LOGIC_DIGITS};

const NO_ROWS: Lane = Lane([0; ROWS / 64]);
const ALL_ROWS: Lane = Lane([u64::MAX; ROWS / 64]);

/// Rows that walk down a tree side by side, so that the processor need not wait for any one of them.
const GROUP: usize = 16;

/// A batch of trees, and rows `first` to `first + ROWS` (or the last) of the features. Leaves are added to
/// `sums`, [`ROWS`] for each output.
pub struct Slab<'a, T> {
    pub batch: &'a Batch<T>,
    pub columns: &'a [&'a [f32]],
    pub first: usize,
    pub sums: &'a mut [T],
    pub work: &'a mut Work,
}

/// Working memory, of any content between slabs.
#[derive(Debug, Default)]
pub struct Work {
    conditions: Vec<Lane>,
    slots: Vec<Lane>,
    planes: Vec<Lane>,
    /// Rows of each bin of a categorical column; empty between columns.
    bins: Vec<Lane>,
    /// Values of the columns that trees are walked with: for each group of rows, the columns.
    groups: Vec<[f32; GROUP]>,
}

impl<T: Sum> Task for Slab<'_, T> {
    #[inline(always)]
    fn run<K: Kernel>(self) {
        let Slab { batch, columns, first, sums, work } = self;
        grow(&mut work.conditions, batch.conditions);
        grow(&mut work.slots, batch.slots);
        grow(&mut work.planes, LOGIC_DIGITS);
        let mut rest = work.conditions.as_mut_slice();
        for column in &batch.columns {
            let (answers, others) = rest.split_at_mut(column.search.thresholds.len() + 1);
            numbers::<K>(column, columns[column.source.feature], first, answers);
            rest = others;
        }
        for column in &batch.sets {
            let (answers, others) = rest.split_at_mut(column.sets.len());
            sets(column, columns[column.feature], first, &mut work.bins, answers);
            rest = others;
        }
        group(&batch.walked, columns, first, &mut work.groups);
        for tree in &batch.trees {
            add_leaves::<K, T>(batch, tree, work, sums);
        }
    }
}

fn grow(lanes: &mut Vec<Lane>, count: usize) {
    if lanes.len() < count {
        lanes.resize(count, NO_ROWS);
    }
}

impl Source {
    /// The slab of values from row `first` on, in which `x <= threshold` alone says where missing values go.
    /// Rows after the last are any.
    #[inline(always)]
    fn read<'a>(self, values: &'a [f32], first: usize, own: &'a mut [f32; ROWS]) -> &'a [f32; ROWS] {
        let values = &values[first..];
        match values.first_chunk::<ROWS>() {
            Some(values) if !self.zero_is_missing && self.nan == Nan::Itself => return values,
            Some(values) => *own = *values,
            None => own[..values.len()].copy_from_slice(values),
        }
        if self.zero_is_missing {
            own.iter_mut().for_each(|v| *v = if v.abs() <= ZERO { f32::NAN } else { *v });
        }
        match self.nan {
            Nan::Itself => {}
            Nan::Lowest => own.iter_mut().for_each(|v| *v = if v.is_nan() { f32::NEG_INFINITY } else { *v }),
            Nan::Zero => own.iter_mut().for_each(|v| *v = if v.is_nan() { 0.0 } else { *v }),
        }
        own
    }
}

/// Answers the conditions of a column of numbers.
#[inline(always)]
fn numbers<K: Kernel>(column: &NumberColumn, values: &[f32], first: usize, answers: &mut [Lane]) {
    let mut own = [0.0; ROWS];
    let values = column.source.read(values, first, &mut own);
    let thresholds = &column.search.thresholds;
    if thresholds.len() <= K::FEW {
        return K::compare(values, thresholds, answers);
    }
    // a row meets every condition from the first that it meets on
    let mut places = [0; ROWS];
    K::search(values, &column.search, &mut places);
    answers.fill(NO_ROWS);
    for (row, &place) in places.iter().enumerate() {
        answers[place as usize].0[row / 64] |= 1 << (row % 64);
    }
    let mut met = NO_ROWS;
    for answer in answers {
        met = met.or(*answer);
        *answer = met;
    }
}

/// Answers the conditions of a column of categories: the rows of each bin, then the union of a set's bins.
fn sets(column: &SetColumn, values: &[f32], first: usize, bins: &mut Vec<Lane>, answers: &mut [Lane]) {
    grow(bins, column.categories.len() + 2);
    let values = &values[first..];
    let places: Vec<usize> =
        values[..values.len().min(ROWS)].iter().map(|&value| bin(column, value)).collect();
    for (row, &place) in places.iter().enumerate() {
        bins[place].0[row / 64] |= 1 << (row % 64);
    }
    for (set, answer) in column.sets.iter().zip(answers) {
        let union = set.bins.iter().fold(NO_ROWS, |union, &b| union.or(bins[b as usize]));
        *answer = if set.outside { ALL_ROWS.and_not(union) } else { union };
    }
    for place in places {
        bins[place] = NO_ROWS;
    }
}

/// The bin of a value.
fn bin(column: &SetColumn, value: f32) -> usize {
    let none = column.categories.len();
    let missing = match column.missing {
        Missing::Nan => value.is_nan(),
        Missing::Zero => value.is_nan() || value.abs() <= ZERO,
        Missing::None => false,
    };
    if missing {
        return none + 1;
    }
    let value = if value.is_nan() { 0.0 } else { value };
    category(value, column.cut_below_zero)
        .and_then(|c| column.categories.binary_search(&c).ok())
        .unwrap_or(none)
}

/// Lays columns out for [`walk`].
fn group(sources: &[Source], columns: &[&[f32]], first: usize, groups: &mut Vec<[f32; GROUP]>) {
    groups.resize(sources.len() * (ROWS / GROUP), [0.0; GROUP]);
    for (at, source) in sources.iter().enumerate() {
        let mut own = [0.0; ROWS];
        let values = source.read(columns[source.feature], first, &mut own);
        for (group, values) in values.as_chunks::<GROUP>().0.iter().enumerate() {
            groups[group * sources.len() + at] = *values;
        }
    }
}

/// Adds the leaves of a tree that the rows end in.
#[inline(always)]
fn add_leaves<K: Kernel, T: Sum>(batch: &Batch<T>, tree: &TreeCode, work: &mut Work, sums: &mut [T]) {
    let leaves = &batch.leaves[tree.leaves.start as usize..tree.leaves.end as usize];
    let width = tree.width as usize;
    let outputs = |k: usize| if width == 1 { tree.output as usize } else { k };
    match &tree.way {
        Way::Logic { nodes, inner, planes } => {
            work.slots[0] = ALL_ROWS;
            K::part(
                &batch.nodes[nodes.start as usize..nodes.end as usize],
                *inner as usize,
                &work.conditions,
                &mut work.slots,
            );
            let ranges = &batch.planes[planes.start as usize..planes.end as usize];
            for (plane, range) in work.planes.iter_mut().zip(ranges) {
                *plane = K::xor(&batch.turns[range.start as usize..range.end as usize], &work.slots);
            }
            for k in 0..width {
                let sums = &mut sums[outputs(k) * ROWS..][..ROWS];
                K::add(&work.planes[..ranges.len()], &leaves[k..], width, sums);
            }
        }
        Way::Walk { steps } => {
            let numbers = walk(
                &batch.steps[steps.start as usize..steps.end as usize],
                batch.walked.len(),
                &work.groups,
            );
            for k in 0..width {
                let sums = &mut sums[outputs(k) * ROWS..][..ROWS];
                sums.iter_mut()
                    .zip(numbers)
                    .for_each(|(sum, leaf)| *sum += leaves[leaf as usize * width + k]);
            }
        }
    }
}

/// The steps that the rows end at: those of leaves, which lead to themselves.
#[inline(always)]
fn walk(steps: &[Step], columns: usize, groups: &[[f32; GROUP]]) -> [u32; ROWS] {
    let mut all = [0; ROWS];
    for (group, at) in groups.chunks_exact(columns).zip(all.as_chunks_mut::<GROUP>().0) {
        loop {
            let before = *at;
            for _ in 0..4 {
                for (row, at) in at.iter_mut().enumerate() {
                    let step = &steps[*at as usize];
                    *at = step.next[usize::from(group[step.column as usize][row] <= step.threshold)];
                }
            }
            if *at == before {
                break;
            }
        }
    }
    all
}
