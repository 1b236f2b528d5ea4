//! The teacher that the job trains itself on the rows of all histories.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::workdir::{DATE, Workdir, floats, texts};

const OFF: [&str; 2] = ["--set", "relevance.pooled=off"];

/// Every number of every account in `soft_labels`, to the last bit, and the names of its columns.
fn soft_labels(work: &Workdir) -> (Vec<String>, BTreeMap<String, Vec<u64>>) {
    let table = work.published_table("soft_labels");
    let names: Vec<String> = table.schema().fields().iter().map(|f| f.name().clone()).collect();
    let numbers: Vec<Vec<f64>> = names[1..].iter().map(|c| floats(&table, c)).collect();
    let ids = texts(&table, "account_id").into_iter().flatten().enumerate();
    let rows = ids.map(|(i, id)| (id, numbers.iter().map(|c| c[i].to_bits()).collect())).collect();
    (names, rows)
}

/// The calculator of the published run, put aside under a name.
fn keep_calculator(work: &Workdir, name: &str) -> Value {
    let kept = work.path(&format!("out/_runs/couriers/ds={DATE}/explanation/calculator.json"));
    fs::copy(&kept, work.path(name)).expect("kept");
    serde_json::from_slice(&work.bytes(name)).expect("a calculator")
}

/// The row of the pooled teacher in a table with a row for each.
fn row(work: &Workdir, table: &str) -> impl Fn(&str) -> f64 {
    let table = work.published_table(table);
    let row = texts(&table, "teacher").iter().position(|t| t.as_deref() == Some("pooled"));
    let row = row.expect("a row of the pooled teacher");
    move |column| floats(&table, column)[row]
}

#[test]
fn the_job_trains_a_teacher_of_its_own_and_says_what_it_is_worth() {
    let work = Workdir::new();
    let verdict = work.run(&[]).is("published").result()["verdict"].clone();
    assert!(
        verdict.as_str().expect("words").contains("The pooled teacher, trained by this job on"),
        "{verdict}"
    );
    let labels = work.published_table("soft_labels");
    let share = floats(&labels, "w_pooled")[0];
    assert!(share > 0.0 && share < 1.0, "{share}");
    let weights: Vec<Vec<f64>> =
        ["bazaar", "studio", "wallet", "pooled"].iter().map(|t| floats(&labels, &format!("w_{t}"))).collect();
    for i in 0..labels.num_rows() {
        assert!((weights.iter().map(|w| w[i]).sum::<f64>() - 1.0).abs() < 1e-9);
    }
    let relevance = row(&work, "relevance");
    assert!((relevance("weight") - share).abs() < 1e-12 && relevance("foreign_loss") > 0.0);
    let dropped = row(&work, "relevance_drop_one");
    assert!(dropped("moved") > 0.0 && dropped("loss_change").is_finite() && dropped("rehearsals") == 3.0);

    let calculator = keep_calculator(&work, "calculator.json");
    let pooled = &calculator["pooled"];
    let importance = pooled["importance"].as_array().expect("numbers");
    assert_eq!(importance.len(), pooled["features"].as_array().expect("features").len());
    assert!((importance.iter().filter_map(Value::as_f64).sum::<f64>() - 1.0).abs() < 1e-9, "{importance:?}");
    // the mean of the three best places, and of two at nearly the middle, as far as there are rows enough
    let best = |r: &Value| {
        let losses = r["mixed"]["losses"].as_array().expect("a curve");
        let least =
            |a: &usize, b: &usize| losses[*a].as_f64().partial_cmp(&losses[*b].as_f64()).expect("numbers");
        (0..losses.len()).min_by(least).expect("one") as f64 / (losses.len() - 1) as f64
    };
    let sum: f64 = calculator["rehearsals"].as_array().expect("a table").iter().map(best).sum();
    let rows = pooled["rows"].as_f64().expect("a count");
    assert!((share - (sum + rows / (rows + 1000.0)) / 5.0).abs() < 1e-9, "{share}");

    let id = texts(&labels, "account_id")[7].clone().expect("an id");
    let said = work.coldstart(&["explain", "../pipeline.toml", &id, "--date", DATE]).is("explained").result();
    let teachers = said["teachers"].as_array().expect("teachers");
    let view = teachers.iter().find(|t| t["teacher"] == "pooled").expect("it is explained");
    assert_eq!(view["support"], json!(null));
    assert!(view["without"]["p"]["fraud"].as_f64() != said["label"]["p"]["fraud"].as_f64());
}

#[test]
fn without_it_everything_is_as_if_it_had_never_been_trained() {
    let work = Workdir::new();
    work.run(&OFF).is("published");
    let (names, plain) = soft_labels(&work);
    assert!(!names.contains(&"w_pooled".to_string()), "{names:?}");
    assert_eq!(keep_calculator(&work, "plain.json").get("pooled"), None);
    work.run(&["--set", "relevance.calculator=plain.json", "--replace"]).is("published");
    assert!(soft_labels(&work) == (names.clone(), plain.clone()), "a saved calculator is used as it is");

    work.run(&["--replace"]).is("published");
    let mixed = soft_labels(&work);
    assert!(mixed.0.contains(&"w_pooled".to_string()) && mixed.1 != plain);
    keep_calculator(&work, "mixed.json");
    let saved = ["--set", "relevance.calculator=mixed.json", "--replace"];
    work.run(&saved).is("published");
    assert!(soft_labels(&work) == mixed, "a saved pooled teacher is used as it is");
    work.run(&[&saved[..], &OFF].concat()).is("published");
    assert!(soft_labels(&work) == (names, plain), "switched off, a saved one leaves no trace");
}

#[test]
fn neither_order_of_teachers_nor_threads_change_it_and_known_shares_move_the_mixed_label() {
    let work = Workdir::new();
    let on = |threads: &str| {
        let run = ["run", "../pipeline.toml", "--date", DATE, "--replace", "--threads", threads];
        work.coldstart(&run).is("published");
    };
    on("1");
    let before = soft_labels(&work);
    let text = String::from_utf8(work.bytes("pipeline.toml")).expect("text");
    let turned = text
        .replace("teachers/bazaar", "teachers/X")
        .replace("teachers/studio", "teachers/bazaar")
        .replace("teachers/X", "teachers/studio");
    work.write_text("pipeline.toml", &turned);
    on("3");
    assert!(soft_labels(&work) == before);

    work.run(&["--set", "target.class_shares={ fraud = 0.2 }", "--replace"]).is("published");
    let fraud = floats(&work.published_table("soft_labels"), "p_fraud");
    let mean = fraud.iter().sum::<f64>() / fraud.len() as f64;
    assert!((mean - 0.2).abs() < 1e-6, "{mean}");
}

#[test]
fn its_name_is_reserved() {
    let work = Workdir::new();
    work.edit("teachers/bazaar/teacher.toml", "name = \"bazaar\"", "name = \"pooled\"");
    let error = work.run(&[]).error(65);
    assert_eq!((error["key"].as_str(), error["value"].as_str()), (Some("name"), Some("pooled")), "{error}");
}
