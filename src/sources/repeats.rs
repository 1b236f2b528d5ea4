//! Teachers that repeat another on the target: looked for beforehand, so that they are left out before anything
//! is computed of those that stay.

use crate::error::Result;
use crate::features::block::Block;
use crate::features::column::NonFinite;
use crate::relevance::transfer::duplicates::Differences;
use crate::sources::inputs::Inputs;
use crate::teacher::Workspace;

/// Rows of a piece that are looked at, and pieces until one has an account.
const ROWS: usize = 1024;
const PIECES: usize = 16;

/// The teachers that are asked, without those that repeat an earlier one on the first accounts. Those that
/// differ there are no copies; whether the others repeat it on every account is known once all are scored, and
/// only where they do not has anything to be done again.
pub fn different(inputs: &Inputs) -> Result<Vec<usize>> {
    let asked = inputs.asked();
    let mut differences = Differences::new(asked.len());
    let (mut work, mut odd) = (Workspace::default(), vec![NonFinite::default(); inputs.features.len()]);
    for piece in inputs.accounts.units().iter().take(PIECES) {
        inputs.accounts.read(&piece.head(ROWS), &inputs.present(), |batch, _| {
            let block = Block::decode(&batch, &inputs.features, &mut odd)?;
            let scores = inputs.score(&asked, &block, &mut work)?;
            differences.add(&scores.iter().map(Vec::as_slice).collect::<Vec<_>>());
            Ok(())
        })?;
        if !differences.is_empty() {
            break;
        }
    }
    let copies = differences.copies();
    let different: Vec<usize> =
        asked.iter().zip(copies).filter(|(_, copy)| copy.is_none()).map(|(k, _)| *k).collect();
    Ok(if different.len() < 2 { asked } else { different })
}
