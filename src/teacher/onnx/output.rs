//! The probabilities among the outputs of an ONNX graph, and what to do where there are none: remedies are those of
//! the program that wrote the file.

use ort::session::{Session, SessionOutputs};
use ort::value::{TensorElementType as Element, ValueType};

use crate::error::{Error, Result};
use crate::teacher::onnx::library::failed;

/// The output that has the probabilities: the one that teacher.toml names, or the one of floats.
pub fn probabilities(session: &Session, wanted: Option<&str>, producer: &str) -> Result<String> {
    let mut found = Vec::new();
    for output in session.outputs() {
        match output.dtype() {
            ValueType::Tensor { ty: Element::Float32 | Element::Float64 | Element::Float16, .. } => {
                found.push(output.name())
            }
            ValueType::Sequence(_) | ValueType::Map { .. } if wanted.is_none_or(|w| w == output.name()) => {
                return Err(Error::data("the model's probabilities are a sequence of maps")
                    .with("output", output.name())
                    .hint(matrix_remedy(producer)));
            }
            _ => {}
        }
    }
    match (wanted, found.as_slice()) {
        (Some(wanted), found) if found.contains(&wanted) => Ok(wanted.to_string()),
        (Some(wanted), found) => Err(Error::data("the model has no float output of this name")
            .with("key", "model.output")
            .value(wanted)
            .with("the file says", found.join(", "))),
        (None, [one]) => Ok(one.to_string()),
        (None, []) => {
            Err(Error::data("the model has no float output, but labels alone")
                .hint(probability_remedy(producer)))
        }
        (None, many) => Err(Error::data(format!(
            "the model has {} float outputs; one, its probabilities, is expected",
            many.len()
        ))
        .value(many.join(", "))
        .hint("name the one with the probabilities: output = \"NAME\" under [model] in teacher.toml")),
    }
}

/// The values of an output as float64, and its shape.
pub fn read(outputs: &SessionOutputs, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
    let value = &outputs[name];
    let unreadable = |e: ort::Error| failed("its output cannot be read", &e);
    let sizes = |shape: &[i64]| shape.iter().map(|d| *d as usize).collect();
    Ok(match value.dtype() {
        ValueType::Tensor { ty: Element::Float64, .. } => {
            let (shape, values) = value.try_extract_tensor::<f64>().map_err(unreadable)?;
            (sizes(shape), values.to_vec())
        }
        ValueType::Tensor { ty: Element::Float16, .. } => {
            let (shape, values) = value.try_extract_tensor::<half::f16>().map_err(unreadable)?;
            (sizes(shape), values.iter().map(|v| v.to_f64()).collect())
        }
        _ => {
            let (shape, values) = value.try_extract_tensor::<f32>().map_err(unreadable)?;
            (sizes(shape), values.iter().map(|v| f64::from(*v)).collect())
        }
    })
}

/// How the program that wrote a file is made to write a matrix of probabilities.
fn matrix_remedy(producer: &str) -> &'static str {
    match producer {
        "skl2onnx" => "export it with zipmap=False: to_onnx(model, X, options={\"zipmap\": False})",
        "OnnxMLTools" => "export it with zipmap=False",
        _ => "export it with its probabilities as one matrix of floats",
    }
}

fn probability_remedy(producer: &str) -> &'static str {
    match producer {
        "skl2onnx" => "export the classifier with its probabilities as an output (it needs predict_proba)",
        "pytorch" => "export a module whose forward ends with torch.softmax(logits, dim=1)",
        "tf2onnx" | "keras2onnx" => "export a model whose last layer has activation=\"softmax\"",
        _ => "export it with its probabilities as an output",
    }
}

/// What is wrong with rows that are no distributions, in the words of the program that wrote the file.
pub fn distribution_remedy(producer: &str) -> &'static str {
    match producer {
        "pytorch" => {
            "classes of an account exclude each other: export a module that ends with torch.softmax(logits, dim=1)"
        }
        "tf2onnx" | "keras2onnx" => {
            "classes of an account exclude each other: end the model with activation=\"softmax\" and export it again"
        }
        "skl2onnx" => {
            "export a classifier whose predict_proba gives each row a distribution, not a multi-label one"
        }
        _ => {
            "export a model whose probabilities of an account sum to 1 (a softmax, not a sigmoid for each class)"
        }
    }
}

/// How a graph is freed of what ties a row to the rows beside it.
pub fn batch_remedy(producer: &str) -> &'static str {
    match producer {
        "pytorch" => {
            "export it in eval mode (model.eval()) without operations over the rows, or say batch = 1 under [model] in teacher.toml"
        }
        _ => {
            "export it without operations over the rows, or say batch = 1 under [model] in teacher.toml: each account alone"
        }
    }
}
