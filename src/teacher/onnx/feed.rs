//! What the inputs of an ONNX graph are fed: the type, rank and width that it declares.

use std::sync::Arc;

use half::f16;
use ort::value::{Outlet, TensorElementType as Element, ValueType};

use crate::error::{Error, Result};
use crate::features::block::Block;
use crate::features::column::{Column, NULL};
use crate::teacher::bundle::{Bundle, Encode};
use crate::teacher::encode::{Encoder, Matrix, ModelInput};
use crate::teacher::onnx::data::{Data, Values};

/// One input of the graph.
pub struct Input {
    name: String,
    element: Element,
    /// Dimensions: rows, or rows and columns.
    rank: usize,
    source: Source,
}

enum Source {
    /// All columns that the features make.
    Matrix,
    /// All features, which are texts.
    Texts,
    /// The feature at this place of the bundle.
    Feature(usize),
}

/// The inputs, and how many rows each run takes where the graph fixes that.
pub fn inputs(outlets: &[Outlet], bundle: &Bundle) -> Result<(Vec<Input>, Option<usize>)> {
    let features = &bundle.features;
    let place = |name: &str| features.iter().position(|f| f.input() == name);
    let single = match outlets {
        [one] => features.len() > 1 || place(one.name()).is_none(),
        _ => false,
    };
    let (mut found, mut batch) = (Vec::with_capacity(outlets.len()), None);
    for outlet in outlets {
        let input =
            if single { matrix(outlet, bundle)? } else { of_feature(outlet, bundle, place(outlet.name()))? };
        found.push(input);
        let rows = shape(outlet).and_then(|s| s.first().copied()).filter(|rows| *rows > 0);
        match (batch, rows) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::data(format!(
                    "the model takes {one} rows in one input and {other} in another"
                ))
                .with("input", outlet.name()));
            }
            _ => batch = batch.or(rows),
        }
    }
    Ok((found, batch.map(|rows| rows as usize)))
}

fn shape(outlet: &Outlet) -> Option<&[i64]> {
    match outlet.dtype() {
        ValueType::Tensor { shape, .. } => Some(shape),
        _ => None,
    }
}

fn refuse<T>(outlet: &Outlet, why: String, hint: &str) -> Result<T> {
    Err(Error::data(why).with("input", outlet.name()).hint(hint))
}

fn matrix(outlet: &Outlet, bundle: &Bundle) -> Result<Input> {
    let texts = bundle.features.iter().filter(|f| f.encode == Some(Encode::Text)).count();
    let is_text = texts == bundle.features.len();
    if texts > 0 && !is_text {
        return refuse(
            outlet,
            "the model takes one matrix, and some features of teacher.toml are texts".to_string(),
            "encode them as `code` or `one_hot`, as the model was trained, or export it with an input for each column",
        );
    }
    let (source, width) =
        if is_text { (Source::Texts, texts) } else { (Source::Matrix, bundle.matrix_width()) };
    input(outlet, is_text, width, source)
}

fn of_feature(outlet: &Outlet, bundle: &Bundle, place: Option<usize>) -> Result<Input> {
    let Some(place) = place else {
        let names: Vec<&str> = bundle.features.iter().map(|f| f.input()).collect();
        return Err(Error::data("the model has an input that is no feature of teacher.toml")
            .with("input", outlet.name())
            .with("teacher.toml says", names.join(", "))
            .hint("add the feature, or give one `input = \"NAME\"`: what the model calls it"));
    };
    let feature = &bundle.features[place];
    let width = if feature.encode == Some(Encode::OneHot) { feature.values.len() } else { 1 };
    input(outlet, feature.encode == Some(Encode::Text), width, Source::Feature(place))
}

/// The input must be a tensor of a type that can be fed, and as wide as its columns, so far as its shape is fixed.
fn input(outlet: &Outlet, is_text: bool, columns: usize, source: Source) -> Result<Input> {
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return refuse(
            outlet,
            format!("the model takes {:?} here", outlet.dtype()),
            "export it with tensors as inputs",
        );
    };
    match (*ty, is_text) {
        (Element::String, true) => {}
        (Element::String, false) => {
            return refuse(
                outlet,
                "the model takes text here, teacher.toml makes numbers of it".to_string(),
                "kind = \"category\", encode = \"text\" for this feature in teacher.toml",
            );
        }
        (ty, true) => {
            return refuse(
                outlet,
                format!("the model takes {ty} here, teacher.toml says text"),
                "kind = \"number\", or encode = \"code\" with `values`, as the model was trained",
            );
        }
        (ty, false) if !is_number(ty) => {
            return refuse(
                outlet,
                format!("the model takes {ty} here, which accounts do not have"),
                "export it with float inputs",
            );
        }
        _ => {}
    }
    let rank = match shape.len() {
        // without a shape: as a matrix
        0 => 2,
        rank @ (1 | 2) => rank,
        rank => {
            let why = format!("the model takes {rank} dimensions here, accounts are rows of columns");
            return refuse(outlet, why, "export it for a matrix [rows, columns]");
        }
    };
    let width = shape.get(1).copied().filter(|w| *w >= 0).map_or(columns, |w| w as usize);
    match (if rank == 1 { 1 } else { width }) == columns {
        true => Ok(Input { name: outlet.name().to_string(), element: *ty, rank, source }),
        false => refuse(
            outlet,
            format!("the model takes {width} columns here, the features of teacher.toml make {columns}"),
            "name its features in their order",
        ),
    }
}

fn is_number(ty: Element) -> bool {
    use Element as E;
    matches!(
        ty,
        E::Float32
            | E::Float64
            | E::Float16
            | E::Int8
            | E::Int16
            | E::Int32
            | E::Int64
            | E::Uint8
            | E::Uint16
            | E::Uint32
            | E::Uint64
            | E::Bool
    )
}

impl Input {
    /// What the rows of a block are to this input. `nulls` says whether the graph knows missing values.
    pub fn data(&self, encoder: &Encoder, block: &Block, matrix: &Matrix, nulls: bool) -> Result<Data> {
        let places: Vec<usize> = match self.source {
            Source::Matrix => (0..encoder.width()).collect(),
            Source::Texts => {
                return self.texts(encoder, block, &(0..encoder.inputs.len()).collect::<Vec<_>>());
            }
            Source::Feature(place) => match &encoder.inputs[place] {
                ModelInput::Text { .. } => return self.texts(encoder, block, &[place]),
                ModelInput::Float { column, width } => (*column..column + width).collect(),
            },
        };
        let values = self.numbers(encoder, block, matrix, &places, nulls)?;
        Ok(Data { name: self.name.clone(), rank: self.rank, width: places.len(), values })
    }

    fn numbers(
        &self,
        encoder: &Encoder,
        block: &Block,
        matrix: &Matrix,
        places: &[usize],
        nulls: bool,
    ) -> Result<Values> {
        use Element as E;
        if self.element == E::Float32 {
            let columns = encoder.columns(matrix);
            let columns: Vec<&[f32]> = places.iter().map(|p| columns[*p]).collect();
            if !nulls {
                columns
                    .iter()
                    .zip(places)
                    .try_for_each(|(c, p)| knows_all(c.iter().map(|v| v.is_nan()), encoder.name(*p)))?;
            }
            return Ok(Values::F32(rows(&columns, |v| v)));
        }
        let columns: Vec<Vec<f64>> = places.iter().map(|p| encoder.wide(block, matrix, *p)).collect();
        let is_float = matches!(self.element, E::Float64 | E::Float16);
        for (column, place) in columns.iter().zip(places) {
            if !nulls || !is_float {
                knows_all(column.iter().map(|v| v.is_nan()), encoder.name(*place))?;
            }
            if let Some((low, high)) = range(self.element)
                && let Some(odd) = column.iter().find(|v| v.fract() != 0.0 || !(low..=high).contains(*v))
            {
                return Err(Error::data(format!(
                    "the model takes {} here, the column holds another value",
                    self.element
                ))
                .with("input", &self.name)
                .column(encoder.name(*place))
                .value(odd)
                .hint("mend the column, or export the model with a float input"));
            }
        }
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        Ok(match self.element {
            E::Float64 => Values::F64(rows(&columns, |v| v)),
            E::Float16 => Values::F16(rows(&columns, f16::from_f64)),
            E::Int8 => Values::I8(rows(&columns, |v| v as i8)),
            E::Int16 => Values::I16(rows(&columns, |v| v as i16)),
            E::Int32 => Values::I32(rows(&columns, |v| v as i32)),
            E::Int64 => Values::I64(rows(&columns, |v| v as i64)),
            E::Uint8 => Values::U8(rows(&columns, |v| v as u8)),
            E::Uint16 => Values::U16(rows(&columns, |v| v as u16)),
            E::Uint32 => Values::U32(rows(&columns, |v| v as u32)),
            E::Uint64 => Values::U64(rows(&columns, |v| v as u64)),
            _ => Values::Bool(rows(&columns, |v| v != 0.0)),
        })
    }

    fn texts(&self, encoder: &Encoder, block: &Block, places: &[usize]) -> Result<Data> {
        let mut columns = Vec::with_capacity(places.len());
        for place in places {
            let ModelInput::Text { feature, missing, .. } = &encoder.inputs[*place] else {
                return Err(Error::bug("a text input of numbers"));
            };
            let Column::Category { codes, levels } = &block.columns[*feature] else {
                return Err(Error::bug("a text input of numbers"));
            };
            let levels: Vec<Arc<str>> =
                levels.iter().chain([missing]).map(|l| Arc::from(l.as_str())).collect();
            let text =
                |code: &u32| levels[if *code == NULL { levels.len() - 1 } else { *code as usize }].clone();
            columns.push(codes.iter().map(text).collect::<Vec<_>>());
        }
        let values = (0..block.rows).flat_map(|row| columns.iter().map(move |c| c[row].clone())).collect();
        Ok(Data {
            name: self.name.clone(),
            rank: self.rank,
            width: places.len(),
            values: Values::Text(values),
        })
    }
}

/// A graph that knows no missing values gives NaN, or worse, for a null.
fn knows_all(is_null: impl Iterator<Item = bool>, column: &str) -> Result<()> {
    match is_null.filter(|null| *null).count() {
        0 => Ok(()),
        nulls => Err(null_refused(column, nulls)),
    }
}

/// The refusal of nulls in a column.
pub fn null_refused(column: &str, nulls: usize) -> Error {
    Error::data("the model knows no missing values, and the column has nulls (or categories that it does not know)")
        .column(column)
        .with("nulls", nulls.to_string())
        .hint("`missing = VALUE` for this feature in teacher.toml says what stands for null, as when the model was trained")
}

/// Least and greatest value of a type of whole numbers, as far as float64 tells them.
fn range(element: Element) -> Option<(f64, f64)> {
    use Element as E;
    Some(match element {
        E::Int8 => (i8::MIN.into(), i8::MAX.into()),
        E::Int16 => (i16::MIN.into(), i16::MAX.into()),
        E::Int32 => (i32::MIN.into(), i32::MAX.into()),
        E::Int64 => (i64::MIN as f64, i64::MAX as f64),
        E::Uint8 => (0.0, u8::MAX.into()),
        E::Uint16 => (0.0, u16::MAX.into()),
        E::Uint32 => (0.0, u32::MAX.into()),
        E::Uint64 => (0.0, u64::MAX as f64),
        E::Bool => (0.0, 1.0),
        _ => return None,
    })
}

/// Rows whose values are brought together: a line of the cache of each column.
const TOGETHER: usize = 16;

/// Columns side by side, row-major.
fn rows<A: Copy, B: Copy + Default>(columns: &[&[A]], value: impl Fn(A) -> B) -> Vec<B> {
    let count = columns.first().map_or(0, |c| c.len());
    if let [one] = columns {
        return one.iter().map(|v| value(*v)).collect();
    }
    let mut all = Vec::with_capacity(count * columns.len());
    let mut some = vec![B::default(); TOGETHER * columns.len()];
    for first in (0..count).step_by(TOGETHER) {
        for (place, column) in columns.iter().enumerate() {
            let to = some[place..].iter_mut().step_by(columns.len());
            to.zip(&column[first..]).for_each(|(to, v)| *to = value(*v));
        }
        all.extend_from_slice(&some[..TOGETHER.min(count - first) * columns.len()]);
    }
    all
}
