//! Teachers that repeat another on the target: looked for beforehand, so that they are left out before anything
//! is computed of those that stay.

use crate::error::Result;
use crate::features::block::Block;
use crate::features::column::NonFinite;
use crate::relevance::transfer::duplicates::Differences;
use crate::sources::inputs::Inputs;
use crate::teacher::Workspace;

/// Parts of the accounts that are looked at wherever they lie, and rows of each.
const PLACES: usize = 4;
const ROWS: usize = 256;

/// The teachers that are asked, without those that repeat an earlier one on a few accounts from several places.
/// Those that differ there are no copies; whether the others repeat it on every account is known once all are
/// scored, and only where they do not has anything to be done again. Where fewer than two differ on those
/// accounts, the others are looked at until two do: a copy is found here, and not when all is scored.
pub fn different(inputs: &Inputs) -> Result<Vec<usize>> {
    let asked = inputs.asked();
    let mut differences = Differences::new(asked.len());
    let (mut work, mut odd) = (Workspace::default(), vec![NonFinite::default(); inputs.features.len()]);
    let parts = inputs.accounts.parts();
    let places = parts.len().min(PLACES);
    let spread = (0..places).map(|place| &parts[place * parts.len() / places]);
    for (looked_at, part) in spread.chain(parts).enumerate() {
        if looked_at >= places && differing(&differences) >= 2 {
            break;
        }
        // the same rows, however the part is cut
        let mut left = ROWS;
        for piece in &inputs.accounts.units()[part.clone()] {
            let head = piece.head(left);
            left -= head.rows() as usize;
            inputs.accounts.read(&head, &inputs.present(), |batch, _| {
                let block = Block::decode(&batch, &inputs.features, &mut odd)?;
                let scores = inputs.score(&asked, &block, &mut work)?;
                differences.add(&scores.iter().map(Vec::as_slice).collect::<Vec<_>>());
                Ok(())
            })?;
            if left == 0 {
                break;
            }
        }
    }
    let copies = differences.copies();
    let different: Vec<usize> =
        asked.iter().zip(copies).filter(|(_, copy)| copy.is_none()).map(|(k, _)| *k).collect();
    Ok(if different.len() < 2 { asked } else { different })
}

/// How many teachers differ from every earlier one.
fn differing(differences: &Differences) -> usize {
    if differences.is_empty() { 0 } else { differences.copies().iter().filter(|c| c.is_none()).count() }
}
