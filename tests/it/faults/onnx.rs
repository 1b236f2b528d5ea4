//! E70, ONNX: graphs from anywhere, whose inputs or outputs are not what a teacher's are, or that mean harm.

use crate::workdir::{DATE, Workdir};
use coldstart::models::onnx_proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SequenceTypeProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute, element,
};
use prost::Message;

use super::faults;

const TOML: &str = "teachers/bazaar/teacher.toml";
const MODEL: (&str, &str) = ("file", "bazaar/model.onnx");
/// Columns that the teacher's features make.
const WIDTH: i64 = 15;

/// `[rows, columns]` of a type.
fn value(name: &str, elem_type: i32, columns: i64) -> ValueInfoProto {
    let rows = DimensionProto { dim_param: Some("rows".into()), ..Default::default() };
    let columns = DimensionProto { dim_value: Some(columns), ..Default::default() };
    let tensor_type =
        Some(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim: vec![rows, columns] }) });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type, ..Default::default() }) }
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    let domain = if operator == "ZipMap" { "ai.onnx.ml" } else { "" };
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        op_type: operator.into(),
        attribute,
        domain: domain.into(),
        ..Default::default()
    }
}

fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: attribute::INT, ..Default::default() }
}

/// A softmax over `classes` linear functions of `width` columns: `x` -> `p`, and what else is made of `p`.
fn model(width: i64, classes: i64, more: Vec<NodeProto>, outputs: Vec<ValueInfoProto>) -> ModelProto {
    let raw_data = (0..width * classes).flat_map(|i| (i as f32 / 1e6).to_le_bytes()).collect();
    let weights = TensorProto {
        name: "w".into(),
        dims: vec![width, classes],
        data_type: element::FLOAT,
        raw_data,
        ..Default::default()
    };
    let zero = TensorProto {
        name: "zero".into(),
        data_type: element::FLOAT,
        raw_data: vec![0; 4],
        ..Default::default()
    };
    let mut nodes = vec![
        node("IsNaN", &["x"], &["gone"], vec![]),
        node("Where", &["gone", "zero", "x"], &["full"], vec![]),
        node("MatMul", &["full", "w"], &["z"], vec![]),
        node("Softmax", &["z"], &["p"], vec![integer("axis", 1)]),
    ];
    nodes.extend(more);
    let graph = GraphProto {
        node: nodes,
        name: "teacher".into(),
        initializer: vec![weights, zero],
        input: vec![value("x", element::FLOAT, width)],
        output: outputs,
        ..Default::default()
    };
    let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![import("", 15), import("ai.onnx.ml", 2)],
        ..Default::default()
    }
}

fn probabilities() -> ValueInfoProto {
    value("p", element::FLOAT, 2)
}

/// Makes the teacher one of this model.
fn teach(work: &Workdir, model: &[u8]) {
    work.edit(TOML, "file = \"model.txt\"", "file = \"model.onnx\"");
    work.edit(TOML, "format = \"lightgbm\"", "format = \"onnx\"");
    work.write_bytes("teachers/bazaar/model.onnx", model);
}

/// The model with another node in the place of one of its own.
fn with_node(mut model: ModelProto, at: usize, node: NodeProto) -> ModelProto {
    model.graph.as_mut().expect("a graph").node[at] = node;
    model
}

fn number(name: &str, value: f32) -> TensorProto {
    let raw_data = value.to_le_bytes().to_vec();
    TensorProto { name: name.into(), data_type: element::FLOAT, raw_data, ..Default::default() }
}

#[test]
fn e70_outputs_that_are_not_probabilities_are_refused_with_what_to_export_instead() {
    let labels = || node("ArgMax", &["p"], &["label"], vec![integer("axis", 1)]);
    let twice = node("Identity", &["p"], &["q"], vec![]);
    let plain = || model(WIDTH, 2, vec![], vec![probabilities()]);
    let cases: Vec<(ModelProto, Vec<(&str, &str)>)> = vec![
        (
            model(WIDTH, 2, vec![labels()], vec![value("label", element::INT64, 1)]),
            vec![("error", "labels alone"), ("hint", "probabilities")],
        ),
        (
            model(WIDTH, 2, vec![twice], vec![probabilities(), value("q", element::FLOAT, 2)]),
            vec![("error", "2 float outputs"), ("value", "p, q"), ("hint", "output = ")],
        ),
        (
            model(WIDTH, 3, vec![], vec![value("p", element::FLOAT, 3)]),
            vec![("error", ", 3], ["), ("hint", "all classes")],
        ),
        (model(WIDTH - 1, 2, vec![], vec![probabilities()]), vec![("error", "14 columns"), ("error", "15")]),
    ];
    faults(|f| {
        for (model, said) in cases {
            f.refused(65, &[&[MODEL], said.as_slice()].concat(), |w| teach(w, &model.encode_to_vec()));
        }
        // a third of a sigmoid for each class
        let mut sigmoids = with_node(plain(), 3, node("Sigmoid", &["z"], &["s"], vec![]));
        let graph = sigmoids.graph.as_mut().expect("a graph");
        graph.node.push(node("Mul", &["s", "third"], &["p"], vec![]));
        graph.initializer.push(number("third", 0.3));
        f.refused(65, &[MODEL, ("error", "do not sum to 1"), ("hint", "softmax")], |w| {
            teach(w, &sigmoids.encode_to_vec())
        });
        // the largest of the rows that are scored together
        let mut beside = plain();
        let nodes = &mut beside.graph.as_mut().expect("a graph").node;
        let axes = AttributeProto {
            name: "axes".into(),
            ints: vec![0],
            r#type: attribute::INTS,
            ..Default::default()
        };
        nodes[3] = node("ReduceMax", &["z"], &["most"], vec![axes]);
        nodes.push(node("Sub", &["most", "z"], &["less"], vec![]));
        nodes.push(node("Mul", &["less", "thousand"], &["more"], vec![]));
        nodes.push(node("Softmax", &["more"], &["p"], vec![integer("axis", 1)]));
        beside.graph.as_mut().expect("a graph").initializer.push(number("thousand", 1e5));
        f.refused(65, &[MODEL, ("error", "accounts beside it"), ("hint", "batch = 1")], |w| {
            teach(w, &beside.encode_to_vec())
        });
        // a graph that knows no missing values
        let blind = with_node(
            with_node(plain(), 1, node("Identity", &["x"], &["full"], vec![])),
            0,
            node("Identity", &["x"], &["gone"], vec![]),
        );
        f.refused(65, &[MODEL, ("error", "knows no missing values"), ("hint", "missing = VALUE")], |w| {
            teach(w, &blind.encode_to_vec())
        });
    });
}

#[test]
fn e70_a_graph_that_reads_other_files_goes_in_circles_or_is_cut_off_is_refused() {
    let sound = model(WIDTH, 2, vec![], vec![probabilities()]);
    let mut outside = sound.clone();
    let weights = &mut outside.graph.as_mut().expect("a graph").initializer[0];
    weights.raw_data.clear();
    weights.data_location = 1;
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    weights.external_data = vec![entry("location", "../../etc/passwd"), entry("length", "120")];
    let mut circle = sound.clone();
    circle.graph.as_mut().expect("a graph").node[0].input[0] = "p".into();
    let mut many = sound.clone();
    many.graph.as_mut().expect("a graph").initializer[0].dims = vec![1_000_000_000, 1_000_000_000];
    let mut unknown = sound.clone();
    unknown.graph.as_mut().expect("a graph").node[0].op_type = "RunProgram".into();
    faults(|f| {
        f.refused(65, &[MODEL, ("error", "external data"), ("hint", "one file")], |w| {
            teach(w, &outside.encode_to_vec())
        });
        for broken in [circle, many, unknown] {
            f.refused(65, &[MODEL], |w| teach(w, &broken.encode_to_vec()));
        }
        let bytes = sound.encode_to_vec();
        for share in [10, 50, 90] {
            f.refused(65, &[MODEL], |w| teach(w, &bytes[..bytes.len() * share / 100]));
        }
    });
}

/// Probabilities as a list of maps, as scikit-learn's converter writes them unless it is told otherwise.
fn maps() -> (NodeProto, ValueInfoProto) {
    let tensor_type = Some(TensorTypeProto { elem_type: element::FLOAT, shape: None });
    let entry = TypeProto { tensor_type, ..Default::default() };
    let map =
        coldstart::models::onnx_proto::MapTypeProto { key_type: element::INT64, value_type: Some(entry) };
    let element = TypeProto { map_type: Some(Box::new(map)), ..Default::default() };
    let sequence_type = Some(Box::new(SequenceTypeProto { elem_type: Some(element) }));
    let r#type = Some(TypeProto { sequence_type, ..Default::default() });
    let name = "classlabels_int64s".into();
    let names = AttributeProto { name, ints: vec![0, 1], r#type: attribute::INTS, ..Default::default() };
    (node("ZipMap", &["p"], &["maps"], vec![names]), ValueInfoProto { name: "maps".into(), r#type })
}

#[test]
fn sound_graphs_score_whatever_types_they_declare() {
    let (zip, maps) = maps();
    let wide = node("Cast", &["p"], &["q"], vec![integer("to", i64::from(element::DOUBLE))]);
    let mut doubles = model(WIDTH, 2, vec![], vec![probabilities()]);
    let graph = doubles.graph.as_mut().expect("a graph");
    graph.input[0] = value("y", element::DOUBLE, WIDTH);
    graph.node.insert(0, node("Cast", &["y"], &["x"], vec![integer("to", i64::from(element::FLOAT))]));
    for model in [
        model(WIDTH, 2, vec![], vec![probabilities()]),
        model(WIDTH, 2, vec![zip], vec![maps]),
        model(WIDTH, 2, vec![wide], vec![value("q", element::DOUBLE, 2)]),
        doubles,
    ] {
        let work = Workdir::new();
        teach(&work, &model.encode_to_vec());
        for stage in ["profile", "score"] {
            work.coldstart(&["stage", stage, "../pipeline.toml", "--date", DATE]).is("stage_done");
        }
    }
}
