//! The row of one account among many.

use arrow::array::{AsArray, RecordBatch};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::lake::scan::{Accounts, Unit, ids};

pub fn changed(what: String) -> Error {
    Error::data(what).hint("run again with --replace, then explain")
}

/// The unit that holds the account, if any does.
pub fn unit_of<'a>(accounts: &'a Accounts, key: &str, id: &str) -> Result<Option<&'a Unit>> {
    let columns = [key.to_string()];
    accounts.field(key)?;
    let holds = |unit: &'a Unit| -> Result<Option<&'a Unit>> {
        let mut found = false;
        accounts.read(unit, &columns, |batch, _| {
            found |= row_of(&batch, id)?.is_some();
            Ok(())
        })?;
        Ok(found.then_some(unit))
    };
    accounts.units().par_iter().find_map_any(|unit| holds(unit).transpose()).transpose()
}

/// The row of the account in a batch whose first column is the id.
pub fn row_of(batch: &RecordBatch, id: &str) -> Result<Option<usize>> {
    let text = ids::as_text(batch.column(0))?;
    Ok(text.as_string::<i64>().iter().position(|found| found == Some(id)))
}
