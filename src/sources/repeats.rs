//! Teachers that repeat another on the target: looked for beforehand, so that they are left out before anything
//! is computed of those that stay.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::Result;
use crate::features::block::Block;
use crate::features::column::NonFinite;
use crate::relevance::transfer::duplicates::Differences;
use crate::sources::inputs::Inputs;

/// Parts of the accounts that are looked at wherever they lie, and rows of each.
const PLACES: usize = 4;
const ROWS: usize = 256;

/// The teachers that are asked, without those that repeat an earlier one on a few accounts from several places.
/// Those that differ there are no copies; whether the others repeat it on every account is known once all are
/// scored, and only where they do not has anything to be done again. Where fewer than two differ on those
/// accounts, the others are looked at until two do: a copy is found here, and not when all is scored.
pub fn different(inputs: &Inputs) -> Result<Vec<usize>> {
    let asked = inputs.asked();
    let parts = inputs.accounts.parts();
    let places = parts.len().min(PLACES);
    let spread: Vec<&Range<usize>> = (0..places).map(|place| &parts[place * parts.len() / places]).collect();
    let mut differences = Differences::new(asked.len());
    let looked_at: Vec<_> = spread.par_iter().map(|part| look(inputs, &asked, part)).collect();
    for found in looked_at {
        differences.merge(&found?);
    }
    for part in parts {
        if differing(&differences) >= 2 {
            break;
        }
        differences.merge(&look(inputs, &asked, part)?);
    }
    let copies = differences.copies();
    let different: Vec<usize> =
        asked.iter().zip(copies).filter(|(_, copy)| copy.is_none()).map(|(k, _)| *k).collect();
    Ok(if different.len() < 2 { asked } else { different })
}

/// How different the teachers' scores are on the first rows of a part, the same rows however it is cut.
fn look(inputs: &Inputs, asked: &[usize], part: &Range<usize>) -> Result<Differences> {
    let mut differences = Differences::new(asked.len());
    let (mut left, mut odd) = (ROWS, vec![NonFinite::default(); inputs.features.len()]);
    for piece in &inputs.accounts.units()[part.clone()] {
        let head = piece.head(left);
        left -= head.rows() as usize;
        inputs.accounts.read(&head, &inputs.present(), |batch, _| {
            let block = Block::decode(&batch, &inputs.features, &mut odd)?;
            let scores = inputs.score(asked, &block)?;
            differences.add(&scores.iter().map(Vec::as_slice).collect::<Vec<_>>());
            Ok(())
        })?;
        if left == 0 {
            break;
        }
    }
    Ok(differences)
}

/// How many teachers differ from every earlier one.
fn differing(differences: &Differences) -> usize {
    if differences.is_empty() { 0 } else { differences.copies().iter().filter(|c| c.is_none()).count() }
}
