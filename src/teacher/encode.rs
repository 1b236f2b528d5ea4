//! From account columns to what models are fed: float32 columns, each made once for all teachers that share
//! it, and float64 for models that compare in it.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature, places};
use crate::features::column::{Column, NULL, level_of_number};
use crate::models::trees::exact::Exact;
use crate::teacher::bundle::{Bundle, Encode, FeatureSpec, MissingValue};

/// How one float32 column comes from a feature.
#[derive(Debug, Clone, PartialEq)]
enum Input {
    Number(Number),
    Code { feature: usize, values: Vec<String>, missing: Option<String> },
    OneHot { feature: usize, values: Vec<String>, missing: Option<String>, level: usize },
}

/// A feature as a number: what stands for null, and what the model's library takes for missing.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Number {
    feature: usize,
    null: Option<f64>,
    missing: Option<f64>,
}

/// All distinct float32 columns that the teachers take.
#[derive(Debug, Default)]
pub struct Plan {
    inputs: Vec<Input>,
}

/// The columns of one model: places in the [`Matrix`], and for text inputs the feature with what stands for
/// null.
#[derive(Debug)]
pub struct Encoder {
    columns: Vec<Place>,
    pub inputs: Vec<ModelInput>,
}

/// Where a model's column is.
#[derive(Debug, Clone)]
struct Place {
    /// The feature's name.
    name: String,
    /// Its place in the [`Matrix`].
    at: usize,
    /// What it is made of, where that is a number.
    number: Option<Number>,
}

/// One feature of a model, in the order of the bundle.
#[derive(Debug)]
pub enum ModelInput {
    /// Its float32 columns among the model's own; several for one-hot.
    Float {
        column: usize,
        width: usize,
    },
    Text {
        name: String,
        feature: usize,
        missing: String,
    },
}

/// The float32 columns of a block, in the order of the plan.
pub struct Matrix {
    columns: Vec<Vec<f32>>,
    /// Whether a column of numbers lost something when it became float32.
    rounded: Vec<bool>,
}

impl Plan {
    /// Adds a model's inputs to the plan.
    pub fn add(&mut self, bundle: &Bundle, features: &[Feature]) -> Result<Encoder> {
        let (mut columns, mut inputs) = (Vec::new(), Vec::new());
        let places = places(features.iter().map(|f| f.name.as_str()));
        for spec in &bundle.features {
            let name = spec.name.clone();
            let feature =
                *places.get(name.as_str()).ok_or_else(|| Error::bug("an unknown feature").column(&name))?;
            let text = spec.missing.as_ref().map(|missing| match missing {
                MissingValue::Text(text) => text.clone(),
                MissingValue::Number(number) => level_of_number(*number),
            });
            if spec.encode == Some(Encode::Text) {
                inputs.push(ModelInput::Text { name, feature, missing: text.unwrap_or_default() });
                continue;
            }
            let made = made_of(spec, feature, text, bundle.model.missing);
            inputs.push(ModelInput::Float { column: columns.len(), width: made.len() });
            columns.extend(made.into_iter().map(|input| {
                let number = if let Input::Number(number) = &input { Some(*number) } else { None };
                Place { name: name.clone(), at: self.place(input), number }
            }));
        }
        if let Some(order) = &bundle.order {
            columns = order.iter().map(|place| columns[*place].clone()).collect();
        }
        Ok(Encoder { columns, inputs })
    }

    fn place(&mut self, input: Input) -> usize {
        self.inputs.iter().position(|i| *i == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }

    /// Makes every column of the plan for a block.
    pub fn encode(&self, block: &Block) -> Matrix {
        let mut rounded = vec![false; self.inputs.len()];
        let columns = self.inputs.iter().zip(&mut rounded).map(|(input, rounded)| match input {
            Input::Number(number) => {
                let column = number.values(block);
                let narrow: Vec<f32> = column.iter().map(|v| *v as f32).collect();
                // all of them, without a way out on the first: several are looked at at once
                *rounded = narrow
                    .iter()
                    .zip(column.iter())
                    .fold(false, |rounded, (narrow, v)| rounded | ((f64::from(*narrow) != *v) & !v.is_nan()));
                narrow
            }
            Input::Code { feature, values, missing } => {
                let place =
                    |level: &str| values.iter().position(|v| v == level).map_or(f32::NAN, |i| i as f32);
                levels(&block.columns[*feature], missing.as_deref(), f32::NAN, place)
            }
            Input::OneHot { feature, values, missing, level } => {
                let hit = |name: &str| if values[*level] == name { 1.0 } else { 0.0 };
                levels(&block.columns[*feature], missing.as_deref(), 0.0, hit)
            }
        });
        Matrix { columns: columns.collect(), rounded }
    }
}

/// The columns that a feature makes; `missing` is the model's own missing value.
fn made_of(spec: &FeatureSpec, feature: usize, text: Option<String>, missing: Option<f64>) -> Vec<Input> {
    match spec.encode {
        None => {
            let null = match spec.missing {
                Some(MissingValue::Number(v)) => Some(v),
                _ => None,
            };
            vec![Input::Number(Number { feature, null, missing: missing.filter(|m| !m.is_nan()) })]
        }
        Some(Encode::OneHot) => {
            let of =
                |level| Input::OneHot { feature, values: spec.values.clone(), missing: text.clone(), level };
            (0..spec.values.len()).map(of).collect()
        }
        Some(_) => vec![Input::Code { feature, values: spec.values.clone(), missing: text }],
    }
}

impl Encoder {
    /// The model's float32 columns.
    pub fn columns<'a>(&self, matrix: &'a Matrix) -> Vec<&'a [f32]> {
        self.columns.iter().map(|c| matrix.columns[c.at].as_slice()).collect()
    }

    /// The columns at these places; what was float64 is fed so that every split of the model answers as in float64.
    pub fn exact_columns<'a, 'b>(
        &self,
        block: &Block,
        matrix: &'a Matrix,
        exact: impl Iterator<Item = (usize, &'b Exact)>,
    ) -> Vec<Cow<'a, [f32]>> {
        let of = |(column, exact): (usize, &Exact)| match self.columns[column].number {
            Some(number) if matrix.rounded[self.columns[column].at] => {
                Cow::Owned(exact.feed(number.values(block).iter().copied()))
            }
            _ if exact.keeps_float32() => Cow::Borrowed(matrix.columns[self.columns[column].at].as_slice()),
            _ => {
                Cow::Owned(exact.feed(matrix.columns[self.columns[column].at].iter().map(|v| f64::from(*v))))
            }
        };
        exact.map(of).collect()
    }

    /// A column of the model as float64.
    pub fn wide(&self, block: &Block, matrix: &Matrix, column: usize) -> Vec<f64> {
        match self.columns[column].number {
            Some(number) => number.values(block).into_owned(),
            None => matrix.columns[self.columns[column].at].iter().map(|v| f64::from(*v)).collect(),
        }
    }

    /// Columns of the model.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The feature that a column is made of.
    pub fn name(&self, column: usize) -> &str {
        &self.columns[column].name
    }

    /// A feature that is NaN in this row.
    pub fn null_of(&self, matrix: &Matrix, row: usize) -> Option<&str> {
        self.columns.iter().find(|c| matrix.columns[c.at][row].is_nan()).map(|c| c.name.as_str())
    }
}

impl Number {
    /// The feature's values: float64, NaN where the model is to see a missing value.
    fn values<'a>(&self, block: &'a Block) -> Cow<'a, [f64]> {
        let mut values = match &block.columns[self.feature] {
            Column::Number(values) => Cow::Borrowed(values.as_slice()),
            // another teacher takes it as a category
            Column::Category { codes, levels } => {
                let table: Vec<f64> = levels.iter().map(|l| number_of_level(l)).collect();
                codes.iter().map(|c| if *c == NULL { f64::NAN } else { table[*c as usize] }).collect()
            }
        };
        if let Some(null) = self.null {
            values.to_mut().iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = null);
        }
        if let Some(missing) = self.missing {
            // the library compares in float32
            values.to_mut().iter_mut().filter(|v| **v as f32 == missing as f32).for_each(|v| *v = f64::NAN);
        }
        values
    }
}

fn number_of_level(level: &str) -> f64 {
    match level {
        "true" => 1.0,
        "false" => 0.0,
        number => number.parse().unwrap_or(f64::NAN),
    }
}

/// Looks each distinct level up once, then maps the codes.
fn levels(column: &Column, missing: Option<&str>, null: f32, value: impl Fn(&str) -> f32) -> Vec<f32> {
    let Column::Category { codes, levels } = column else { return Vec::new() };
    let table: Vec<f32> = levels.iter().map(|l| value(l)).collect();
    let null = missing.map_or(null, &value);
    codes.iter().map(|c| if *c == NULL { null } else { table[*c as usize] }).collect()
}
