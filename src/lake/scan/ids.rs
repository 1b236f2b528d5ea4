//! Account ids: their hash, and the check that each stands once.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use hashbrown::{HashMap, HashSet};
use twox_hash::XxHash64;

use crate::error::{Error, Result};
use crate::lake::scan::Accounts;

/// Hashes held at once by [`duplicates`]; more rows take more passes over the id column.
const HASHES_PER_PASS: u64 = 1 << 20;

/// Whether a column of this type can be an account id.
pub fn can_be_id(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A 64-bit hash of each id: the same for the same text or number, whatever the width of its type.
/// Null and empty ids, and ids with a NUL, are refused (65).
pub fn hashes(ids: &ArrayRef) -> Result<Vec<u64>> {
    let refuse = |what: &str, row: usize| {
        Error::data(format!("an account id is {what}")).with("row of batch", row.to_string())
    };
    if let Some(row) = ids.nulls().and_then(|n| n.iter().position(|valid| !valid)) {
        return Err(refuse("null", row));
    }
    if ids.data_type() == &DataType::UInt64 {
        return Ok(ids
            .as_primitive::<UInt64Type>()
            .values()
            .iter()
            .map(|v| hash(&v.to_le_bytes()))
            .collect());
    }
    if ids.data_type().is_integer() {
        let wide = cast(ids, &DataType::Int64).map_err(|e| Error::bug(e.to_string()))?;
        return Ok(wide
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .map(|v| hash(&v.to_le_bytes()))
            .collect());
    }
    let text = as_text(ids)?;
    let strings = text.as_string::<i64>();
    let mut out = Vec::with_capacity(strings.len());
    for (row, id) in strings.iter().flatten().enumerate() {
        if id.is_empty() {
            return Err(refuse("empty", row));
        }
        if id.as_bytes().contains(&0) {
            return Err(refuse("not text: it holds a NUL", row).value(format!("{id:?}")));
        }
        out.push(hash(id.as_bytes()));
    }
    Ok(out)
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// Any id column as text, for messages and look-ups.
pub fn as_text(ids: &ArrayRef) -> Result<ArrayRef> {
    cast(ids, &DataType::LargeUtf8).map_err(|e| Error::data(format!("ids cannot be read as text: {e}")))
}

/// Rows whose id stands before them already.
#[derive(Debug, Default)]
pub struct Duplicates {
    /// Ordinals of the later rows of each id, sorted.
    pub later_rows: Vec<u64>,
    /// A few of the ids, in the order of their first row.
    pub examples: Vec<String>,
}

/// Finds ids that stand more than once, exactly and in bounded memory: each pass keeps the hashes of one
/// residue class, and only ids whose hashes collide are compared as text.
pub fn duplicates(accounts: &Accounts, id: &str) -> Result<Duplicates> {
    let columns = [id.to_string()];
    let passes = accounts.stored_rows().div_ceil(HASHES_PER_PASS).max(1);
    let mut suspects: HashSet<u64> = HashSet::new();
    for pass in 0..passes {
        let mut seen: Vec<u64> = Vec::new();
        for unit in accounts.units() {
            accounts.read(unit, &columns, |batch, _| {
                let found = hashes(batch.column(0)).map_err(|e| e.file(accounts.place()).column(id))?;
                seen.extend(found.into_iter().filter(|h| h % passes == pass));
                Ok(())
            })?;
        }
        rayon::slice::ParallelSliceMut::par_sort_unstable(seen.as_mut_slice());
        suspects.extend(seen.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]));
    }
    let mut duplicates = Duplicates::default();
    if suspects.is_empty() {
        return Ok(duplicates);
    }
    let mut first: HashMap<String, u64> = HashMap::new();
    for unit in accounts.units() {
        accounts.read(unit, &columns, |batch, rows| {
            note_repeats(&batch, rows, &suspects, &mut first, &mut duplicates)
        })?;
    }
    Ok(duplicates)
}

fn note_repeats(
    batch: &RecordBatch,
    rows: &[u64],
    suspects: &HashSet<u64>,
    first: &mut HashMap<String, u64>,
    out: &mut Duplicates,
) -> Result<()> {
    let found = hashes(batch.column(0))?;
    let text = as_text(batch.column(0))?;
    let text = text.as_string::<i64>();
    for (i, _) in found.iter().enumerate().filter(|(_, h)| suspects.contains(*h)) {
        let id = text.value(i);
        if first.contains_key(id) {
            out.later_rows.push(rows[i]);
            if out.examples.len() < 5 && !out.examples.iter().any(|e| e == id) {
                out.examples.push(id.to_string());
            }
        } else {
            first.insert(id.to_string(), rows[i]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, Int64Array, LargeStringArray, StringArray};

    use super::*;

    #[test]
    fn a_hash_depends_on_the_id_alone_and_not_on_its_type() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7, -1]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![7, -1]));
        assert_eq!(hashes(&narrow).unwrap(), hashes(&wide).unwrap());
        let short: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let long: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b"]));
        assert_eq!(hashes(&short).unwrap(), hashes(&long).unwrap());
    }

    #[test]
    fn null_empty_and_nul_ids_are_refused() {
        for ids in [vec![Some("a"), None], vec![Some("")], vec![Some("a\0b")]] {
            let ids: ArrayRef = Arc::new(StringArray::from(ids));
            assert!(hashes(&ids).is_err());
        }
    }
}
