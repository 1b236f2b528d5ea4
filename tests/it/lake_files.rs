//! Account files as other programs write them: what counts as data, and how types are read.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, NullArray,
    RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int8Type};

use crate::workdir::{PART_0, PART_1, ROWS, Workdir, floats, texts, with};

const FEATURE: &str = "night_share";

fn both(work: &Workdir, change: impl Fn(RecordBatch) -> RecordBatch) {
    [PART_0, PART_1].iter().for_each(|part| work.change(part, &change));
}

/// What the target as it is gives for each account.
fn plain() -> std::collections::BTreeMap<String, Vec<u64>> {
    let work = Workdir::new();
    work.run(&[]).is("published");
    work.probabilities("classification", "account_id")
}

#[test]
fn a_glob_sees_what_the_directory_sees() {
    let work = Workdir::new();
    for hidden in ["_temporary/0/part-9.parquet", ".staging/part-9.parquet", "day=1/_attempt/part-9.parquet"]
    {
        work.write_bytes(&format!("lake/target/{hidden}"), &work.bytes(PART_0));
    }
    for accounts in ["lake/target/**/*.parquet", "lake/*/"] {
        let check = ["check", "../pipeline.toml", "--set"];
        let line = work.coldstart(&[&check[..], &[&format!("target.accounts={accounts}")]].concat()).result();
        assert_eq!((&line["accounts"], &line["files"]), (&ROWS.into(), &2.into()), "{accounts}");
    }
    let only = ["check", "../pipeline.toml", "--set", "target.accounts=lake/target/_*/**/*.parquet"];
    assert!(work.coldstart(&only).error(66)["error"].as_str().unwrap().contains("hidden"));
    let named = ["check", "../pipeline.toml", "--set", "target.accounts=lake/target/_temporary/0"];
    assert!(work.coldstart(&named).error(65)["error"].as_str().unwrap().contains("commits"));
}

#[test]
fn a_table_of_a_format_of_its_own_is_refused_from_every_door() {
    let work = Workdir::new();
    fs::create_dir(work.path("lake/target/ds=1")).unwrap();
    fs::rename(work.path(PART_1), work.path("lake/target/ds=1/part-1.parquet")).unwrap();
    let doors = [
        "lake/target",
        "lake/target/*/*.parquet",
        "lake/target/ds=1",
        "lake/target/ds=1/part-1.parquet",
        "lake/**/*.parquet",
    ];
    let logs = [
        ("_delta_log/00000000000000000000.json", "Delta"),
        ("metadata/v2.metadata.json", "Iceberg"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("_spark_metadata/0", "Spark"),
    ];
    for (log, name) in logs {
        work.write_text(&format!("lake/target/{log}"), "{}");
        for door in doors {
            let accounts = format!("target.accounts={door}");
            let error = work.coldstart(&["check", "../pipeline.toml", "--set", &accounts]).error(65);
            assert!(error["error"].as_str().unwrap().contains(name), "{door}: {error}");
            assert!(error["file"].as_str().unwrap().ends_with("lake/target"), "{door}: {error}");
            assert!(!error["hint"].as_str().unwrap().contains("dedupe"), "{door}: {error}");
        }
        fs::remove_dir_all(work.path(&format!("lake/target/{}", log.split('/').next().unwrap()))).unwrap();
    }
    fs::create_dir(work.path("lake/target/delta_0000001_0000001")).unwrap();
    let error = work.coldstart(&["check", "../pipeline.toml"]).error(65);
    assert!(error["error"].as_str().unwrap().contains("Hive"), "{error}");
}

#[test]
fn parts_of_several_writers_are_one_table() {
    let wanted = plain();
    let work = Workdir::new();
    let cast_to = |t: &RecordBatch, name: &str, to: &DataType| {
        with(t, name, cast(t.column_by_name(name).unwrap(), to).unwrap())
    };
    let narrow = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
    work.change(PART_0, |t| with(&t, "note", Arc::new(StringArray::from(vec!["x"; t.num_rows()]))));
    work.change(PART_1, |t| {
        let t = cast_to(&t, "account_id", &DataType::LargeUtf8);
        let t = cast_to(&t, "country", &narrow);
        let t = cast_to(&t, "kyc_level", &DataType::Utf8View);
        let t = cast_to(&t, "tx_count_30d", &DataType::Float64);
        let t = cast_to(&t, "logins_7d", &DataType::Int64);
        let t = with(&t, "note", Arc::new(NullArray::new(t.num_rows())));
        with(&t, "__index_level_0__", Arc::new(Int64Array::from_iter_values(0..t.num_rows() as i64)))
    });
    // as Athena and Hive name their files
    fs::rename(work.path(PART_1), work.path("lake/target/20260901_074951_00037_v74wa")).unwrap();
    work.run(&[]).is("published");
    assert_eq!(work.probabilities("classification", "account_id"), wanted);
}

#[test]
fn a_part_of_nulls_is_nulls_and_dotted_names_are_names() {
    let work = Workdir::new();
    let gap = |t: &RecordBatch, to: DataType| arrow::array::new_null_array(&to, t.num_rows());
    work.change(PART_1, |t| with(&t, "kyc_level", gap(&t, DataType::Utf8)));
    work.run(&[]).is("published");
    let wanted = work.probabilities("classification", "account_id");
    // a column without a value has no type, or pandas' double
    for array in [gap(&work.table(PART_1), DataType::Null), gap(&work.table(PART_1), DataType::Float64)] {
        let work = Workdir::new();
        work.change(PART_1, |t| with(&t, "kyc_level", array.clone()));
        work.run(&[]).is("published");
        assert_eq!(work.probabilities("classification", "account_id"), wanted);
    }
    let dotted = Workdir::new();
    both(&dotted, |t| crate::workdir::renamed(&t, "account_id", "account.id"));
    dotted.run(&["--set", "target.id=account.id"]).is("published");
    assert_eq!(dotted.probabilities("classification", "account.id").len(), ROWS);
}

#[test]
fn a_small_index_of_a_dictionary_does_not_bound_the_levels_of_a_file() {
    let level = |i: usize| format!("level-{i}");
    let work = Workdir::new();
    let target = work.target();
    let parts = |narrow: bool| {
        let one = |from: usize| {
            let rows = target.slice(from, 60);
            let names: Vec<String> = (from..from + 60).map(level).collect();
            let keyed: DictionaryArray<Int8Type> = names.iter().map(|n| Some(n.as_str())).collect();
            let plain = StringArray::from_iter_values(&names);
            with(&rows, "country", if narrow { Arc::new(keyed) as ArrayRef } else { Arc::new(plain) })
        };
        (0..6).map(|g| one(60 * g)).collect::<Vec<_>>()
    };
    // one file, a row group and a dictionary for each sixty rows
    let file = |parts: &[RecordBatch]| -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, parts[0].schema(), None).unwrap();
        for part in parts {
            writer.write(part).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
        bytes
    };
    fs::remove_file(work.path(PART_1)).unwrap();
    let mut found = Vec::new();
    for narrow in [false, true] {
        work.write_bytes(PART_0, &file(&parts(narrow)));
        let _ = fs::remove_dir_all(work.path("out"));
        work.run(&[]).is("published");
        found.push(work.probabilities("classification", "account_id"));
    }
    assert_eq!(found[0].len(), ROWS);
    assert_eq!(found[0], found[1]);
}

#[test]
fn ids_are_uuids_decimals_bytes_or_dictionaries() {
    let uuid = |i: u128| (0x1234_5678_9abc_def0_0000_0000_0000_0000u128 + i).to_be_bytes();
    let rows = |t: &RecordBatch, part: u128| -> Vec<[u8; 16]> {
        (0..t.num_rows() as u128).map(|i| uuid(1000 * part + i)).collect()
    };
    let work = Workdir::new();
    for (part, path) in [PART_0, PART_1].iter().enumerate() {
        work.change(path, |t| {
            let ids = FixedSizeBinaryArray::try_from_iter(rows(&t, part as u128).into_iter()).unwrap();
            with(&t, "account_id", Arc::new(ids))
        });
    }
    work.run(&[]).is("published");
    let found = work.published_table("classification");
    assert_eq!(found.column_by_name("account_id").unwrap().data_type(), &DataType::FixedSizeBinary(16));
    let explain = [
        "explain",
        "../pipeline.toml",
        "--date",
        crate::workdir::DATE,
        "12345678-9abc-def0-0000-000000000007",
    ];
    assert_eq!(work.coldstart(&explain).result()["status"], "explained");

    for to in [
        DataType::Decimal128(38, 0),
        DataType::Binary,
        DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8)),
    ] {
        let work = Workdir::new();
        for (part, path) in [PART_0, PART_1].iter().enumerate() {
            work.change(path, |t| {
                let ids: Vec<i64> = (0..t.num_rows() as i64).map(|i| 7 + 1000 * part as i64 + i).collect();
                let numbers: ArrayRef = Arc::new(Int64Array::from(ids));
                let ids = match to {
                    DataType::Decimal128(..) => numbers,
                    _ => cast(&numbers, &DataType::Utf8).unwrap(),
                };
                with(&t, "account_id", cast(&ids, &to).unwrap())
            });
        }
        work.run(&[]).is("published");
        let found = work.published_table("classification");
        let ids = cast(found.column_by_name("account_id").unwrap(), &DataType::Utf8).unwrap();
        assert_eq!((ids.len(), ids.null_count()), (ROWS, 0), "{to}");
        assert!(texts(&found, "account_id").contains(&Some("7".to_string())), "{to}");
    }
}

#[test]
fn labels_name_accounts_by_value_or_are_refused() {
    let work = Workdir::new();
    let numbered =
        |from: i64, n: usize| Arc::new(Int64Array::from_iter_values(from..from + n as i64)) as ArrayRef;
    work.change(PART_0, |t| with(&t, "account_id", numbered(0, t.num_rows())));
    work.change(PART_1, |t| with(&t, "account_id", numbered(1000, t.num_rows())));
    let ids: Vec<i64> = (0..100).collect();
    let label: ArrayRef = Arc::new(StringArray::from_iter_values(
        ids.iter().map(|i| if i % 3 == 0 { "fraud" } else { "legit" }),
    ));
    let label_file = |ids: ArrayRef| {
        work.write_table(
            "few.parquet",
            &crate::workdir::table(vec![("account_id".into(), ids), ("label".into(), label.clone())]),
        );
        let _ = fs::remove_dir_all(work.path("out"));
        work.run(&["--set", "target.labels=few.parquet"])
    };
    let forms: [ArrayRef; 3] = [
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| *i as f64))),
        Arc::new(StringArray::from_iter_values(ids.iter().map(i64::to_string))),
    ];
    let found: Vec<_> = forms
        .into_iter()
        .map(|ids| {
            label_file(ids).is("published");
            assert_eq!(
                texts(&work.published_table("relevance_verdict"), "base_rate"),
                [Some("labels".into())]
            );
            work.probabilities("classification", "account_id")
        })
        .collect();
    assert!(found[0] == found[1] && found[1] == found[2]);
    let broken: ArrayRef = Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| *i as f64 + 0.5)));
    assert_eq!(label_file(broken).error(65)["column"], "account_id");
    let others: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.iter().map(|i| i + 500_000)));
    assert!(label_file(others).error(65)["error"].as_str().unwrap().contains("no labelled account"));
}

#[test]
fn a_row_filter_reads_dictionaries_dates_and_partitions() {
    let work = Workdir::new();
    both(&work, |t| {
        let days = Date32Array::from_iter_values((0..t.num_rows() as i32).map(|i| 20_605 + i % 2));
        let instants = days.iter().flatten().map(|day| i64::from(day) * 86_400_000);
        let seen = TimestampMillisecondArray::from_iter_values(instants).with_timezone("UTC");
        let t = with(&t, "seen", Arc::new(seen));
        let t = with(&t, "opened", Arc::new(days));
        let keyed = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        with(&t, "status", cast(t.column_by_name("status").unwrap(), &keyed).unwrap())
    });
    for (part, month) in [(PART_0, "month=8"), (PART_1, "month=10")] {
        let to = part.replace("target/", &format!("target/{month}/"));
        work.write_bytes(&to, &work.bytes(part));
        fs::remove_file(work.path(part)).unwrap();
    }
    let status = texts(&work.table("lake/target/month=8/part-0.parquet"), "status")[0].clone().unwrap();
    let count = |filter: &str| {
        let _ = fs::remove_dir_all(work.path("out"));
        let set = format!("target.where={filter}");
        let ran = work.run(&["--set", &set]);
        assert!(ran.stderr.lines().all(|l| l.starts_with('{')), "JSON lines alone\n{ran}");
        ran.result()["rows"].as_u64().unwrap()
    };
    let half = ROWS as u64 / 2;
    assert_eq!(count("seen < '2026-06-02' AND seen >= '2026-06-01 00:00:00'"), half);
    assert_eq!(count("opened < '2026-06-02'"), half);
    assert_eq!(count("opened = DATE '2026-06-01' AND month >= 9"), half / 2);
    assert_eq!(count("month = '10'"), half);
    assert_eq!(count("month IN (8, 9)"), half);
    assert!(count(&format!("status = '{status}'")) > 0);
    for (filter, said) in
        [("country = 7", "country = '...'"), ("opened < 'soon'", "DATE"), ("night_share", "true or false")]
    {
        let set = format!("target.where={filter}");
        let error = work.coldstart(&["check", "../pipeline.toml", "--set", &set]).error(78);
        assert!(error.to_string().contains(said) && !error.to_string().contains("plan"), "{filter}: {error}");
    }
}

#[test]
fn a_partition_column_may_stand_in_the_file_too() {
    let work = Workdir::new();
    let parted = |in_file: [&str; 2]| {
        let _ = fs::remove_dir_all(work.path("out"));
        let fresh = Workdir::new();
        let _ = fs::remove_dir_all(work.path("lake/target"));
        for (i, region) in ["EU", "09"].into_iter().enumerate() {
            let t = fresh.table([PART_0, PART_1][i]);
            let t = with(&t, "region", Arc::new(StringArray::from(vec![in_file[i]; t.num_rows()])));
            work.write_table(&format!("lake/target/region={region}/part.parquet"), &t);
        }
        work.run(&["--set", "target.where=region <> 'x'"])
    };
    assert_eq!(parted(["EU", "09"]).result()["rows"], ROWS);
    let error = parted(["EU", "US"]).error(65);
    assert_eq!((&error["column"], &error["value"]), (&"region".into(), &"US".into()), "{error}");
}

#[test]
fn a_day_that_the_filter_leaves_out_is_no_input() {
    let work = Workdir::new();
    let day = |day: &str| {
        for part in ["part-0.parquet", "part-1.parquet"] {
            work.write_bytes(
                &format!("lake/snapshots/ds={day}/{part}"),
                &work.bytes(&format!("lake/target/{part}")),
            );
        }
    };
    work.edit(
        "pipeline.toml",
        "lake/target\"",
        "lake/snapshots\"\nwhere = \"ds = '2026-01-01' AND night_share >= 0\"",
    );
    day("2026-01-01");
    work.run(&[]).is("published");
    day("2026-01-02");
    // not even a file that is no Parquet matters there
    work.write_text("lake/snapshots/ds=2026-01-03/part.parquet", "half-made");
    work.run(&[]).is("already_published");
    day("2026-01-01/more=1");
    work.run(&[]).error(65);
}

#[test]
fn histories_are_read_as_targets_are() {
    let work = Workdir::new();
    let history = "teachers/bazaar/history.parquet";
    let labelled = work.table(history);
    work.run(&[]).is("published");
    let wanted = work.probabilities("soft_labels", "account_id");
    // a directory, as Spark writes one
    fs::remove_file(work.path(history)).unwrap();
    work.write_text(&format!("{history}/_SUCCESS"), "");
    let half = labelled.num_rows() / 2;
    work.write_table(&format!("{history}/part-0.snappy.parquet"), &labelled.slice(0, half));
    work.write_table(
        &format!("{history}/part-1.snappy.parquet"),
        &labelled.slice(half, labelled.num_rows() - half),
    );
    let _ = fs::remove_dir_all(work.path("out"));
    work.run(&[]).is("published");
    assert_eq!(work.probabilities("soft_labels", "account_id"), wanted);
    // a NaN is a null if that was said
    fs::remove_dir_all(work.path(history)).unwrap();
    let with_nan = |nan: bool| {
        let odd = |(i, v): (usize, f64)| match (i % 9, nan) {
            (0, true) => Some(f64::NAN),
            (0, false) => None,
            _ => Some(v).filter(|v| !v.is_nan()),
        };
        let column: Float64Array =
            floats(&labelled, "refund_rate").into_iter().enumerate().map(odd).collect();
        work.write_table(history, &with(&labelled, "refund_rate", Arc::new(column)));
        let _ = fs::remove_dir_all(work.path("out"));
    };
    with_nan(true);
    let error = work.run(&[]).error(65);
    assert!(error["hint"].as_str().unwrap().contains("target.non_finite"), "{error}");
    let ran = work.run(&["--set", "target.non_finite=as_null"]);
    assert!(ran.is("published").stderr.contains("not finite in a history"), "{ran}");
    let read = work.probabilities("soft_labels", "account_id");
    with_nan(false);
    work.run(&["--set", "target.non_finite=as_null"]).is("published");
    assert_eq!(work.probabilities("soft_labels", "account_id"), read);
}

#[test]
fn an_integer_that_a_float_cannot_hold_is_refused_where_types_differ() {
    let work = Workdir::new();
    let large = (1i64 << 53) + 1;
    work.change(PART_0, |t| with(&t, FEATURE, Arc::new(Int64Array::from(vec![large; t.num_rows()]))));
    let error = work.run(&[]).error(65);
    assert_eq!((&error["column"], &error["value"]), (&FEATURE.into(), &large.to_string().into()), "{error}");
}
