//! The columns of many files as one: types are compared by what is read of them, not by how a writer keeps
//! them, and a difference matters only once somebody reads the column.
//!
//! | in the files | is read as |
//! |---|---|
//! | string, large_string, string_view, dictionaries of them with any index | text |
//! | integers of several widths | the widest, a decimal where none holds all |
//! | integers, floats, decimals and booleans mixed | float64, refused where a value is not exact |
//! | dates, timestamps of several units | dates; timestamps of the finest unit |
//! | a column of nulls, by its type or by the file's statistics | what the other files hold |
//! | anything else that differs | refused, once the column is read |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use hashbrown::HashMap;

use crate::error::{Error, Result};

/// The key of a field's metadata that names its extension type, and the name of UUIDs.
pub const EXTENSION: &str = "ARROW:extension:name";
pub const UUID: &str = "arrow.uuid";
/// Marks, among a field's metadata, a column that stands in the files' paths.
pub const FROM_PATH: &str = "from path";

/// A file, as far as its columns are concerned.
pub trait Columns {
    fn path(&self) -> &Path;
    /// The file's own columns, then those of its path that the file does not hold.
    fn fields(&self) -> Vec<Field>;
    /// Whether the file says that it holds nothing but nulls in the column.
    fn all_null(&self, column: &str) -> bool;
}

/// Why a column cannot be read from all files.
#[derive(Debug, Clone)]
struct Conflict {
    file: PathBuf,
    other: PathBuf,
    what: String,
}

/// The columns of all files, in the order of their first appearance.
#[derive(Debug, Clone)]
pub struct Merged {
    pub schema: Schema,
    places: HashMap<String, usize>,
    conflicts: HashMap<String, Conflict>,
    /// Columns that are integers in some files and floats in others.
    whole_in_part: Vec<String>,
}

impl Merged {
    /// Of files, at least one. Refuses (65) a file with columns of one name, or of names that differ by case.
    pub fn new<F: Columns>(files: &[F]) -> Result<Merged> {
        let mut fields: Vec<Field> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut seen: Vec<usize> = Vec::new();
        let mut merged = Merged {
            schema: Schema::empty(),
            places: HashMap::new(),
            conflicts: HashMap::new(),
            whole_in_part: Vec::new(),
        };
        let mut before: Vec<Field> = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let own = file.fields();
            // Files of one writer are alike: nothing new can be learnt from the next one.
            if i > 0 && own == before {
                seen.iter_mut().filter(|n| **n == i).for_each(|n| *n += 1);
                continue;
            }
            refuse_twins(&own, file.path())?;
            for field in &own {
                let Some(&place) = places.get(field.name()) else {
                    places.insert(field.name().clone(), fields.len());
                    fields.push(field.clone().with_nullable(true));
                    seen.push(if i == 0 { 1 } else { 0 });
                    if i > 0 {
                        merged.missing(field.name(), files[0].path(), file.path());
                    }
                    continue;
                };
                if seen[place] == i {
                    seen[place] += 1;
                }
                merged.join(&mut fields[place], field, &files[..=i]);
            }
            for place in (0..fields.len()).filter(|p| seen[*p] == i) {
                merged.missing(fields[place].name(), file.path(), files[0].path());
            }
            before = own;
        }
        merged.schema = Schema::new(fields);
        merged.places = places;
        Ok(merged)
    }

    /// The field of a column.
    pub fn field(&self, column: &str) -> Option<&Field> {
        self.places.get(column).map(|place| self.schema.field(*place))
    }

    /// Refuses (65) a column that some files lack, or that cannot be read as one type from all of them.
    pub fn check(&self, column: &str) -> Result<()> {
        match self.conflicts.get(column) {
            None => Ok(()),
            Some(Conflict { file, other, what }) => Err(Error::data(what.as_str())
                .file(file)
                .column(column)
                .with("compared with", other.display().to_string())),
        }
    }

    /// Reads the column as an id: text as plain text, and what is an integer in some files and a float in
    /// others as an integer, which must be exact.
    pub fn as_id(&mut self, column: &str) {
        let Ok(field) = self.schema.field_with_name(column) else { return };
        let read_as = match field.data_type() {
            DataType::Dictionary(..) => DataType::Utf8,
            DataType::Float64 if self.whole_in_part.iter().any(|c| c == column) => DataType::Int64,
            _ => return,
        };
        let fields = self.schema.fields().iter().map(|f| match f.name() == column {
            true => Arc::new(f.as_ref().clone().with_data_type(read_as.clone())),
            false => f.clone(),
        });
        self.schema = Schema::new(fields.collect::<Vec<_>>());
    }

    fn missing(&mut self, column: &str, file: &Path, other: &Path) {
        let what = "the column is missing in this file".to_string();
        let conflict = Conflict { file: file.to_path_buf(), other: other.to_path_buf(), what };
        self.conflicts.entry(column.to_string()).or_insert(conflict);
    }

    /// What `known` becomes with the column of the last of `files`.
    fn join<F: Columns>(&mut self, known: &mut Field, field: &Field, files: &[F]) {
        let (earlier, last) = (&files[..files.len() - 1], &files[files.len() - 1]);
        let (a, b) = (known.data_type().clone(), field.data_type().clone());
        if a == b {
            return;
        }
        let whole = |t: &DataType| t.is_integer();
        if (whole(&a) && b.is_floating()) || (a.is_floating() && whole(&b)) {
            self.whole_in_part.push(known.name().clone());
        }
        let name = known.name().clone();
        let joined = match unify(&a, &b) {
            Some(t) => t,
            None if last.all_null(&name) => a,
            None if earlier.iter().all(|f| f.all_null(&name)) => b,
            None => {
                let what = format!("the column is {b} here and {a} there");
                let other = earlier[0].path().to_path_buf();
                let conflict = Conflict { file: last.path().to_path_buf(), other, what };
                self.conflicts.entry(name).or_insert(conflict);
                return;
            }
        };
        known.set_data_type(joined);
        // An extension type is a type's alone.
        if known.metadata() != field.metadata() {
            known.set_metadata(Default::default());
        }
    }
}

fn refuse_twins(fields: &[Field], path: &Path) -> Result<()> {
    let mut names: HashMap<String, &str> = HashMap::with_capacity(fields.len());
    for field in fields {
        if let Some(twin) = names.insert(field.name().to_lowercase(), field.name()) {
            let message = match twin == field.name() {
                true => "the column stands twice",
                false => "two columns differ only by case",
            };
            return Err(Error::data(message).file(path).column(field.name()).value(twin));
        }
    }
    Ok(())
}

/// How a type of a file is read: text and bytes in one form each, whatever the writer kept them in.
pub fn as_read(data_type: &DataType) -> DataType {
    use DataType as D;
    match data_type {
        D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::LargeBinary | D::BinaryView => D::Binary,
        // Indices of a width of their own run out where several dictionaries meet in one batch.
        D::Dictionary(_, values) if is_text(values) => D::Dictionary(Box::new(D::Int32), Box::new(D::Utf8)),
        D::Dictionary(_, values) => as_read(values),
        other => other.clone(),
    }
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The type that holds the values of both; none where there is none.
fn unify(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    let number = |t: &D| t.is_numeric() || t == &D::Boolean;
    let text = |t: &D| t == &D::Utf8 || matches!(t, D::Dictionary(_, v) if is_text(v));
    match (a, b) {
        (D::Null, t) | (t, D::Null) => Some(t.clone()),
        (a, b) if text(a) && text(b) => Some(D::Utf8),
        (D::Binary | D::FixedSizeBinary(_), D::Binary | D::FixedSizeBinary(_)) => Some(D::Binary),
        (D::Date32 | D::Date64, D::Date32 | D::Date64) => Some(D::Date32),
        (D::Timestamp(u, z), D::Timestamp(v, w)) if zone(z) == zone(w) => {
            Some(D::Timestamp(finer(*u, *v), z.clone()))
        }
        (a, b) if a.is_integer() && b.is_integer() => Some(wider(a, b)),
        (a, b) if whole(a) && whole(b) => Some(D::Decimal128(38, 0)),
        (D::Float16 | D::Float32, D::Float16 | D::Float32) => Some(D::Float32),
        (a, b) if number(a) && number(b) => Some(D::Float64),
        _ => None,
    }
}

/// Integers, and decimals without decimals.
pub fn whole(t: &DataType) -> bool {
    t.is_integer()
        || matches!(t, DataType::Decimal128(_, 0) | DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0))
}

fn wider(a: &DataType, b: &DataType) -> DataType {
    let width = |t: &DataType| t.primitive_width().unwrap_or(8);
    let (wide, narrow) = if width(a) >= width(b) { (a, b) } else { (b, a) };
    match (a.is_signed_integer() == b.is_signed_integer(), wide) {
        (true, wide) => wide.clone(),
        (false, wide) if wide.is_signed_integer() && width(wide) > width(narrow) => wide.clone(),
        (false, DataType::UInt64 | DataType::Int64) => DataType::Decimal128(38, 0),
        _ => DataType::Int64,
    }
}

fn zone(zone: &Option<Arc<str>>) -> Option<&str> {
    zone.as_deref().map(|z| if ["UTC", "Etc/UTC", "Z", "+00:00"].contains(&z) { "UTC" } else { z })
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let order = [TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Millisecond];
    order.into_iter().find(|u| [a, b].contains(u)).unwrap_or(TimeUnit::Second)
}

/// An array of a file as the column is read: refused (65) where a value would not be the same afterwards.
pub fn conform(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    if array.logical_null_count() == array.len() {
        return Ok(new_null_array(wanted, array.len()));
    }
    let cast = |array: &dyn Array, to: &DataType| {
        cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
            .map_err(|e| Error::data(format!("cannot be read as {to}: {e}")))
    };
    let made = cast(array, wanted)?;
    // Only between whole numbers and floats can a cast round without an error.
    if array.data_type().is_floating() != wanted.is_floating() && (whole(array.data_type()) || whole(wanted))
    {
        let back = cast(&made, array.data_type())?;
        let differs = distinct(&back, array).map_err(|e| Error::bug(e.to_string()))?;
        if let Some(row) = differs.iter().position(|d| d == Some(true)) {
            let value = arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
            return Err(Error::data(format!(
                "the column is {} in some files and cannot be read exactly as {wanted}",
                array.data_type()
            ))
            .value(value)
            .hint("write the column with one type in all files"));
        }
    }
    Ok(made)
}

/// Refuses (65) values of a column that differ from the value in the file's path; `None` is hive's null.
pub fn same_as_path(array: &ArrayRef, value: Option<&str>) -> Result<()> {
    let text = |a: &ArrayRef| arrow::compute::cast(a, &DataType::Utf8);
    let failed = |e| Error::data(format!("the column stands in the path too, and cannot be compared: {e}"));
    let found = text(array).map_err(failed)?;
    let found = found.as_string::<i32>();
    // The path's text as the column would write it: 09 is 9 where the column is an integer.
    let given: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let given = arrow::compute::cast(&given, array.data_type()).and_then(|a| text(&a)).map_err(failed)?;
    let given = given.as_string::<i32>();
    let wanted = given.is_valid(0).then(|| given.value(0)).or(value);
    match found.iter().find(|v| *v != wanted) {
        None => Ok(()),
        Some(other) => Err(Error::data("the column stands in the file and in its path, with another value")
            .value(other.unwrap_or("null"))
            .with("in the path", value.unwrap_or("null"))
            .hint("write the column into one of them alone, or rename one")),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    #[test]
    fn types_are_joined_where_no_value_is_lost() {
        use DataType as D;
        let dictionary = as_read(&D::Dictionary(Box::new(D::Int8), Box::new(D::LargeUtf8)));
        let cases = [
            (D::Utf8, dictionary, Some(D::Utf8)),
            (D::Null, D::Int64, Some(D::Int64)),
            (D::Int32, D::Int64, Some(D::Int64)),
            (D::UInt32, D::Int32, Some(D::Int64)),
            (D::UInt8, D::Int16, Some(D::Int16)),
            (D::UInt64, D::Int64, Some(D::Decimal128(38, 0))),
            (D::Int64, D::Decimal128(38, 0), Some(D::Decimal128(38, 0))),
            (D::Int64, D::Float64, Some(D::Float64)),
            (D::Float32, D::Float64, Some(D::Float64)),
            (D::Utf8, D::Int64, None),
            (D::Date32, D::Utf8, None),
        ];
        for (a, b, wanted) in cases {
            assert_eq!((unify(&a, &b), unify(&b, &a)), (wanted.clone(), wanted), "{a} {b}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        let small: ArrayRef = Arc::new(Int64Array::from(vec![Some(1 << 53), None]));
        let large: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
        assert!(conform(&small, &DataType::Float64).is_ok());
        assert!(conform(&large, &DataType::Float64).is_err());
        let whole: ArrayRef = Arc::new(Float64Array::from(vec![7.0, -1.0]));
        let broken: ArrayRef = Arc::new(Float64Array::from(vec![7.5]));
        assert!(conform(&whole, &DataType::Int64).is_ok());
        assert!(conform(&broken, &DataType::Int64).is_err());
    }
}
