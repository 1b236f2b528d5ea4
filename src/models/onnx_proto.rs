//! The part of ONNX's protobuf messages that is needed to write a model and to look into one. Field numbers
//! are those of onnx.proto (ONNX 1.16, IR version 10); fields that are not listed are skipped when read.

use std::collections::BTreeMap;

use prost::Message;

use crate::error::{Error, Result};

/// Decodes a model; refuses what is none.
pub fn read(bytes: &[u8]) -> Result<ModelProto> {
    ModelProto::decode(bytes)
        .map_err(|e| Error::data(format!("this is not an ONNX model: {e}")).with("format", "onnx"))
}

impl ModelProto {
    /// Names of the files, relative to the model's folder, in which it keeps constants, at any depth, with the
    /// name of a constant in each. A constant that is outside and does not say where has an empty one.
    pub fn outside(&self) -> BTreeMap<&str, &str> {
        let mut found = BTreeMap::new();
        let functions = self.functions.iter().flat_map(|f| &f.node);
        self.graph.iter().for_each(|graph| graph.outside(&mut found));
        functions.for_each(|node| node.outside(&mut found));
        found
    }
}

/// A model: a graph and the operator sets that its nodes are from.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(string, tag = "6")]
    pub doc_string: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// Nodes under a name of their own.
#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
}

/// An operator set; the empty domain is ONNX's own.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Nodes in an order in which they can run.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

impl GraphProto {
    fn outside<'a>(&'a self, found: &mut BTreeMap<&'a str, &'a str>) {
        let sparse = self.sparse_initializer.iter().flat_map(SparseTensorProto::parts);
        found.extend(self.initializer.iter().chain(sparse).filter_map(TensorProto::outside));
        self.node.iter().for_each(|node| node.outside(found));
    }
}

impl NodeProto {
    fn outside<'a>(&'a self, found: &mut BTreeMap<&'a str, &'a str>) {
        for a in &self.attribute {
            let sparse = a.sparse_tensor.iter().chain(&a.sparse_tensors).flat_map(SparseTensorProto::parts);
            found.extend(a.t.iter().chain(&a.tensors).chain(sparse).filter_map(TensorProto::outside));
            a.g.iter().chain(&a.graphs).for_each(|graph| graph.outside(found));
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named constant; `r#type` ([`attribute`]) tells which field holds it.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<GraphProto>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensorProto>,
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

/// Values of [`AttributeProto::type`](AttributeProto).
pub mod attribute {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
}

/// A constant array, row-major; `raw_data` is little-endian.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

impl TensorProto {
    /// The file in which the values are, if they are in one, and the tensor's name.
    fn outside(&self) -> Option<(&str, &str)> {
        let is_outside = self.data_location != 0 || !self.external_data.is_empty();
        let place = self.external_data.iter().find(|entry| entry.key == "location");
        is_outside.then(|| (place.map_or("", |entry| entry.value.as_str()), self.name.as_str()))
    }

    /// The values of a tensor of strings; None for another type.
    pub fn texts(&self) -> Option<Vec<String>> {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        (self.data_type == element::STRING).then(|| self.string_data.iter().map(text).collect())
    }

    /// The values of a tensor of float32 or float64; None for another type, and where there are not as many
    /// as its shape says.
    pub fn floats(&self) -> Option<Vec<f64>> {
        let values: Vec<f64> = match self.data_type {
            element::FLOAT if self.raw_data.is_empty() => {
                self.float_data.iter().map(|&v| f64::from(v)).collect()
            }
            element::FLOAT => {
                chunks(&self.raw_data)?.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
            }
            element::DOUBLE if self.raw_data.is_empty() => self.double_data.clone(),
            element::DOUBLE => chunks(&self.raw_data)?.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            _ => return None,
        };
        self.fits(values)
    }

    /// The same for int64, int32 and uint8.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let values: Vec<i64> = match self.data_type {
            element::INT64 if self.raw_data.is_empty() => self.int64_data.clone(),
            element::INT64 => chunks(&self.raw_data)?.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            element::INT32 if !self.raw_data.is_empty() => {
                chunks(&self.raw_data)?.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect()
            }
            element::UINT8 | element::INT32 if self.raw_data.is_empty() => {
                self.int32_data.iter().map(|&v| i64::from(v)).collect()
            }
            element::UINT8 => self.raw_data.iter().map(|&b| i64::from(b)).collect(),
            _ => return None,
        };
        self.fits(values)
    }

    fn fits<T>(&self, values: Vec<T>) -> Option<Vec<T>> {
        let count = self.dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d))?;
        (usize::try_from(count) == Ok(values.len())).then_some(values)
    }
}

/// Bytes by values of N; None where some are left.
fn chunks<const N: usize>(bytes: &[u8]) -> Option<&[[u8; N]]> {
    let (chunks, rest) = bytes.as_chunks();
    rest.is_empty().then_some(chunks)
}

/// A constant of which most values are 0.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
}

impl SparseTensorProto {
    fn parts(&self) -> impl Iterator<Item = &TensorProto> {
        self.values.iter().chain(&self.indices)
    }
}

/// Element types of tensors.
pub mod element {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const STRING: i32 = 8;
    pub const FLOAT16: i32 = 10;
    pub const BOOL: i32 = 9;
    pub const DOUBLE: i32 = 11;
}

/// The name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// One of its fields is there.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
    #[prost(message, optional, boxed, tag = "4")]
    pub sequence_type: Option<Box<SequenceTypeProto>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub map_type: Option<Box<MapTypeProto>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SequenceTypeProto {
    #[prost(message, optional, tag = "1")]
    pub elem_type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MapTypeProto {
    #[prost(int32, tag = "1")]
    pub key_type: i32,
    #[prost(message, optional, tag = "2")]
    pub value_type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// A size, or the name of one that is known at run time.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}
