//! One column of a batch of accounts as sketches and models see it.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int32Type};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use crate::features::kind::Kind;

/// The code of a null in [`Column::Category`].
pub const NULL: u32 = u32::MAX;

/// The values of one feature for the rows of a batch.
#[derive(Debug, Clone)]
pub enum Column {
    /// Null is NaN.
    Number(Vec<f64>),
    /// Each row's position in `levels` (the distinct values of this batch, by first appearance), or [`NULL`].
    Category { codes: Vec<u32>, levels: Vec<String> },
}

impl Column {
    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Number(values) => values.len(),
            Column::Category { codes, .. } => codes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `n` nulls.
    pub fn nulls(kind: Kind, n: usize) -> Column {
        match kind {
            Kind::Number => Column::Number(vec![f64::NAN; n]),
            Kind::Category => Column::Category { codes: vec![NULL; n], levels: Vec::new() },
        }
    }
}

/// Non-null values that are no finite number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonFinite {
    pub nan: u64,
    pub infinite: u64,
}

impl NonFinite {
    pub fn any(self) -> bool {
        self.nan + self.infinite > 0
    }
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} NaN, {} infinite or beyond float32", self.nan, self.infinite)
    }
}

/// A type as messages name it.
pub fn name_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_string(),
        DataType::Dictionary(_, values) => name_of(values),
        other => other.to_string().to_lowercase(),
    }
}

/// The labels of a column as text; whole numbers have no fraction, as in [`level_of_number`].
pub fn label_texts(array: &ArrayRef) -> Result<StringArray> {
    if array.data_type().is_floating() {
        let wide = cast(array, &DataType::Float64).map_err(|e| Error::data(e.to_string()))?;
        let wide = wide.as_primitive::<Float64Type>();
        return Ok(wide.iter().map(|v| v.map(level_of_number)).collect());
    }
    let text = cast(array, &DataType::Utf8);
    let text = text.map_err(|e| Error::data(format!("labels cannot be read as text: {e}")))?;
    Ok(text.as_string::<i32>().clone())
}

/// Whether a column of this type can be read as `kind`.
pub fn readable(kind: Kind, data_type: &DataType) -> bool {
    use DataType as D;
    match (kind, data_type) {
        (_, D::Null) => true,
        (Kind::Number, D::Boolean | D::Float16 | D::Decimal128(..) | D::Decimal256(..)) => true,
        (Kind::Number, t) => t.is_integer() || t.is_floating(),
        (Kind::Category, D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Boolean) => true,
        // text, from writers that do not say so (Impala, older Hive); what is none is refused when it is read
        (Kind::Category, D::Binary) => true,
        (Kind::Category, t) if t.is_integer() || t.is_floating() => true,
        (Kind::Category, D::Dictionary(_, values)) => {
            matches!(**values, D::Utf8 | D::LargeUtf8 | D::Utf8View)
        }
        _ => false,
    }
}

/// Decodes an Arrow array. NaN and infinities become null and are counted; the caller decides whether they
/// are refused.
pub fn decode(kind: Kind, array: &ArrayRef) -> Result<(Column, NonFinite)> {
    if !readable(kind, array.data_type()) {
        let wanted = match kind {
            Kind::Number => "a number or boolean",
            Kind::Category => "a string, a dictionary of strings, a number or boolean",
        };
        return Err(Error::data(format!("{wanted} is expected, the column is {}", array.data_type())));
    }
    if array.data_type() == &DataType::Null {
        return Ok((Column::nulls(kind, array.len()), NonFinite::default()));
    }
    match kind {
        Kind::Number => decode_number(array),
        Kind::Category if array.data_type().is_numeric() => decode_numbers_as_category(array),
        Kind::Category => Ok((decode_category(array)?, NonFinite::default())),
    }
}

fn decode_number(array: &ArrayRef) -> Result<(Column, NonFinite)> {
    if let Some(narrow) = array.as_primitive_opt::<Float32Type>() {
        return Ok(finite(narrow.values().iter().map(|v| f64::from(*v)).collect(), narrow.nulls()));
    }
    let wide = cast(array, &DataType::Float64)
        .map_err(|e| Error::data(format!("cannot be read as float64: {e}")))?;
    let wide: &Float64Array = wide.as_primitive::<Float64Type>();
    Ok(finite(wide.values().to_vec(), wide.nulls()))
}

/// Numbers with NaN for null and for what a model, which is fed float32, could take for infinite.
fn finite(mut values: Vec<f64>, nulls: Option<&NullBuffer>) -> (Column, NonFinite) {
    if let Some(nulls) = nulls {
        for (values, valid) in values.chunks_mut(64).zip(nulls.inner().bit_chunks().iter_padded()) {
            if valid != u64::MAX {
                let is_null = |row: usize| valid >> row & 1 == 0;
                values
                    .iter_mut()
                    .enumerate()
                    .filter(|(row, _)| is_null(*row))
                    .for_each(|(_, v)| *v = f64::NAN);
            }
        }
    }
    let mut odd = NonFinite::default();
    let (mut nan, mut infinite) = (0u64, 0u64);
    for value in &values {
        nan += u64::from(value.is_nan());
        infinite += u64::from(value.abs() > f64::from(f32::MAX));
    }
    odd.nan = nan - nulls.map_or(0, |nulls| nulls.null_count() as u64);
    if infinite > 0 {
        odd.infinite = infinite;
        values.iter_mut().filter(|v| v.abs() > f64::from(f32::MAX)).for_each(|v| *v = f64::NAN);
    }
    (Column::Number(values), odd)
}

/// Numbers as categories: whole ones without a fraction, as `values` has them.
fn decode_numbers_as_category(array: &ArrayRef) -> Result<(Column, NonFinite)> {
    let failed = |e| Error::data(format!("cannot be read as numbers: {e}"));
    let mut levels = Levels::default();
    // text of a number is made once for each of its values
    if array.data_type().is_integer() {
        let wide = cast(array, &DataType::Decimal128(20, 0)).map_err(failed)?;
        let values = wide.as_primitive::<Decimal128Type>();
        let mut known: HashMap<i128, u32> = HashMap::new();
        let mut code = |v: i128| *known.entry(v).or_insert_with(|| levels.code(&v.to_string()));
        let codes = values.iter().map(|v| v.map_or(NULL, &mut code)).collect();
        return Ok((Column::Category { codes, levels: levels.names }, NonFinite::default()));
    }
    let (Column::Number(values), odd) = decode_number(array)? else {
        return Err(Error::bug("numbers are not decoded as numbers"));
    };
    let mut known: HashMap<u64, u32> = HashMap::new();
    let mut code = |v: f64| *known.entry(v.to_bits()).or_insert_with(|| levels.code(&level_of_number(v)));
    let codes = values.iter().map(|v| if v.is_nan() { NULL } else { code(*v) }).collect();
    Ok((Column::Category { codes, levels: levels.names }, odd))
}

fn decode_category(array: &ArrayRef) -> Result<Column> {
    let failed = |e| Error::data(format!("cannot be read as text: {e}"));
    if let DataType::Dictionary(..) = array.data_type() {
        let wanted = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let array = cast(array, &wanted).map_err(failed)?;
        let dictionary = array.as_dictionary::<Int32Type>();
        let (values, keys) = (dictionary.values().as_string::<i32>(), dictionary.keys());
        let mut place = Vec::with_capacity(values.len());
        let mut levels = Levels::default();
        for i in 0..values.len() {
            place.push(if values.is_null(i) { NULL } else { levels.code(values.value(i)) });
        }
        let codes = (0..keys.len())
            .map(|i| if keys.is_null(i) { NULL } else { place[keys.value(i) as usize] })
            .collect();
        return Ok(Column::Category { codes, levels: levels.names });
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(array, &DataType::Utf8, &strict).map_err(failed)?;
    let strings: &StringArray = array.as_string();
    let mut levels = Levels::default();
    let codes = strings.iter().map(|v| v.map_or(NULL, |v| levels.code(v))).collect();
    Ok(Column::Category { codes, levels: levels.names })
}

/// A category as text: whole numbers without a fraction, truth values as `true` and `false`.
pub fn level_of_number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return (value as i64).to_string();
    }
    value.to_string()
}

#[derive(Default)]
struct Levels {
    place: HashMap<String, u32>,
    names: Vec<String>,
}

impl Levels {
    fn code(&mut self, name: &str) -> u32 {
        if let Some(&code) = self.place.get(name) {
            return code;
        }
        let code = self.names.len() as u32;
        self.place.insert(name.to_string(), code);
        self.names.push(name.to_string());
        code
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, DictionaryArray, Float32Array, NullArray};

    use super::*;

    #[test]
    fn nulls_nan_and_infinities_of_a_number_are_told_apart() {
        let array: ArrayRef =
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::NAN), Some(f32::INFINITY)]));
        let (Column::Number(v), odd) = decode(Kind::Number, &array).unwrap() else { panic!() };
        assert_eq!((v[0], odd), (1.5, NonFinite { nan: 1, infinite: 1 }));
        assert!(v[1..].iter().all(|v| v.is_nan()));
    }

    #[test]
    fn a_dictionary_and_plain_strings_give_the_same_codes() {
        let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]));
        let keyed: DictionaryArray<Int32Type> =
            vec![Some("b"), None, Some("a"), Some("b")].into_iter().collect();
        for array in [plain, Arc::new(keyed) as ArrayRef] {
            let (Column::Category { codes, levels }, _) = decode(Kind::Category, &array).unwrap() else {
                panic!()
            };
            assert_eq!(codes, [0, NULL, 1, 0]);
            assert_eq!(levels, ["b", "a"]);
        }
    }

    #[test]
    fn booleans_are_numbers_and_an_untyped_null_column_is_either() {
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        assert!(matches!(decode(Kind::Number, &flags).unwrap().0, Column::Number(v) if v == [1.0, 0.0]));
        let categories = decode(Kind::Category, &flags).unwrap().0;
        assert!(matches!(categories, Column::Category { levels, .. } if levels == ["true", "false"]));
        let nothing: ArrayRef = Arc::new(NullArray::new(3));
        assert_eq!(decode(Kind::Category, &nothing).unwrap().0.len(), 3);
    }
}
