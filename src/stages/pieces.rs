//! Files of a table of which each is made of several pieces of rows, where work was cut finer than the table: one
//! process joins what the maps left.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::lake::part::{self, Part, Purpose};
use crate::lake::store::digest;
use crate::run::context::Run;
use crate::run::fold;
use crate::stages::artifacts::{Parts, part_name};

/// Writes the files of a table as a map over whole parts would have written them, partition by partition.
pub fn join(run: &Run, table: &Parts, schema: &SchemaRef) -> Result<()> {
    if !run.is_cut_finer() {
        return Ok(());
    }
    let (from, to, store) = (table.folder_of_pieces(run), table.folder(run.directory), run.directory.store);
    let files = digest::list(store, &from)?;
    let partitions: BTreeSet<&str> = files.iter().map(|f| f.rsplit_once('/').map_or("", |f| f.0)).collect();
    let parts = run.inputs.accounts.parts();
    fold::over(
        0..parts.len(),
        || (),
        |number, ()| {
            for partition in &partitions {
                let mut joined: Option<Part> = None;
                for piece in parts[number].clone() {
                    let file = from.join(partition).join(table.name_of_piece(run, piece));
                    // no account of the piece is in this partition
                    if !store.exists(&file) {
                        continue;
                    }
                    let part = match &mut joined {
                        Some(part) => part,
                        none => {
                            let path = to.join(partition).join(part_name(number, Some(run.id())));
                            none.insert(Part::create(store, &path, schema, Purpose::Published)?)
                        }
                    };
                    part::read(&file, |batch| part.write(&part::batch(schema, batch.columns().to_vec())?))?;
                }
                joined.map_or(Ok(()), Part::finish)?;
            }
            Ok(())
        },
    )
}
