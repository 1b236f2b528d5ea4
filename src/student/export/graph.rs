//! Builds an ONNX graph node by node; every method returns the name of what it made.

use prost::Message;

use crate::models::onnx_proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute, element,
};

/// The operators of machine learning models.
pub const ML: &str = "ai.onnx.ml";
const IR_VERSION: i64 = 10;
const OPSET: i64 = 18;
const ML_OPSET: i64 = 5;

/// A graph under construction.
#[derive(Default)]
pub struct Graph {
    proto: GraphProto,
    made: usize,
}

impl Graph {
    /// A name that no input has; inputs are declared first.
    fn fresh(&mut self) -> String {
        loop {
            self.made += 1;
            let name = format!("/{}", self.made);
            if self.proto.input.iter().all(|i| i.name != name) {
                return name;
            }
        }
    }

    /// An input of shape [rows, 1].
    pub fn input(&mut self, name: &str, element: i32) {
        self.proto.input.push(value(name, element, 1));
    }

    /// An output of shape [rows, columns].
    pub fn output(&mut self, name: &str, element: i32, columns: usize) {
        self.proto.output.push(value(name, element, columns));
    }

    /// A node of ONNX's own operators.
    pub fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.any_node("", operator, inputs, attributes, None)
    }

    /// A node of the domain [`ML`].
    pub fn ml_node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.any_node(ML, operator, inputs, attributes, None)
    }

    fn any_node(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
        name: Option<&str>,
    ) -> String {
        let output = name.map_or_else(|| self.fresh(), str::to_string);
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output: vec![output.clone()],
            name: format!("{operator}{output}"),
            op_type: operator.to_string(),
            attribute,
            domain: domain.to_string(),
        });
        output
    }

    fn constant(&mut self, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let mut tensor = tensor(dims, data_type, raw_data);
        tensor.name = self.fresh();
        let name = tensor.name.clone();
        self.proto.initializer.push(tensor);
        name
    }

    /// A constant vector of float32.
    pub fn floats(&mut self, values: &[f32]) -> String {
        self.constant(&[values.len()], element::FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of float64.
    pub fn doubles(&mut self, dims: &[usize], values: &[f64]) -> String {
        self.constant(dims, element::DOUBLE, bytes(values))
    }

    /// A constant vector of int64.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.constant(&[values.len()], element::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// To another element type, as `name` if one is given.
    pub fn cast(&mut self, from: &str, element: i32, name: Option<&str>) -> String {
        self.any_node("", "Cast", &[from], vec![integer("to", i64::from(element))], name)
    }

    /// Side by side.
    pub fn concat(&mut self, columns: &[String]) -> String {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        self.node("Concat", &columns, vec![integer("axis", 1)])
    }

    /// Some columns of a matrix.
    pub fn columns(&mut self, matrix: &str, of: &[usize]) -> String {
        let of = self.integers(&of.iter().map(|c| *c as i64).collect::<Vec<_>>());
        self.node("Gather", &[matrix, &of], vec![integer("axis", 1)])
    }

    /// Sums over one axis.
    pub fn sum_over(&mut self, of: &str, axis: i64, keep: bool) -> String {
        let axes = self.integers(&[axis]);
        self.node("ReduceSum", &[of, &axes], vec![integer("keepdims", i64::from(keep))])
    }

    /// Softmax of each row.
    pub fn softmax(&mut self, z: &str) -> String {
        self.node("Softmax", &[z], vec![integer("axis", 1)])
    }

    /// The code of a text as float32, NaN where it is no level; "" is null, whatever the levels say.
    pub fn level_codes(&mut self, name: &str, levels: &[String]) -> String {
        let known = || levels.iter().enumerate().filter(|(_, text)| !text.is_empty());
        let keys =
            std::iter::once(Vec::new()).chain(known().map(|(_, text)| text.clone().into_bytes())).collect();
        let codes = std::iter::once(f32::NAN).chain(known().map(|(code, _)| code as f32)).collect();
        let attributes = vec![
            AttributeProto {
                name: "keys_strings".into(),
                strings: keys,
                r#type: attribute::STRINGS,
                ..Default::default()
            },
            AttributeProto {
                name: "values_floats".into(),
                floats: codes,
                r#type: attribute::FLOATS,
                ..Default::default()
            },
            AttributeProto {
                name: "default_float".into(),
                f: f32::NAN,
                r#type: attribute::FLOAT,
                ..Default::default()
            },
        ];
        self.ml_node("LabelEncoder", &[name], attributes)
    }

    /// Whether this is a constant rather than something of the rows.
    pub fn is_constant(&self, name: &str) -> bool {
        self.proto.initializer.iter().any(|t| t.name == name)
    }

    /// The bytes of the finished model.
    pub fn model(mut self, description: &str) -> Vec<u8> {
        self.proto.name = "student".into();
        let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "coldstart".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: description.into(),
            graph: Some(self.proto),
            opset_import: vec![import("", OPSET), import(ML, ML_OPSET)],
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn value(name: &str, element: i32, columns: usize) -> ValueInfoProto {
    let rows = DimensionProto { dim_value: None, dim_param: Some("rows".into()) };
    let columns = DimensionProto { dim_value: Some(columns as i64), dim_param: None };
    let tensor =
        TensorTypeProto { elem_type: element, shape: Some(TensorShapeProto { dim: vec![rows, columns] }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(tensor), sequence_type: None, map_type: None }),
    }
}

fn tensor(dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    TensorProto { dims: dims.iter().map(|d| *d as i64).collect(), data_type, raw_data, ..Default::default() }
}

fn bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// An attribute of one integer.
pub fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: attribute::INT, ..Default::default() }
}

/// An attribute of a list of integers.
pub fn integers(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), ints, r#type: attribute::INTS, ..Default::default() }
}

/// An attribute that is a vector of float64.
pub fn doubles(name: &str, values: &[f64]) -> AttributeProto {
    let t = Some(tensor(&[values.len()], element::DOUBLE, bytes(values)));
    AttributeProto { name: name.into(), t, r#type: attribute::TENSOR, ..Default::default() }
}

/// An attribute that is a vector of uint8.
pub fn small(name: &str, values: Vec<u8>) -> AttributeProto {
    let t = Some(tensor(&[values.len()], element::UINT8, values));
    AttributeProto { name: name.into(), t, r#type: attribute::TENSOR, ..Default::default() }
}
