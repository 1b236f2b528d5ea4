//! Runs of rows that one worker takes at a time: of a large file a part, of small files many.

use std::ops::Range;

use crate::lake::scan::source::{Piece, Source};

/// Rows that one worker takes at a time, at least where the files allow it and there are so many.
const UNIT_ROWS: usize = 65_536;
/// Units that few rows are cut into, so that there is work for several workers.
const FEW: usize = 16;
/// Row groups beyond this are cut into several units.
const LARGEST_UNIT: usize = 2 * UNIT_ROWS;

/// A run of rows that one worker reads.
#[derive(Debug, Clone)]
pub struct Unit {
    pub index: usize,
    pieces: Vec<Piece>,
}

impl Unit {
    /// Its stored rows.
    pub fn rows(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.take as u64).sum()
    }

    /// Its first rows alone.
    pub fn head(&self, rows: usize) -> Unit {
        let mut left = rows;
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            let take = piece.take.min(left);
            if take > 0 {
                pieces.push(Piece { take, ..piece.clone() });
            }
            left -= take;
        }
        Unit { index: self.index, pieces }
    }

    /// What it consists of, in the order of the rows.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

/// All rows in their order. Files with fewer rows than a unit share one, so that there are as many units,
/// and as many parts of the output, as the rows need and not as there are files.
pub fn cut(sources: &[Source]) -> Vec<Unit> {
    let all: usize = sources.iter().map(|s| s.rows() as usize).sum();
    let least = all.div_ceil(FEW).min(UNIT_ROWS);
    let mut units: Vec<Vec<Piece>> = Vec::new();
    let mut open: Vec<Piece> = Vec::new();
    let mut rows = 0;
    for (file, source) in sources.iter().enumerate() {
        let new = |first_row| Piece { file, first_row, ..Piece::default() };
        let mut piece = new(source.first_row);
        for (group, group_rows) in source.row_groups().enumerate() {
            piece.row_groups.push(group);
            piece.take += group_rows;
            if rows + piece.take >= least {
                let next = new(piece.first_row + piece.take as u64);
                open.push(std::mem::replace(&mut piece, next));
                units.extend(parts(std::mem::take(&mut open)));
                rows = 0;
            }
        }
        if piece.take > 0 {
            rows += piece.take;
            open.push(piece);
        }
    }
    if !open.is_empty() {
        units.push(open);
    }
    units.into_iter().enumerate().map(|(index, pieces)| Unit { index, pieces }).collect()
}

/// The same rows in at least `wanted` units, where there are so many rows, of like size; none of them has rows of
/// two of those before. Beside them the new units that each of those became.
pub fn finer(units: &[Unit], sources: &[Source], wanted: usize) -> (Vec<Unit>, Vec<Range<usize>>) {
    let all: u64 = units.iter().map(Unit::rows).sum();
    let (mut out, mut became) = (Vec::new(), Vec::with_capacity(units.len()));
    for unit in units {
        let rows = unit.rows();
        let share = (u128::from(rows) * wanted as u128).div_ceil(u128::from(all.max(1))) as u64;
        let n = share.clamp(1, rows.max(1));
        let first = out.len();
        for i in 0..n {
            let (start, end) = (i * rows / n, (i + 1) * rows / n);
            let pieces = slice(&unit.pieces, sources, start as usize..end as usize);
            out.push(Unit { index: out.len(), pieces });
        }
        became.push(first..out.len());
    }
    (out, became)
}

/// Some of the rows of these pieces, with the row groups that hold them and no others.
fn slice(pieces: &[Piece], sources: &[Source], rows: Range<usize>) -> Vec<Piece> {
    let (mut out, mut before) = (Vec::new(), 0);
    for piece in pieces {
        let start = rows.start.saturating_sub(before).min(piece.take);
        let end = rows.end.saturating_sub(before).min(piece.take);
        before += piece.take;
        if start >= end {
            continue;
        }
        let sizes: Vec<usize> = sources[piece.file].row_groups().collect();
        let (mut skip, mut row_groups, mut passed) = (piece.skip + start, Vec::new(), 0);
        for group in &piece.row_groups {
            let behind = passed + sizes[*group];
            if behind <= piece.skip + start {
                skip -= sizes[*group];
            } else if passed < piece.skip + end {
                row_groups.push(*group);
            }
            passed = behind;
        }
        let first_row = piece.first_row + start as u64;
        out.push(Piece { file: piece.file, row_groups, skip, take: end - start, first_row });
    }
    out
}

/// A large row group becomes several units, each of which skips the rows before it.
fn parts(mut pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    let Some(last) = pieces.pop_if(|last| last.take > LARGEST_UNIT) else { return vec![pieces] };
    let mut units = if pieces.is_empty() { Vec::new() } else { vec![pieces] };
    let n = last.take.div_ceil(LARGEST_UNIT);
    let bounds: Vec<usize> = (0..=n).map(|i| i * last.take / n).collect();
    units.extend(bounds.windows(2).map(|pair| {
        vec![Piece {
            skip: pair[0],
            take: pair[1] - pair[0],
            first_row: last.first_row + pair[0] as u64,
            ..last.clone()
        }]
    }));
    units
}
