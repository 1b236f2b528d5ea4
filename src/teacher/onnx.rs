//! ONNX models, run by ONNX Runtime, whose library `make setup` installs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, Tensor, TensorElementType, ValueType};

use crate::error::{Error, Kind, Result};
use crate::features::block::Block;
use crate::features::column::{Column, NULL};
use crate::teacher::bundle::{Bundle, Encode};
use crate::teacher::encode::{Encoder, Matrix, ModelInput};

/// An ONNX model: its bytes, and the sessions that workers take turns with.
pub struct Onnx {
    bytes: Vec<u8>,
    sessions: Mutex<Vec<Session>>,
    output: String,
    /// Whether the model takes one `[rows, features]` matrix.
    matrix: bool,
    classes: usize,
}

/// Named inputs of one run.
type Feed = Vec<(String, SessionInputValue<'static>)>;

impl Onnx {
    /// Loads the model and finds its probability output: the one float output, `[rows, classes]`, `[rows]` or
    /// `[rows, 1]`.
    pub fn load(bytes: Vec<u8>, bundle: &Bundle) -> Result<Onnx> {
        let session = open(&bytes)?;
        let output = probability_output(&session)?;
        let inputs = session.inputs();
        let matrix =
            inputs.len() == 1 && (bundle.features.len() > 1 || inputs[0].name() != bundle.features[0].name);
        if !matrix {
            for input in inputs {
                let feature = bundle.features.iter().find(|f| f.name == input.name()).ok_or_else(|| {
                    Error::data("the model has an input that is no feature of teacher.toml")
                        .with("input", input.name())
                })?;
                if feature.encode == Some(Encode::OneHot) {
                    return Err(Error::data(
                        "an input of its own takes no one_hot feature: its shape is [rows, 1]",
                    )
                    .column(&feature.name));
                }
                let is_text = feature.encode == Some(Encode::Text);
                takes(
                    input,
                    if is_text { TensorElementType::String } else { TensorElementType::Float32 },
                    1,
                )?;
            }
        } else {
            takes(&inputs[0], TensorElementType::Float32, bundle.matrix_width())?;
        }
        Ok(Onnx {
            bytes,
            sessions: Mutex::new(vec![session]),
            output,
            matrix,
            classes: bundle.model.classes.len(),
        })
    }

    /// Probabilities of the model's classes, row-major `[rows, classes]`, into `out`.
    pub fn predict(&self, encoder: &Encoder, block: &Block, matrix: &Matrix, out: &mut [f64]) -> Result<()> {
        let mut session = match self.sessions.lock().ok().and_then(|mut s| s.pop()) {
            Some(session) => session,
            None => open(&self.bytes)?,
        };
        let feed = if self.matrix {
            self.one_matrix(&session, encoder, block, matrix)?
        } else {
            self.named(&session, encoder, block, matrix)?
        };
        let outputs = session.run(feed).map_err(|e| failed("the model cannot be run", &e))?;
        let (shape, values) = outputs[self.output.as_str()]
            .try_extract_tensor::<f32>()
            .map_err(|e| failed("its output cannot be read", &e))?;
        let found: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
        match found.as_slice() {
            [rows, c] if *rows == block.rows && *c == self.classes => {
                out.iter_mut().zip(values).for_each(|(o, v)| *o = f64::from(*v))
            }
            [rows] | [rows, 1] if *rows == block.rows && self.classes == 2 => {
                for (o, v) in out.chunks_exact_mut(2).zip(values) {
                    o[1] = f64::from(*v);
                    o[0] = 1.0 - o[1];
                }
            }
            _ => {
                let wanted = format!("[{}, {}]", block.rows, self.classes);
                return Err(Error::data(format!(
                    "the model's output has the shape {found:?}, {wanted} is expected"
                ))
                .with("output", &self.output)
                .hint("export the probabilities of all classes that teacher.toml names, a column for each"));
            }
        }
        drop(outputs);
        if let Ok(mut sessions) = self.sessions.lock() {
            sessions.push(session);
        }
        Ok(())
    }

    fn one_matrix(
        &self,
        session: &Session,
        encoder: &Encoder,
        block: &Block,
        matrix: &Matrix,
    ) -> Result<Feed> {
        let columns = encoder.columns(matrix);
        let mut rows = vec![0.0f32; block.rows * columns.len()];
        for (j, column) in columns.iter().enumerate() {
            for (row, v) in rows.chunks_exact_mut(columns.len()).zip(*column) {
                row[j] = *v;
            }
        }
        let tensor = Tensor::from_array(([block.rows, columns.len()], rows))
            .map_err(|e| failed("its input cannot be made", &e))?;
        Ok(vec![(session.inputs()[0].name().to_string(), tensor.into())])
    }

    fn named(&self, session: &Session, encoder: &Encoder, block: &Block, matrix: &Matrix) -> Result<Feed> {
        let columns = encoder.columns(matrix);
        let mut feed = Vec::with_capacity(encoder.inputs.len());
        for input in &encoder.inputs {
            let (name, value): (&String, SessionInputValue<'static>) = match input {
                ModelInput::Float { name, column } => {
                    let tensor = Tensor::from_array(([block.rows, 1], columns[*column].to_vec()));
                    (name, tensor.map_err(|e| failed("its input cannot be made", &e))?.into())
                }
                ModelInput::Text { name, feature, missing } => {
                    let Column::Category { codes, levels } = &block.columns[*feature] else {
                        return Err(Error::bug("a text input of numbers"));
                    };
                    let levels: Vec<Arc<str>> =
                        levels.iter().chain([missing]).map(|l| Arc::from(l.as_str())).collect();
                    let text = |code: u32| {
                        levels[if code == NULL { levels.len() - 1 } else { code as usize }].clone()
                    };
                    let texts: Vec<Arc<str>> = codes.iter().map(|c| text(*c)).collect();
                    let tensor = Tensor::from_string_array(([block.rows, 1], texts.as_slice()));
                    (name, tensor.map_err(|e| failed("its input cannot be made", &e))?.into())
                }
            };
            if session.inputs().iter().any(|i| i.name() == name) {
                feed.push((name.clone(), value));
            }
        }
        Ok(feed)
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::data(format!("{what}: {error}"))
}

fn open(bytes: &[u8]) -> Result<Session> {
    let environment = environment()?;
    let built = Session::builder(environment).map_err(|e| failed("no session", &e))?;
    let mut built = built.with_intra_threads(1).map_err(|e| failed("no session", &e))?;
    built.commit_from_memory(bytes).map_err(|e| failed("not an ONNX model that ONNX Runtime can load", &e))
}

/// The input must be a tensor of `wanted` with `columns` columns, so far as its shape is fixed.
fn takes(input: &Outlet, wanted: TensorElementType, columns: usize) -> Result<()> {
    let refuse = |why: String, hint: &str| Err(Error::data(why).with("input", input.name()).hint(hint));
    match input.dtype() {
        ValueType::Tensor { ty, .. } if *ty != wanted => {
            let hint = if wanted == TensorElementType::String {
                "export it with a string input"
            } else {
                "export it with float32 inputs"
            };
            refuse(format!("the model takes {ty} here, it would be fed {wanted}"), hint)
        }
        ValueType::Tensor { shape, .. } => match shape.get(1) {
            Some(width) if *width >= 0 && usize::try_from(*width) != Ok(columns) => refuse(
                format!("the model takes {width} columns here, the features of teacher.toml make {columns}"),
                "name its features in their order",
            ),
            _ => Ok(()),
        },
        other => refuse(format!("the model takes {other:?} here"), "export it with tensors as inputs"),
    }
}

fn probability_output(session: &Session) -> Result<String> {
    let (mut found, mut is_wide) = (Vec::new(), false);
    for output in session.outputs() {
        match output.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, .. } => found.push(output.name().to_string()),
            ValueType::Tensor { ty: TensorElementType::Float64, .. } => is_wide = true,
            ValueType::Sequence(_) | ValueType::Map { .. } => {
                return Err(Error::data("the model's probabilities are a sequence of maps")
                    .with("output", output.name())
                    .hint("export it with zipmap=False"));
            }
            _ => {}
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] if is_wide => Err(Error::data("the model's probabilities are float64")
            .hint("export it with a Cast of its probabilities to float32")),
        [] => Err(Error::data("the model has no float output, but labels alone")
            .hint("export it with its probabilities as an output")),
        many => Err(Error::data(format!(
            "the model has {} float outputs; one, its probabilities, is expected",
            many.len()
        ))
        .value(many.join(", "))
        .hint("export it with its probabilities (and labels) as its only outputs")),
    }
}

fn environment() -> Result<&'static ort::environment::Environment> {
    static ENVIRONMENT: OnceLock<std::result::Result<ort::environment::Environment, String>> =
        OnceLock::new();
    let built = ENVIRONMENT.get_or_init(|| {
        let path = library().ok_or("the library was not found")?;
        let builder = ort::init_from(&path).map_err(|e| e.to_string())?;
        builder.with_name("coldstart").with_telemetry(false).build().map_err(|e| e.to_string())
    });
    built.as_ref().map_err(|e| {
        Error::new(Kind::Missing, format!("ONNX Runtime cannot be loaded: {e}"))
            .hint("`pip install onnxruntime` brings the library: set ORT_DYLIB_PATH to its onnxruntime/capi/libonnxruntime.so.* (1.24 or later); in a clone, `make setup` does both")
    })
}

/// `ORT_DYLIB_PATH`, else the `.onnxruntime/` directory that `make setup` makes, looked for from the
/// program's place upwards.
fn library() -> Option<PathBuf> {
    const FILE: &str = ".onnxruntime/libonnxruntime.so";
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Some(PathBuf::from(path));
    }
    let program = std::env::current_exe().ok()?;
    let beside = program.ancestors().map(|folder| folder.join(FILE)).find(|p| p.is_file());
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    beside.or_else(|| built_in.is_file().then_some(built_in))
}
