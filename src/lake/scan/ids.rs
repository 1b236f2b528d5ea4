//! Account ids: their hash and their text.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt64Type};
use twox_hash::XxHash64;

use crate::error::{Error, Result};
use crate::lake::scan::schema::whole;

/// Whether a column of this type can be an account id: whole numbers, text, UUIDs, bytes.
pub fn can_be_id(data_type: &DataType) -> bool {
    whole(data_type) || matches!(data_type, DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(_))
}

/// Refuses a column of another type.
pub fn refuse_type(field: &Field) -> Result<()> {
    match can_be_id(field.data_type()) {
        true => Ok(()),
        false => Err(Error::data(format!(
            "an account id is whole numbers, text, a UUID or binary; the column is {}",
            field.data_type()
        ))
        .column(field.name())),
    }
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
    if let Some(bytes) = Bytes::of(ids) {
        return (0..ids.len())
            .map(|row| match bytes.value(row) {
                [] => Err(refuse("empty", row)),
                id => Ok(hash(id)),
            })
            .collect();
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

/// A column of bytes.
enum Bytes<'a> {
    Any(&'a arrow::array::BinaryArray),
    Fixed(&'a arrow::array::FixedSizeBinaryArray),
}

impl Bytes<'_> {
    fn of(ids: &ArrayRef) -> Option<Bytes<'_>> {
        match ids.data_type() {
            DataType::Binary => Some(Bytes::Any(ids.as_binary::<i32>())),
            DataType::FixedSizeBinary(_) => Some(Bytes::Fixed(ids.as_fixed_size_binary())),
            _ => None,
        }
    }

    fn value(&self, row: usize) -> &[u8] {
        match self {
            Bytes::Any(array) => array.value(row),
            Bytes::Fixed(array) => array.value(row),
        }
    }

    /// A UUID as it is written everywhere; other bytes as the text that they are, or as hexadecimal digits.
    fn text(&self, row: usize) -> String {
        let bytes = self.value(row);
        match (self, std::str::from_utf8(bytes)) {
            (Bytes::Fixed(_), _) if bytes.len() == 16 => {
                let digits = hex(bytes);
                let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
                parts.join("-")
            }
            (_, Ok(text)) if !text.contains('\0') => text.to_string(),
            _ => hex(bytes),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Any id column as text, for messages and look-ups.
pub fn as_text(ids: &ArrayRef) -> Result<ArrayRef> {
    if let Some(bytes) = Bytes::of(ids) {
        let texts = (0..ids.len()).map(|row| ids.is_valid(row).then(|| bytes.text(row)));
        return Ok(std::sync::Arc::new(texts.collect::<LargeStringArray>()));
    }
    cast(ids, &DataType::LargeUtf8).map_err(|e| Error::data(format!("ids cannot be read as text: {e}")))
}

/// A column of another file that names accounts, as the text that [`as_text`] gives for the same ids where
/// the accounts' own column is of type `like`: by value, so that 7, 7.0 and "7" name one account of whole
/// numbers. Null stays null. Refused (65): a type or value that can be no such id.
pub fn as_text_like(ids: &ArrayRef, like: &DataType) -> Result<ArrayRef> {
    let refuse = |row: usize, text: &str| {
        Err(Error::data(format!("an id is no value of the accounts' id column, which is {like}"))
            .value(text)
            .with("row", row.to_string()))
    };
    let float = ids.data_type().is_floating();
    let text = match ids.data_type() {
        _ if float => {
            let wide = cast(ids, &DataType::Float64).map_err(|e| Error::bug(e.to_string()))?;
            let wide = wide.as_primitive::<Float64Type>();
            let one = |row: usize| -> Result<Option<String>> {
                let value = wide.is_valid(row).then(|| wide.value(row)).filter(|v| !v.is_nan());
                match value {
                    None => Ok(None),
                    Some(v) if v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0 => {
                        Ok(Some(format!("{v:.0}")))
                    }
                    Some(v) => refuse(row, &v.to_string()).map(|()| None),
                }
            };
            let texts = (0..wide.len()).map(one).collect::<Result<LargeStringArray>>()?;
            std::sync::Arc::new(texts) as ArrayRef
        }
        t if can_be_id(t) || matches!(t, DataType::Dictionary(..) | DataType::Null) => as_text(ids)?,
        t => return Err(Error::data(format!("an id cannot be {t}; the accounts' id column is {like}"))),
    };
    let text = text.as_string::<i64>();
    let mut out: Vec<Option<Cow<str>>> = Vec::with_capacity(text.len());
    for row in 0..text.len() {
        let Some(id) = text.is_valid(row).then(|| text.value(row)) else {
            out.push(None);
            continue;
        };
        let whole_number = || id.trim().parse::<i128>().ok().map(|n| Cow::Owned(n.to_string()));
        let uuid = || {
            let digits: String = id.chars().filter(|c| *c != '-').collect::<String>().to_lowercase();
            (digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| {
                let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
                Cow::Owned(parts.join("-"))
            })
        };
        let found = match like {
            t if whole(t) => whole_number(),
            DataType::FixedSizeBinary(16) => uuid(),
            _ => Some(Cow::Borrowed(id)),
        };
        match found {
            Some(id) => out.push(Some(id)),
            None => return refuse(row, id).map(|()| std::sync::Arc::new(text.clone()) as ArrayRef),
        }
    }
    Ok(std::sync::Arc::new(out.into_iter().collect::<LargeStringArray>()))
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
