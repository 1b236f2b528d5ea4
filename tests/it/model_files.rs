//! What model files say of themselves against `teacher.toml`, and bundles that `teacher add` makes of them. The
//! models and their libraries' own numbers are those of `fixtures/shapes/make.py`.

use std::fs;
use std::sync::Arc;

use crate::workdir::{DATE, Ran, Workdir, fixture, floats, read, texts, with};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

const PIPELINE: &str = "name = \"scores\"\nclasses = [\"legit\", \"fraud\"]\n[target]\naccounts = \"accounts.parquet\"\n\
    id = \"id\"\n[[teachers]]\nbundle = \"odd\"\n[[teachers]]\nbundle = \"plain\"\n\
    classes = { legit = \"fraud\", fraud = \"legit\" }\n[output]\npath = \"out\"\n";

/// A pipeline over the shape's reference accounts: the shape as `odd`, and as `plain` with its classes swapped.
fn workdir(shape: &str) -> (Workdir, RecordBatch) {
    let work = Workdir::empty();
    let accounts = read(&fixture("predictions").join(format!("{shape}.parquet")));
    let ids = Int64Array::from_iter_values(0..accounts.num_rows() as i64);
    work.write_table("accounts.parquet", &with(&accounts, "id", Arc::new(ids)));
    for name in ["odd", "plain"] {
        for file in fs::read_dir(fixture("shapes").join(shape)).unwrap().flatten().map(|e| e.path()) {
            let to = format!("{name}/{}", file.file_name().unwrap().to_string_lossy());
            work.write_bytes(&to, &fs::read(&file).unwrap());
        }
        work.edit(
            &format!("{name}/teacher.toml"),
            &format!("name = \"{shape}\""),
            &format!("name = \"{name}\""),
        );
    }
    work.write_text("pipeline.toml", PIPELINE);
    (work, accounts)
}

fn check(work: &Workdir) -> Ran {
    work.coldstart(&["check", "../pipeline.toml"])
}

/// `check` refuses the shape after edits of its description, and says all of this.
fn refused(shape: &str, edits: &[(&str, &str)], said: &[(&str, &str)]) {
    let (work, _) = workdir(shape);
    edits.iter().for_each(|(from, to)| work.edit("odd/teacher.toml", from, to));
    says(&check(&work), 65, said);
}

fn says(ran: &Ran, code: i32, said: &[(&str, &str)]) {
    let error = ran.error(code);
    for (key, text) in said {
        assert!(error[*key].as_str().is_some_and(|v| v.contains(text)), "{key} says not {text:?}: {error}");
    }
}

#[test]
fn a_contradiction_is_refused_with_what_both_say() {
    let plan_id = "kind = \"category\"\nencode = \"code\"\nvalues = [10, 20, 25, 40]";
    refused(
        "lightgbm_whole_categories",
        &[(plan_id, "kind = \"number\"")],
        &[
            ("key", "features.kind"),
            ("the file says", "40, 25, 20, 10"),
            ("hint", "values = [40, 25, 20, 10]"),
        ],
    );
    refused(
        "lightgbm_reordered",
        &[("name = \"ratio\"", "name = \"cents\"")],
        &[("key", "features.name"), ("only in the file", "ratio"), ("only in teacher.toml", "cents")],
    );
    refused(
        "xgboost_named_categories",
        &[("values = [\"basic\", \"plus\", \"pro\"]", "values = [\"basic\", \"plus\"]")],
        &[
            ("key", "features.values"),
            ("the file says", "pro, basic, plus"),
            ("teacher.toml says", "basic, plus"),
        ],
    );
    refused(
        "xgboost_stopped",
        &[("[training]", "rounds = 1000\n\n[training]")],
        &[("key", "model.rounds"), ("value", "1000")],
    );
    refused(
        "onnx_batch_of_one",
        &[("[training]", "batch = 2\n\n[training]")],
        &[("key", "model.batch"), ("the file says", "1"), ("teacher.toml says", "2")],
    );
    let (work, _) = workdir("onnx_string_labels");
    work.edit("odd/teacher.toml", "[\"legit\", \"fraud\"]", "[\"ok\", \"bad\"]");
    work.edit(
        "pipeline.toml",
        "bundle = \"odd\"",
        "bundle = \"odd\"\nclasses = { ok = \"legit\", bad = \"fraud\" }",
    );
    let said =
        [("key", "model.classes"), ("the file says", "fraud, legit"), ("teacher.toml says", "ok, bad")];
    says(&check(&work), 65, &said);
}

#[test]
fn what_neither_file_nor_description_says_is_asked_for_by_its_key() {
    refused(
        "xgboost_own_missing",
        &[("\"fraud\"]\nmissing = -999", "\"fraud\"]")],
        &[("key", "model.missing"), ("column", "age")],
    );
    refused(
        "lightgbm_custom",
        &[("objective = \"binary\"\n", "")],
        &[("key", "model.objective"), ("the file says", "custom")],
    );
    refused("onnx_two_outputs", &[("output = \"p\"\n", "")], &[("value", "z, p"), ("hint", "output = ")]);
}

#[test]
fn check_refuses_what_a_run_would_refuse_when_it_scores() {
    let (work, accounts) = workdir("onnx_int64");
    let change = |age: Option<f64>| {
        let ages = floats(&accounts, "age").into_iter().enumerate();
        let ages: ArrayRef =
            Arc::new(Float64Array::from_iter(ages.map(|(i, v)| if i == 3 { age } else { Some(v) })));
        work.change("accounts.parquet", |t| with(&t, "age", ages));
    };
    change(Some(40.5));
    says(&check(&work), 65, &[("column", "age"), ("value", "40.5"), ("teacher", "odd")]);
    change(None);
    says(&check(&work), 65, &[("column", "age"), ("hint", "missing = VALUE")]);
    work.edit(
        "odd/teacher.toml",
        "name = \"age\"\nkind = \"number\"",
        "name = \"age\"\nkind = \"number\"\nmissing = 40.0",
    );
    work.edit(
        "plain/teacher.toml",
        "name = \"age\"\nkind = \"number\"",
        "name = \"age\"\nkind = \"number\"\nmissing = 40.0",
    );
    assert_eq!(check(&work).is("ok").result()["scored"], 64);
}

#[test]
fn check_says_what_the_file_decided() {
    for (shape, said) in [
        ("lightgbm_reordered", "order of the model file: age, income, logins, ratio"),
        (
            "lightgbm_whole_categories",
            "categories of plan are in the order of the model file: pro, basic, plus",
        ),
        ("xgboost_stopped", "rounds count, those of best_iteration"),
        ("xgboost_all_rounds", "as Booster.predict takes them"),
        ("onnx_zipmap", "ZipMap is cut off"),
        ("onnx_quantized", "one row at a time"),
        ("lightgbm_cents", "does not say the names of classes"),
    ] {
        let (work, _) = workdir(shape);
        let result = check(&work).is("ok").result();
        let odd = result["teachers"].as_array().unwrap().iter().find(|t| t["name"] == "odd").unwrap();
        assert!(odd["notes"].to_string().contains(said), "{shape}: {odd}");
    }
}

/// The shape's reference accounts as a history, labelled by what the model says of them.
fn write_history(work: &Workdir, accounts: &RecordBatch) {
    let p = floats(accounts, "p_fraud");
    let both = p.iter().any(|p| *p > 0.5) && p.iter().any(|p| *p <= 0.5);
    let mut sorted = p.clone();
    sorted.sort_by(f64::total_cmp);
    // a model that calls nobody a fraud is followed in whom it suspects most
    let cut = if both { 0.5 } else { sorted[sorted.len() / 2] };
    let labels = StringArray::from_iter_values(p.iter().map(|p| if *p > cut { "fraud" } else { "legit" }));
    let mut history = with(accounts, "label", Arc::new(labels));
    for name in ["p_legit", "p_fraud"] {
        history = crate::workdir::without(&history, name);
    }
    work.write_table("history.parquet", &history);
}

fn add(work: &Workdir, shape: &str, more: &[&str]) -> Ran {
    let folder = fixture("shapes").join(shape);
    let mut files = fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    let model = files.find(|f| f.file_stem().is_some_and(|s| s == "model")).unwrap();
    let history = ["--history", "../history.parquet", "--label", "label"];
    let start = ["teacher", "add", model.to_str().unwrap(), "-o", "../made"];
    work.coldstart(&[&start, &history[..], more].concat())
}

#[test]
fn a_bundle_is_made_of_what_model_and_history_say() {
    for (shape, more) in [
        ("lightgbm_reordered", vec![]),
        ("lightgbm_cents", vec![]),
        ("lightgbm_whole_categories", vec![]),
        ("lightgbm_dummies", vec![]),
        ("lightgbm_other_name", vec!["--column", "years_old=age"]),
        ("xgboost_stopped", vec![]),
        ("xgboost_named_categories", vec![]),
        ("xgboost_zero_missing", vec!["--missing", "0"]),
        ("onnx_zipmap", vec![]),
        ("onnx_int64", vec![]),
        // its outputs hardly differ between accounts, so that labels cannot tell one from the other
        ("onnx_outside", vec!["--classes", "legit,fraud"]),
        ("onnx_catboost", vec![]),
    ] {
        let (work, accounts) = workdir(shape);
        write_history(&work, &accounts);
        let added = add(&work, shape, &more).is("added").result();
        // in the order of the file, where it names them
        let named = shape == "onnx_zipmap";
        let classes = if named { ["fraud", "legit"] } else { ["legit", "fraud"] };
        assert_eq!(added["classes"], serde_json::json!(classes), "{shape}: {added}");
        let proved = added["proof"]["accuracy"].as_f64().unwrap() > 0.99;
        assert!(proved || shape == "onnx_outside", "{shape}: {added}");
        work.edit("pipeline.toml", "bundle = \"odd\"", "bundle = \"made\"");
        for stage in ["profile", "score"] {
            work.coldstart(&[
                "stage",
                stage,
                "../pipeline.toml",
                "--date",
                DATE,
                "--set",
                "relevance.min_training_rows=1",
                "--set",
                "relevance.min_class_rows=1",
            ])
            .is("stage_done");
        }
        let scores = work.parts(&format!("out/_runs/scores/ds={DATE}/score/scores"));
        let (ours, theirs) = (floats(&scores, "t0_1"), floats(&accounts, "p_fraud"));
        let gap = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(gap < 1e-6, "{shape}: {gap}");
    }
}

#[test]
fn labels_of_floats_are_whole_and_a_history_of_one_class_is_refused() {
    let shape = "xgboost_stopped";
    let (work, accounts) = workdir(shape);
    write_history(&work, &accounts);
    let labels = texts(&work.table("history.parquet"), "label");
    let put = |of: &dyn Fn(bool) -> f64| {
        let numbers: Float64Array = labels.iter().map(|l| Some(of(l.as_deref() == Some("fraud")))).collect();
        work.change("history.parquet", |history| with(&history, "label", Arc::new(numbers)));
    };
    put(&f64::from);
    assert_eq!(add(&work, shape, &[]).is("added").result()["classes"], serde_json::json!(["0", "1"]));
    let described = String::from_utf8(work.bytes("made/teacher.toml")).expect("text");
    assert!(described.starts_with("#:schema ./.schema.json\n"), "{described}");
    let schema = work.coldstart(&["schema", "bundle"]).stdout;
    assert_eq!(String::from_utf8(work.bytes("made/.schema.json")).expect("text"), schema);
    put(&|_| 1.0);
    fs::remove_dir_all(work.path("made")).expect("the bundle");
    says(&add(&work, shape, &[]), 65, &[("column", "label"), ("value", "1")]);
}

#[test]
fn what_nobody_says_is_asked_for_by_its_flag_and_nothing_is_left_behind() {
    let asked = |shape: &str, more: &[&str], flag: &str| {
        let (work, accounts) = workdir(shape);
        write_history(&work, &accounts);
        let before = work.files("").into_keys().collect::<Vec<_>>();
        says(&add(&work, shape, more), 2, &[("argument", flag)]);
        assert_eq!(work.files("").into_keys().collect::<Vec<_>>(), before);
    };
    asked("lightgbm_other_name", &[], "--column");
    asked("onnx_two_outputs", &["--leave-out", "age"], "--features");
    asked("onnx_zipmap", &["--classes", "fraud,legit,bot"], "--classes");
    let (work, accounts) = workdir("xgboost_stopped");
    write_history(&work, &accounts);
    add(&work, "xgboost_stopped", &[]).is("added");
    says(&add(&work, "xgboost_stopped", &[]), 73, &[("file", "made")]);
}
