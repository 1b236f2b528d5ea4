//! The tree engine against the libraries that trained the models: every case of `fixtures/trees/cases` (or of
//! the folder that COLDSTART_TREE_CASES names, for the long run that `make_cases.py` describes).

use std::path::{Path, PathBuf};

use coldstart::error::Result;
use coldstart::models::trees::engine::{Engine, Scratch};
use coldstart::models::trees::ensemble::Ensemble;
use coldstart::models::trees::{lightgbm, onnx, xgboost};

/// Inputs of the graphs that take one for each column.
const NAMES: [&str; 9] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"];

/// A model file, rows column by column, and the probabilities that its library gives, row-major.
struct Case {
    name: String,
    /// Columns of the rows, where the model is an ONNX graph.
    onnx: Option<usize>,
    model: Vec<u8>,
    columns: Vec<Vec<f32>>,
    expected: Vec<f64>,
}

impl Case {
    fn read(rows: &Path) -> Case {
        let model = ["txt", "json", "ubj", "onnx"]
            .map(|ending| rows.with_extension(ending))
            .into_iter()
            .find(|path| path.exists())
            .expect("a model beside the rows");
        let bytes = read(rows);
        let word = |at: usize| u32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().expect("four bytes"));
        let (count, features) = (word(0) as usize, word(1) as usize);
        let columns = (0..features)
            .map(|f| (0..count).map(|r| f32::from_bits(word(3 + r * features + f))).collect())
            .collect();
        let expected = bytes[12 + 4 * count * features..]
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect();
        let mut case = Case {
            name: rows.display().to_string(),
            onnx: model.extension().is_some_and(|e| e == "onnx").then_some(features),
            model: read(&model),
            columns,
            expected,
        };
        if case.onnx.is_some() {
            let graph = onnx::parse(&case.model, features, &NAMES[..features])
                .expect("a sound graph")
                .expect("a graph of trees");
            let inputs: Vec<&[f32]> = case.columns.iter().map(Vec::as_slice).collect();
            case.columns = graph.columns.iter().map(|p| p.of(&inputs).into_owned()).collect();
        }
        case
    }

    fn parse(&self) -> Ensemble {
        self.parse_bytes(&self.model)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
            .expect("a model for the engine")
    }

    /// Another model in this one's format; None if an ONNX graph is not for the engine.
    fn parse_bytes(&self, bytes: &[u8]) -> Result<Option<Ensemble>> {
        match (self.onnx, bytes) {
            (Some(features), _) => {
                Ok(onnx::parse(bytes, features, &NAMES[..features])?.map(|graph| graph.ensemble))
            }
            (None, [b't', b'r', b'e', b'e', ..]) => lightgbm::parse(bytes).map(Some),
            _ => xgboost::parse(bytes).map(Some),
        }
    }

    /// LightGBM's float64 must be met but for the last bits of `exp`; the others end in float32.
    fn tolerance(&self) -> f64 {
        if self.model.starts_with(b"tree") { 1e-14 } else { 2e-7 }
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn cases() -> Vec<Case> {
    let folder = std::env::var_os("COLDSTART_TREE_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trees/cases"), PathBuf::from);
    let entries =
        std::fs::read_dir(folder).expect("the folder of cases").map(|entry| entry.expect("an entry").path());
    let mut rows: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "rows")).collect();
    rows.sort();
    assert!(!rows.is_empty());
    rows.iter().map(|path| Case::read(path)).collect()
}

fn predict(engine: &Engine, columns: &[Vec<f32>]) -> Vec<f64> {
    let rows = columns.first().map_or(0, Vec::len);
    let mut out = vec![f64::NAN; rows * engine.classes()];
    let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
    engine.predict(&columns, &mut out, &mut Scratch::default());
    out
}

#[test]
fn probabilities_are_those_of_the_library() {
    for case in cases() {
        let engine = Engine::new(&case.parse()).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let found = predict(&engine, &case.columns);
        assert_eq!(found.len(), case.expected.len(), "{}", case.name);
        for (at, (p, expected)) in found.iter().zip(&case.expected).enumerate() {
            let row: Vec<f32> = case.columns.iter().map(|c| c[at / engine.classes()]).collect();
            assert!(
                (p - expected).abs() <= case.tolerance(),
                "{}: row {} is {p}, expected {expected}: {row:?}",
                case.name,
                at / engine.classes()
            );
        }
    }
}

#[test]
fn the_engine_gives_the_bits_of_the_definition() {
    for case in cases() {
        let model = case.parse();
        let engine = Engine::new(&model).unwrap();
        let found = predict(&engine, &case.columns);
        let mut expected = vec![0.0; engine.classes()];
        for (r, p) in found.chunks_exact(engine.classes()).enumerate() {
            let row: Vec<f64> = case.columns.iter().map(|c| f64::from(c[r])).collect();
            model.predict_row(&row, &mut expected);
            assert_eq!(p, expected, "{}: {row:?}", case.name);
        }
    }
}

#[test]
fn a_row_scores_alike_in_any_block() {
    let mut scratch = Scratch::default();
    for case in cases() {
        let engine = Engine::new(&case.parse()).unwrap();
        let rows: Vec<Vec<f32>> =
            case.columns.iter().map(|c| c.iter().cycle().take(1100).copied().collect()).collect();
        let whole = predict(&engine, &rows);
        for range in [0..1, 3..64, 500..1013, 511..513] {
            let part: Vec<&[f32]> = rows.iter().map(|c| &c[range.clone()]).collect();
            let mut out = vec![0.0; range.len() * engine.classes()];
            engine.predict(&part, &mut out, &mut scratch);
            assert_eq!(
                out,
                whole[range.start * engine.classes()..range.end * engine.classes()],
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn damaged_models_end_in_an_error_or_a_sound_model() {
    for case in cases() {
        for part in 1..40 {
            let cut = case.model.len() * part / 40;
            assert!(
                !matches!(case.parse_bytes(&case.model[..cut]), Ok(Some(_))),
                "{} cut at {cut}",
                case.name
            );
        }
        // whatever a flipped byte means, it is refused or scored without a fault
        for turn in 0..60usize {
            let mut bytes = case.model.clone();
            let at = turn.wrapping_mul(2_654_435_761) % bytes.len();
            bytes[at] = bytes[at].wrapping_add(1 + turn as u8 % 7);
            if let Ok(Some(model)) = case.parse_bytes(&bytes)
                && let Ok(engine) = Engine::new(&model)
                && engine.features() == case.columns.len()
            {
                predict(&engine, &case.columns);
            }
        }
    }
}
