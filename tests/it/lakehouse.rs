//! Tables and places that need the feature `lakehouse`: what the program does that has it, and what the one says that
//! has not. `make lakehouse-test` reads the tables back with programs that are not ours, and has the object stores.

#[cfg(not(feature = "lakehouse"))]
#[test]
fn what_the_program_lacks_is_refused_with_the_command_that_builds_the_one_that_has_it() {
    let work = crate::workdir::Workdir::new();
    for (set, code) in [
        ("target.accounts=s3://lake/accounts", 78),
        ("output.path=s3://lake/out", 78),
        ("output.format=delta", 78),
    ] {
        let error = work.coldstart(&["check", "../pipeline.toml", "--set", set]).error(code);
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("make lakehouse")), "{set}: {error}");
    }
}

#[cfg(feature = "lakehouse")]
mod with_it {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use arrow::array::{ArrayRef, UInt64Array};
    use arrow::datatypes::DataType;
    use serde_json::{Value, json};

    use crate::workdir::{DATE, PART_0, PART_1, Ran, Workdir, floats, read, texts, with};

    const DELTA: [&str; 2] = ["--set", "output.format=delta"];

    /// Makes a Delta table of the target's directory, with a file beside it that the table does not have.
    fn make_delta(work: &Workdir) {
        let target = work.target();
        let of = |t: &DataType| match t {
            DataType::Int64 => "long",
            DataType::Int32 => "integer",
            DataType::Int16 => "short",
            DataType::Int8 => "byte",
            DataType::Float32 => "float",
            DataType::Float64 => "double",
            DataType::Boolean => "boolean",
            _ => "string",
        };
        let field = |f: &Arc<arrow::datatypes::Field>| json!({"name": f.name(), "type": of(f.data_type()), "nullable": true, "metadata": {}});
        let fields: Vec<Value> = target.schema().fields().iter().map(field).collect();
        let schema = json!({"type": "struct", "fields": fields}).to_string();
        let mut lines = vec![
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {"id": "a-table", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
                "partitionColumns": [], "configuration": {}, "createdTime": 0}}),
        ];
        for (name, bytes) in work.files("lake/target") {
            lines.push(json!({"add": {"path": name, "partitionValues": {}, "size": bytes.len(), "modificationTime": 0, "dataChange": true}}));
        }
        work.write_table("lake/target/removed.parquet", &target.slice(0, 3));
        let log: String = lines.iter().map(|line| format!("{line}\n")).collect();
        work.write_text(&format!("lake/target/_delta_log/{:020}.json", 0), &log);
    }

    /// The files that the log of a published table has, and how many commits it has.
    fn active(work: &Workdir, table: &str) -> (BTreeSet<String>, usize) {
        let mut files = BTreeSet::new();
        let mut commits = work.files(&format!("out/{table}/_delta_log"));
        // what was being written when a run was killed is hidden, and no commit
        commits.retain(|name, _| !name.starts_with('.'));
        for text in commits.values() {
            let lines = String::from_utf8(text.clone()).expect("a log is text");
            let actions: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
            let path = |action: &Value| action["path"].as_str().map(str::to_string);
            actions.iter().filter_map(|a| path(&a["remove"])).for_each(|p| assert!(files.remove(&p)));
            actions.iter().filter_map(|a| path(&a["add"])).for_each(|p| assert!(files.insert(p)));
        }
        (files, commits.len())
    }

    /// Of each account of a published Delta table the first class's probability, to the last bit, and the runs.
    fn labels(work: &Workdir, table: &str) -> (BTreeMap<String, u64>, BTreeSet<String>) {
        let (mut found, mut runs) = (BTreeMap::new(), BTreeSet::new());
        for file in active(work, table).0 {
            let batch = read(&work.path(&format!("out/{table}/{file}")));
            let p = floats(&batch, "p_fraud");
            for (id, p) in texts(&batch, "account_id").into_iter().zip(p) {
                assert!(found.insert(id.expect("an id"), p.to_bits()).is_none(), "an account stands once");
            }
            if batch.column_by_name("run_id").is_some() {
                runs.extend(texts(&batch, "run_id").into_iter().flatten());
            }
        }
        (found, runs)
    }

    #[test]
    fn from_and_to_delta_the_labels_are_those_of_directories() {
        let work = Workdir::new();
        work.run(&[]).is("published");
        let wanted = ["soft_labels", "classification"].map(|t| work.probabilities(t, "account_id"));
        std::fs::remove_dir_all(work.path("out")).expect("an output");
        make_delta(&work);
        let key = |ran: &Ran| ran.result()["key"].as_str().unwrap_or_default()[..12].to_string();
        let first = work.run(&DELTA);
        first.is("published");
        for (table, wanted) in ["soft_labels", "classification"].iter().zip(wanted) {
            let (found, _) = labels(&work, table);
            let wanted: BTreeMap<String, u64> = wanted.into_iter().map(|(id, p)| (id, p[1])).collect();
            assert!(found == wanted, "{table}");
        }
        assert_eq!(labels(&work, "classification").1, [key(&first)].into());
        work.run(&DELTA).is("already_published");
        assert_eq!(active(&work, "classification").1, 1);
        let more = [&DELTA[..], &["--set", "student.seed=7"]].concat();
        work.run(&more).error(65);
        let second = work.run(&[&more[..], &["--replace"]].concat());
        assert_eq!(labels(&work, "classification").1, [key(&second)].into());
        assert_eq!(active(&work, "classification").1, 2);
        for command in [["report", "../pipeline.toml"], ["drift", "../pipeline.toml"]] {
            work.coldstart(&[&command[..], &["--date", DATE], &more[..]].concat()).result();
        }
    }

    #[test]
    fn killed_at_the_commit_a_date_is_old_or_new_and_the_same_command_ends_the_run() {
        let work = Workdir::new();
        work.run(&DELTA).is("published");
        let old = labels(&work, "classification").1;
        for (n, when) in ["before", "after"].into_iter().enumerate() {
            let seed = format!("student.seed={}", n + 1);
            let again = [&DELTA[..], &["--set", &seed, "--replace"]].concat();
            let arguments = [&["run", "../pipeline.toml", "--date", DATE], &again[..]].concat();
            let place = format!("kill {when} commit **/classification/_delta_log/*");
            let ran = Ran::start(work.failing(&place, &arguments)).finish();
            assert!(ran.events("publish").iter().any(|e| e == "published"), "{ran}");
            let (found, runs) = labels(&work, "classification");
            assert_eq!((found.len(), runs.len()), (360, 1));
            if n == 0 {
                assert_eq!(runs, old);
            } else {
                assert_ne!(runs, old);
            }
            work.run(&again).result();
            assert_eq!(active(&work, "classification").1, n + 2, "one commit for a run");
            assert_eq!(labels(&work, "classification").0.len(), 360);
        }
    }

    #[test]
    fn ids_that_delta_has_no_type_for_are_refused_before_the_work() {
        let work = Workdir::new();
        for part in [PART_0, PART_1] {
            let from = if part == PART_0 { 0 } else { 1000 };
            work.change(part, |rows| {
                let ids = UInt64Array::from_iter_values(from..from + rows.num_rows() as u64);
                with(&rows, "account_id", Arc::new(ids) as ArrayRef)
            });
        }
        let error = work.run(&DELTA).error(65);
        assert_eq!(error["column"], "account_id", "{error}");
        work.run(&[]).is("published");
    }
}
