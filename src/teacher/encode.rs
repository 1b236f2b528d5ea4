//! From account columns to what models are fed: float32 columns, each made once for all teachers that share
//! it.

use crate::error::{Error, Result};
use crate::features::block::{Block, Feature};
use crate::features::column::{Column, NULL};
use crate::teacher::bundle::{Bundle, Encode, MissingValue};

/// How one float32 column comes from a feature.
#[derive(Debug, Clone, PartialEq)]
enum Input {
    Number { feature: usize, missing: Option<f64> },
    Code { feature: usize, values: Vec<String>, missing: Option<String> },
    OneHot { feature: usize, values: Vec<String>, missing: Option<String>, level: usize },
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
    places: Vec<usize>,
    pub inputs: Vec<ModelInput>,
}

/// One feature of a model, in the order of the bundle.
#[derive(Debug)]
pub enum ModelInput {
    /// The position of its float32 column (the first, for one-hot) among the model's own.
    Float {
        name: String,
        column: usize,
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
}

impl Plan {
    /// Adds a model's inputs to the plan.
    pub fn add(&mut self, bundle: &Bundle, features: &[Feature]) -> Result<Encoder> {
        let (mut places, mut inputs) = (Vec::new(), Vec::new());
        for spec in &bundle.features {
            let name = spec.name.clone();
            let feature = features
                .iter()
                .position(|f| f.name == name)
                .ok_or_else(|| Error::bug("an unknown feature").column(&name))?;
            let text = match &spec.missing {
                Some(MissingValue::Text(text)) => Some(text.clone()),
                _ => None,
            };
            if spec.encode == Some(Encode::Text) {
                inputs.push(ModelInput::Text { name, feature, missing: text.unwrap_or_default() });
                continue;
            }
            inputs.push(ModelInput::Float { name, column: places.len() });
            let missing = match spec.missing {
                Some(MissingValue::Number(v)) => Some(v),
                _ => None,
            };
            match spec.encode {
                None => places.push(self.place(Input::Number { feature, missing })),
                Some(Encode::OneHot) => {
                    for level in 0..spec.values.len() {
                        places.push(self.place(Input::OneHot {
                            feature,
                            values: spec.values.clone(),
                            missing: text.clone(),
                            level,
                        }));
                    }
                }
                Some(_) => places.push(self.place(Input::Code {
                    feature,
                    values: spec.values.clone(),
                    missing: text,
                })),
            }
        }
        Ok(Encoder { places, inputs })
    }

    fn place(&mut self, input: Input) -> usize {
        self.inputs.iter().position(|i| *i == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }

    /// Makes every column of the plan for a block.
    pub fn encode(&self, block: &Block) -> Matrix {
        let columns = self.inputs.iter().map(|input| match input {
            Input::Number { feature, missing } => numbers(&block.columns[*feature], *missing),
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
        Matrix { columns: columns.collect() }
    }
}

impl Encoder {
    /// The model's float32 columns.
    pub fn columns<'a>(&self, matrix: &'a Matrix) -> Vec<&'a [f32]> {
        self.places.iter().map(|p| matrix.columns[*p].as_slice()).collect()
    }
}

fn numbers(column: &Column, missing: Option<f64>) -> Vec<f32> {
    let Column::Number(values) = column else { return Vec::new() };
    match missing {
        None => values.iter().map(|v| *v as f32).collect(),
        Some(missing) => values.iter().map(|v| if v.is_nan() { missing as f32 } else { *v as f32 }).collect(),
    }
}

/// Looks each distinct level up once, then maps the codes.
fn levels(column: &Column, missing: Option<&str>, null: f32, value: impl Fn(&str) -> f32) -> Vec<f32> {
    let Column::Category { codes, levels } = column else { return Vec::new() };
    let table: Vec<f32> = levels.iter().map(|l| value(l)).collect();
    let null = missing.map_or(null, &value);
    codes.iter().map(|c| if *c == NULL { null } else { table[*c as usize] }).collect()
}
