//! Every committed bundle, scored through the command line, against what the model's own library said in
//! Python.

use std::fs;
use std::sync::Arc;

use arrow::array::Int64Array;

use crate::workdir::{DATE, Workdir, fixture, floats, read, with};

/// The greatest difference to the library's probability.
const TOLERANCE: f64 = 1e-6;

/// Writes the bundle without its history, twice: a run takes two teachers. Their classes.
fn write_bundles(work: &Workdir, folder: &str) -> Vec<String> {
    let text = fs::read_to_string(fixture(folder).join("teacher.toml")).expect("a bundle");
    let mut bundle: toml::Table = text.parse().expect("TOML");
    bundle.remove("history");
    let classes = bundle["model"]["classes"].as_array().expect("classes").iter();
    let classes = classes.map(|c| c.as_str().expect("text").to_string()).collect();
    for name in ["as_it_is", "reversed"] {
        bundle.insert("name".into(), name.into());
        for file in fs::read_dir(fixture(folder)).expect("a bundle").flatten().map(|e| e.path()) {
            let name_of = file.file_name().expect("a name").to_string_lossy().into_owned();
            if !["teacher.toml", "history.parquet"].contains(&name_of.as_str()) {
                work.write_bytes(&format!("{name}/{name_of}"), &fs::read(&file).expect("a file"));
            }
        }
        work.write_text(&format!("{name}/teacher.toml"), &bundle.to_string());
    }
    classes
}

/// Scores the accounts of `predictions/NAME.parquet` with the bundle.
fn agrees(folder: &str, name: &str) {
    let work = Workdir::empty();
    let classes = write_bundles(&work, &format!("{folder}/{name}"));
    let accounts = read(&fixture("predictions").join(format!("{name}.parquet")));
    let ids = Int64Array::from_iter_values(0..accounts.num_rows() as i64);
    work.write_table("accounts.parquet", &with(&accounts, "id", Arc::new(ids)));
    // two that say the same are one: the classes of the second mean others
    let swapped: Vec<String> =
        classes.iter().zip(classes.iter().rev()).map(|(from, to)| format!("{from:?} = {to:?}")).collect();
    let teachers = format!(
        "[[teachers]]\nbundle = \"as_it_is\"\n[[teachers]]\nbundle = \"reversed\"\nclasses = {{ {} }}",
        swapped.join(", ")
    );
    let target = "[target]\naccounts = \"accounts.parquet\"\nid = \"id\"";
    work.write_text(
        "pipeline.toml",
        &format!(
            "name = \"scores\"\nclasses = {classes:?}\n{target}\n{teachers}\n[output]\npath = \"out\"\n"
        ),
    );
    for stage in ["profile", "score"] {
        work.coldstart(&["stage", stage, "../pipeline.toml", "--date", DATE]).is("stage_done");
    }
    assert!(
        ["home", "tmp", "cwd"].iter().all(|folder| work.files(folder).is_empty()),
        "{name}: ONNX Runtime leaves traces"
    );
    let scores = work.parts(&format!("out/_runs/scores/ds={DATE}/score/scores"));
    assert_eq!(scores.num_rows(), accounts.num_rows(), "{name}");
    for (c, class) in classes.iter().enumerate() {
        let (ours, theirs) = (floats(&scores, &format!("t0_{c}")), floats(&accounts, &format!("p_{class}")));
        for (row, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!(
                (a - b).abs() <= TOLERANCE,
                "{name}, account {row}, class {class}: {a}, its library says {b}"
            );
        }
    }
}

#[test]
fn teachers_of_two_classes_say_what_their_libraries_say() {
    ["bazaar", "wallet", "lender"].iter().for_each(|name| agrees("teachers", name));
}

#[test]
fn teachers_of_four_classes_say_what_their_libraries_say() {
    ["forum", "chat", "reviews"].iter().for_each(|name| agrees("teachers4", name));
}

#[test]
fn models_of_other_shapes_say_what_their_libraries_say() {
    let mut names: Vec<String> = fs::read_dir(fixture("shapes"))
        .expect("shapes")
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.iter().for_each(|name| agrees("shapes", name));
}

#[test]
fn every_reference_prediction_has_a_bundle_and_every_bundle_a_prediction() {
    let mut bundles: Vec<String> = ["teachers", "teachers4", "shapes"]
        .iter()
        .flat_map(|folder| fs::read_dir(fixture(folder)).expect("bundles").flatten())
        .filter(|e| e.path().join("teacher.toml").is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        // a student of ours has no library but this one
        .filter(|name| name != "studio")
        .collect();
    let mut predictions: Vec<String> = fs::read_dir(fixture("predictions"))
        .expect("predictions")
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().strip_suffix(".parquet").map(str::to_string))
        .collect();
    bundles.sort();
    predictions.sort();
    assert_eq!(bundles, predictions);
}
