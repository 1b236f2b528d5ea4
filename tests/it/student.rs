//! Students outside of their module: as ONNX in ONNX Runtime, and through linfa's traits.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::workdir::python;
use coldstart::student::{
    Family, Input, Kind, Sample, Settings, Student, fit_one, from_json, to_json, to_onnx,
};
use serde_json::json;

/// Repeatable numbers in [0, 1): a linear congruential generator.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Accounts with two numbers, a constant, and categories of few and of many levels; nulls in all but the
/// first.
struct Accounts {
    columns: Vec<Vec<f32>>,
    kinds: Vec<Kind>,
    levels: Vec<Vec<String>>,
}

const NAMES: [&str; 5] = ["/3", "year opened", "constant", "länder", "job"];

impl Accounts {
    fn new(rows: usize) -> Accounts {
        let mut draw = Numbers(11);
        let mut column = |nulls: f64, of: fn(f64) -> f64| -> Vec<f32> {
            (0..rows)
                .map(|_| (draw.next() < nulls, of(draw.next())))
                .map(|(null, v)| if null { f32::NAN } else { v as f32 })
                .collect()
        };
        let columns = vec![
            column(0.0, |u| 3.0 * u - 1.5),
            column(0.2, |u| (2010.0 + 15.0 * u).floor()),
            column(0.0, |_| 7.0),
            column(0.1, |u| (u * 4.0).floor()),
            column(0.05, |u| (u * u * 300.0).floor()),
        ];
        let kinds = vec![
            Kind::Number,
            Kind::Number,
            Kind::Number,
            Kind::Category { levels: 4 },
            Kind::Category { levels: 300 },
        ];
        let names = |count: usize| (0..count).map(|i| format!("level é {i}")).collect();
        Accounts { columns, kinds, levels: vec![vec![], vec![], vec![], names(4), names(300)] }
    }

    fn soft(&self, classes: usize) -> Vec<f64> {
        let logit = |row: usize, class: usize| {
            let [a, year, _, land, job] = [0, 1, 2, 3, 4].map(|j| f64::from(self.columns[j][row]));
            let late = if year.is_nan() { 0.5 } else { f64::from(u8::from(year > 2018.0)) };
            let of_land = if land == 2.0 { 1.2 } else { 0.0 };
            class as f64 * (a + late - of_land + 0.4 * (job / 40.0).sin().max(-1.0))
        };
        let row = |row: usize| -> Vec<f64> {
            let e: Vec<f64> = (0..classes)
                .map(|class| logit(row, class))
                .map(|z| if z.is_nan() { 1.0 } else { z.exp() })
                .collect();
            e.iter().map(|v| v / e.iter().sum::<f64>()).collect()
        };
        (0..self.columns[0].len()).flat_map(row).collect()
    }

    fn fit(&self, family: Family, classes: usize, settings: &Settings) -> Box<dyn Student> {
        let columns: Vec<&[f32]> = self.columns.iter().map(Vec::as_slice).collect();
        let weights = vec![1.0; columns[0].len()];
        let sample = Sample {
            columns: &columns,
            kinds: &self.kinds,
            soft: &self.soft(classes),
            weights: &weights,
            classes,
        };
        fit_one(family, &sample, 1, settings).expect("a fit")
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        NAMES.iter().zip(&self.levels).map(|(name, levels)| Input { name, levels }).collect()
    }

    /// The columns as texts and numbers; a code that is no level is a text that the student does not know.
    fn raw(&self) -> serde_json::Value {
        let value = |j: usize, v: f32| match &self.kinds[j] {
            _ if v.is_nan() => json!(null),
            Kind::Number => json!(v),
            Kind::Category { .. } => json!(self.levels[j].get(v as usize).map_or("unseen", String::as_str)),
        };
        let column = |j: usize| {
            let values: Vec<_> = self.columns[j].iter().map(|v| value(j, *v)).collect();
            json!({"name": NAMES[j], "category": self.kinds[j] != Kind::Number, "values": values})
        };
        (0..NAMES.len()).map(column).collect()
    }
}

fn predict(student: &dyn Student, accounts: &Accounts) -> Vec<f64> {
    let columns: Vec<&[f32]> = accounts.columns.iter().map(Vec::as_slice).collect();
    let mut out = vec![0.0; columns[0].len() * student.classes()];
    student.predict(&columns, &mut out);
    out
}

fn in_onnx_runtime(model: &[u8], accounts: &Accounts) -> Vec<f64> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("student-{}-{call}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (model_file, columns_file) = (folder.join("model.onnx"), folder.join("columns.json"));
    std::fs::write(&model_file, model).expect("written");
    std::fs::write(&columns_file, accounts.raw().to_string()).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/onnx_scores.py");
    let output =
        Command::new(python()).arg(script).arg(model_file).arg(columns_file).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Vec<f64>> = serde_json::from_slice(&output.stdout).expect("JSON");
    rows.concat()
}

#[test]
fn every_family_says_the_same_in_onnx_runtime() {
    let accounts = Accounts::new(1500);
    // what the student has not seen: unknown levels, nulls where there were none, numbers far outside
    let mut others = Accounts::new(400);
    others.columns[0].iter_mut().step_by(7).for_each(|v| *v = f32::NAN);
    others.columns[1].iter_mut().step_by(11).for_each(|v| *v = 1e9);
    others.columns[2].iter_mut().step_by(3).for_each(|v| *v = f32::NAN);
    others.columns[4].iter_mut().step_by(5).for_each(|v| *v = 300.0);
    let mut settings = Settings::default();
    (settings.boosted.rounds, settings.boosted.rounds_on_start, settings.forest.trees) = (40, 20, 10);
    let mut on_start = settings.clone();
    on_start.boosted.start_rows = 0;
    for classes in [2, 3] {
        let of_family = Family::ALL.map(|family| (family, settings.clone()));
        for (family, settings) in of_family.into_iter().chain([(Family::Boosted, on_start.clone())]) {
            let student = accounts.fit(family, classes, &settings);
            let model = to_onnx(student.as_ref(), &accounts.inputs()).expect("an export");
            for rows in [&accounts, &others] {
                let (ours, theirs) = (predict(student.as_ref(), rows), in_onnx_runtime(&model, rows));
                let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(
                    ours.len() == theirs.len() && off < 1e-6,
                    "{} of {classes} classes: {off:e}",
                    family.name()
                );
            }
        }
    }
}

#[test]
fn a_constant_student_exports_too() {
    let accounts = Accounts::new(30);
    let columns = vec![vec![1.0f32; 30]; 5];
    let flat = Accounts { columns, ..accounts };
    for family in Family::ALL {
        let student = flat.fit(family, 2, &Settings::default());
        let theirs = in_onnx_runtime(&to_onnx(student.as_ref(), &flat.inputs()).expect("an export"), &flat);
        let off = predict(student.as_ref(), &flat)
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(off < 1e-6, "{}: {off:e}", family.name());
    }
}

#[test]
fn inputs_that_are_not_the_students_are_refused() {
    let accounts = Accounts::new(200);
    let student = accounts.fit(Family::Logistic, 2, &Settings::default());
    let refused = |change: fn(&mut Vec<Input>)| {
        let mut inputs = accounts.inputs();
        change(&mut inputs);
        to_onnx(student.as_ref(), &inputs).is_err()
    };
    assert!(refused(|inputs| inputs.truncate(4)));
    assert!(refused(|inputs| inputs[0].name = "job"));
    assert!(refused(|inputs| inputs[0].name = "probabilities"));
    assert!(refused(|inputs| inputs[0].name = ""));
    assert!(refused(|inputs| inputs[4].levels = &inputs[4].levels[..10]));
}

#[test]
fn a_student_that_was_read_back_exports_the_same_bytes() {
    let accounts = Accounts::new(300);
    for family in Family::ALL {
        let student = accounts.fit(family, 3, &Settings::default());
        let back = from_json(&to_json(student.as_ref()).expect("JSON")).expect("the same student");
        assert_eq!(
            to_onnx(student.as_ref(), &accounts.inputs()).ok(),
            to_onnx(back.as_ref(), &accounts.inputs()).ok()
        );
    }
}
