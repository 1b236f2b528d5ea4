//! What stands in an ONNX graph: the attributes of a node, constants, types.

use std::collections::HashMap;

use crate::error::Error;
use crate::models::onnx_proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

pub fn refused(message: impl Into<String>) -> Error {
    Error::data(message).with("format", "onnx")
}

/// The constants of a graph by their names.
pub fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect()
}

pub fn element_type(value: &ValueInfoProto) -> Option<i32> {
    Some(value.r#type.as_ref()?.tensor_type.as_ref()?.elem_type)
}

/// The values of a constant of int64.
pub fn integers(constants: &HashMap<&str, &TensorProto>, name: &str) -> Option<Vec<i64>> {
    constants.get(name)?.integers()
}

/// The attributes of a node; lists that are not there are empty.
pub struct Attributes<'a>(pub &'a NodeProto);

impl<'a> Attributes<'a> {
    pub fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|a| a.name == name)
    }

    pub fn ints(&self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |a| &a.ints)
    }

    pub fn floats(&self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |a| &a.floats)
    }

    pub fn strings(&self, name: &str) -> &'a [Vec<u8>] {
        self.find(name).map_or(&[], |a| &a.strings)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.find(name).map(|a| a.i)
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        self.find(name).map(|a| a.f)
    }

    pub fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.find(name)?.t.as_ref()
    }

    /// The floats of the list `name`, or of the tensor `name_as_tensor`; empty without either, None for a
    /// tensor of something else.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        match self.tensor(&format!("{name}_as_tensor")) {
            Some(tensor) => tensor.floats(),
            None => Some(self.floats(name).iter().map(|&v| f64::from(v)).collect()),
        }
    }
}
