//! Every parser of bytes that may come from a stranger. Fuzzing and the replay of its corpus
//! (`tests/it/corpus.rs`) feed them alike.

use coldstart::error::{Error, Result};
use coldstart::lake::scan::footer;
use coldstart::models::trees;
use coldstart::models::trees::engine::{Engine, Scratch};
use coldstart::models::trees::ensemble::Ensemble;
use coldstart::models::trees::onnx::columns::Prepared;
use coldstart::relevance::profile::bins::{common_edges, common_levels};
use coldstart::relevance::profile::profiles::Summary;
use coldstart::relevance::shared::file::SketchFile;
use coldstart::student;
use coldstart::teacher::bundle::Bundle;

/// A parser by the name of its fuzz target and of its folder in the corpus. What it reads it also uses, as
/// the job would.
pub type Parser = fn(&[u8]) -> Result<()>;

#[allow(unused, reason = "a fuzz target uses one of them")]
pub const PARSERS: [(&str, Parser); 8] = [
    ("footer", footer),
    ("lightgbm", lightgbm),
    ("onnx", onnx),
    ("sketch", sketch),
    ("student", student),
    ("teacher_toml", teacher_toml),
    ("xgboost_json", xgboost_json),
    ("xgboost_ubjson", xgboost_ubjson),
];

pub fn footer(bytes: &[u8]) -> Result<()> {
    footer::check(bytes.len() as u64, |start, length| bytes.get(start as usize..)?.get(..length))
}

pub fn lightgbm(bytes: &[u8]) -> Result<()> {
    score(&trees::lightgbm::parse(bytes)?, None)
}

pub fn xgboost_json(bytes: &[u8]) -> Result<()> {
    score(&trees::xgboost::parse(bytes)?, None)
}

pub fn xgboost_ubjson(bytes: &[u8]) -> Result<()> {
    score(&trees::xgboost::parse(bytes)?, None)
}

/// Inputs of the graphs that take one for each column.
const NAMES: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];

/// Over six columns, as the models of the corpus are. A graph for a runtime is none of our parsers' business.
pub fn onnx(bytes: &[u8]) -> Result<()> {
    trees::onnx::parse(bytes, 6, &NAMES)?.map_or(Ok(()), |graph| score(&graph.ensemble, Some(&graph.columns)))
}

pub fn student(bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::data("not UTF-8 text"))?;
    let student = student::from_json(text)?;
    let columns = rows(student.kinds().len());
    let mut out = vec![0.0; ROWS * student.classes()];
    student.predict(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
    for p in out.chunks_exact(student.classes()) {
        assert!(
            p.iter().all(|p| *p >= 0.0) && (p.iter().sum::<f64>() - 1.0).abs() < 1e-9,
            "no distribution: {p:?}"
        );
    }
    let again = student::from_json(&student::to_json(student.as_ref())?)?;
    let mut same = vec![0.0; out.len()];
    again.predict(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut same);
    assert_eq!(out, same, "saved and read again");
    Ok(())
}

pub fn teacher_toml(bytes: &[u8]) -> Result<()> {
    let bundle = Bundle::parse(bytes)?;
    assert!(bundle.matrix_width() >= 1 || bundle.features.iter().all(|f| f.values.is_empty()));
    let _ = bundle.files();
    Ok(())
}

pub fn sketch(bytes: &[u8]) -> Result<()> {
    let file = SketchFile::parse(bytes)?;
    for summary in file.features.values() {
        let rows = summary.rows();
        assert!(rows == file.rows || file.privacy.is_some());
        let counts = match summary {
            Summary::Number(s) => s.coarse(7).bin_counts(&common_edges(&[s, s])),
            Summary::Category(s) => s.coarse(7, 2).bin_counts(&common_levels(&[s, s])),
        };
        assert_eq!(counts.iter().sum::<u64>(), rows);
    }
    Ok(())
}

/// Rows of the columns that models are tried on.
const ROWS: usize = 20;

/// Columns of values that are hard to compare, in another order in each.
fn rows(columns: usize) -> Vec<Vec<f32>> {
    const HARD: [f32; ROWS] = [
        f32::NAN,
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.0,
        -1.0,
        2.0,
        3.0,
        7.0,
        1e-45,
        -1e-45,
        1e-35,
        -1e-35,
        1e38,
        -1e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        16_777_216.0,
        1e9,
    ];
    (0..columns).map(|j| (0..ROWS).map(|r| HARD[(r * (2 * (j % 5) + 1) + j) % ROWS]).collect()).collect()
}

/// Whatever model is accepted is compiled, and gives the bits of its definition.
fn score(model: &Ensemble, prepared: Option<&[Prepared]>) -> Result<()> {
    let engine = Engine::new(model)?;
    if model.features > 1000 || model.outputs > 1000 {
        return Ok(());
    }
    let mut columns = rows(if prepared.is_some() { NAMES.len() } else { model.features });
    if let Some(prepared) = prepared {
        let inputs: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
        columns = prepared.iter().map(|p| p.of(&inputs).into_owned()).collect();
    }
    let mut out = vec![0.0; ROWS * engine.classes()];
    engine.predict(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out, &mut Scratch::default());
    let mut expected = vec![0.0; engine.classes()];
    for (r, found) in out.chunks_exact(engine.classes()).enumerate() {
        model.predict_row(&columns.iter().map(|c| f64::from(c[r])).collect::<Vec<f64>>(), &mut expected);
        let same = |a: &f64, b: &f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(
            found.iter().zip(&expected).all(|(a, b)| same(a, b)),
            "row {r}: {found:?}, by definition {expected:?}"
        );
    }
    Ok(())
}
