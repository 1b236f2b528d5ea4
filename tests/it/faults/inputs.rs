//! C32 and C40 to C46: the target's files.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::{both, faults, reference, tolerated};
use crate::workdir::{DATE, PART_0, PART_1, Ran, Workdir, named_columns, renamed, table, with, without};

const HERE: (&str, &str) = ("file", "part-1.parquet");

#[test]
fn c32_a_missing_input_is_66_and_an_empty_one_65() {
    faults(|f| {
        f.refused(66, &[("file", "lake/target")], |w| {
            fs::rename(w.path("lake/target"), w.path("lake/elsewhere")).unwrap()
        });
        f.refused_set("target.accounts=lake/target/*.nothing", 66, &[("value", "*.nothing")]);
        f.refused(65, &[("file", "lake/target"), ("error", "no Parquet file")], |w| {
            fs::remove_file(w.path(PART_0)).unwrap();
            fs::remove_file(w.path(PART_1)).unwrap();
        });
    });
}

#[test]
fn c40_hidden_entries_are_no_data_and_foreign_files_are_named() {
    let (work, ran) = tolerated(|w| {
        for name in [
            "_SUCCESS",
            ".part-0.parquet.crc",
            ".DS_Store",
            "_temporary/0/part-9.parquet",
            ".hidden/part-9.parquet",
        ] {
            w.write_text(&format!("lake/target/{name}"), "not data");
        }
    });
    super::assert_same(&work.published(), reference(), &ran);
    faults(|f| {
        for name in ["part-1.parquet.tmp", "part-1.csv", "README"] {
            f.refused(65, &[("file", name), ("error", "foreign")], |w| {
                w.write_text(&format!("lake/target/{name}"), "x")
            });
        }
    });
}

#[test]
fn c41_what_is_not_a_regular_file_of_the_directory_is_refused_without_a_hang() {
    faults(|f| {
        f.refused(65, &[("file", "x.parquet"), ("error", "symlink")], |w| {
            w.write_bytes("elsewhere.parquet", &w.bytes(PART_0));
            symlink(w.path("elsewhere.parquet"), w.path("lake/target/x.parquet")).unwrap();
        });
        f.refused(65, &[("file", "x.parquet"), ("error", "not a regular file")], |w| {
            assert!(Command::new("mkfifo").arg(w.path("lake/target/x.parquet")).status().unwrap().success());
        });
        f.refused(65, &[("file", "x.parquet"), ("error", "directory")], |w| {
            fs::create_dir(w.path("lake/target/x.parquet")).unwrap()
        });
        f.refused(66, &[("file", "x.parquet")], |w| {
            symlink(w.path("nowhere"), w.path("lake/target/x.parquet")).unwrap()
        });
        f.refused(65, &[("file", "loop")], |w| symlink("..", w.path("lake/target/loop")).unwrap());
    });
}

#[test]
fn c42_columns_are_compared_by_what_is_read_of_them() {
    let same = |change: &dyn Fn(RecordBatch) -> RecordBatch| {
        let (work, ran) = tolerated(|w| w.change(PART_1, change));
        assert_eq!(work.probabilities("classification", "account_id").len(), 360, "{ran}");
    };
    same(&|t| table(named_columns(&t).into_iter().rev().collect()));
    // the same values in another type, a column less and one more, of which nobody reads any
    same(&|t| {
        let wide = cast(t.column_by_name("tx_count_30d").unwrap(), &DataType::Float64).unwrap();
        let t = with(&without(&t, "status"), "tx_count_30d", wide);
        with(&t, "extra", t.column(0).clone())
    });
    faults(|f| {
        f.refused(65, &[HERE, ("column", "tx_count_30d"), ("error", "Utf8"), ("error", "Int64")], |w| {
            w.change(PART_1, |t| {
                let text = cast(t.column_by_name("tx_count_30d").unwrap(), &DataType::Utf8).unwrap();
                with(&t, "tx_count_30d", text)
            });
        });
        f.refused(65, &[HERE, ("column", "country")], |w| w.change(PART_1, |t| without(&t, "country")));
    });
}

#[test]
fn c43_columns_that_differ_by_case_or_not_at_all_are_refused() {
    faults(|f| {
        for name in ["Country", "COUNTRY", "country"] {
            f.refused(65, &[("file", "part-0.parquet"), ("column", name)], |w| {
                both(w, |t| {
                    table(
                        named_columns(&t)
                            .into_iter()
                            .chain([(name.to_string(), t.column_by_name("country").unwrap().clone())])
                            .collect(),
                    )
                });
            });
        }
        f.refused(65, &[("column", "country"), ("hint", "COUNTRY")], |w| {
            both(w, |t| renamed(&t, "country", "COUNTRY"))
        });
        f.refused(65, &[("column", "account_id")], |w| both(w, |t| without(&t, "account_id")));
        f.refused(65, &[("column", "country"), ("teacher", "bazaar")], |w| {
            both(w, |t| without(&t, "country"))
        });
    });
}

#[test]
fn c44_an_input_that_is_replaced_while_it_is_read_is_75() {
    let work = Workdir::new();
    let command = work.command(&["run", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
    let ran = Ran::halted(command, "profile", || work.change(PART_1, |t| t.slice(0, 100)));
    assert!(ran.error(75)["file"].as_str().unwrap().contains("part-1.parquet"), "{ran}");
    assert!(work.published().is_empty(), "nothing is published\n{ran}");
}

#[test]
fn c45_a_reserved_name_cannot_be_the_id_and_a_partition_cannot_stand_twice() {
    faults(|f| {
        for name in ["run_id", "p_fraud", "class"] {
            f.refused_with(&["--set", &format!("target.id={name}")], 65, &[("column", name)], |w| {
                both(w, |t| renamed(&t, "account_id", name))
            });
        }
        f.refused(65, &[("column", "country")], |w| {
            w.write_bytes("lake/target/country=DE/part-2.parquet", &w.bytes(PART_1));
            [PART_0, PART_1].iter().for_each(|p| fs::remove_file(w.path(p)).unwrap());
        });
    });
}

#[test]
fn c46_row_groups_and_files_without_rows_mean_nothing() {
    tolerated(|w| w.write_target(&[w.target()], 1));
    tolerated(|w| {
        let all = w.target();
        w.write_target(
            &[all.slice(0, 0), all.slice(0, 1), all.slice(1, all.num_rows() - 1), all.slice(0, 0)],
            1_000_000,
        );
    });
    faults(|f| {
        f.refused(65, &[("file", "lake/target"), ("error", "no account")], |w| {
            w.write_target(&[w.target().slice(0, 0)], 64)
        });
        f.refused_set(
            "target.where=country = 'nowhere'",
            65,
            &[("error", "no account"), ("hint", "target.where")],
        );
    });
}
