//! E: teachers' bundles, which may come from anybody.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::{RUN, assert_same, faults, reference_probabilities};
use crate::workdir::{Ran, Workdir, fixture, without};

const TOML: &str = "teachers/bazaar/teacher.toml";
const MODEL: &str = "teachers/bazaar/model.txt";
const HERE: (&str, &str) = ("file", "bazaar/teacher.toml");

#[test]
fn e65_a_bundle_without_one_of_its_files_is_refused_by_name() {
    faults(|f| {
        f.refused(66, &[("file", "bazaar/teacher.toml")], |w| {
            fs::remove_dir_all(w.path("teachers/bazaar")).unwrap()
        });
        f.refused(66, &[("file", "bazaar/teacher.toml")], |w| fs::remove_file(w.path(TOML)).unwrap());
        f.refused(65, &[("file", "bazaar/model.txt")], |w| fs::remove_file(w.path(MODEL)).unwrap());
        f.refused(65, &[("file", "bazaar/history.parquet")], |w| {
            fs::remove_file(w.path("teachers/bazaar/history.parquet")).unwrap()
        });
    });
}

/// What stands in the file, what comes in its place, and what the error says.
type Edit = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

#[test]
fn e65_a_damaged_description_is_refused_with_its_key() {
    let edits: [Edit; 9] = [
        ("rows = 3000", "rows = 3000\nrows = 4000", &[("error", "TOML")]),
        ("rows = 3000", "rows = -1", &[("key", "training.rows")]),
        ("rows = 3000", "rows = \"many\"", &[("key", "training.rows")]),
        ("rows = 3000", "rows = 3000\ncolour = \"red\"", &[("error", "colour")]),
        ("format = \"lightgbm\"", "format = \"catboost\"", &[("key", "model.format")]),
        ("classes = [\"legit\", \"fraud\"]", "classes = [\"legit\"]", &[("key", "model.classes")]),
        ("name = \"bazaar\"", "name = \"../bazaar\"", &[("key", "name")]),
        ("label = \"label\"", "", &[("key", "history.label")]),
        (
            "values = [\"none\", \"basic\", \"full\"]",
            "values = [\"none\", \"none\"]",
            &[("column", "kyc_level"), ("value", "none")],
        ),
    ];
    faults(|f| {
        for (from, to, names) in edits {
            f.refused(65, &[&[HERE], names].concat(), |w| w.edit(TOML, from, to));
        }
        f.refused(65, &[HERE, ("error", "TOML")], |w| w.write_bytes(TOML, &w.bytes(TOML)[..700]));
        f.refused(65, &[HERE, ("error", "TOML")], |w| {
            w.write_bytes(TOML, &[w.bytes(TOML), b"]]".to_vec()].concat())
        });
        f.refused(65, &[HERE, ("error", "UTF-8")], |w| {
            w.write_bytes(TOML, &[w.bytes(TOML), vec![0xff]].concat())
        });
        f.refused(65, &[HERE], |w| w.write_bytes(TOML, b""));
    });
}

#[test]
fn e66_features_are_matched_by_name_and_a_missing_one_is_named() {
    faults(|f| {
        f.refused(
            65,
            &[("column", "account_age_weeks"), ("teacher", "bazaar"), ("hint", "account_age_days")],
            |w| {
                w.edit(TOML, "\"account_age_days\"", "\"account_age_weeks\"");
            },
        );
        f.refused(65, &[("file", "bazaar/model.txt"), ("key", "features")], |w| {
            w.edit(TOML, "[[features]]\nname = \"account_age_days\"\nkind = \"number\"\n", "");
        });
        f.refused(65, &[HERE, ("value", "country")], |w| w.edit(TOML, "\"account_age_days\"", "\"country\""));
        f.refused(65, &[("column", "account_id")], |w| {
            w.edit(TOML, "\"account_age_days\"", "\"account_id\"")
        });
        f.refused(65, &[("column", "country"), ("error", "number")], |w| {
            w.edit(TOML, "name = \"country\"\nkind = \"category\"\nencode = \"code\"\nvalues = [\"BR\", \"DE\", \"FR\", \"IN\", \"MX\", \"NG\", \"US\"]", "name = \"country\"\nkind = \"number\"");
        });
        f.refused(65, &[("column", "refund_rate"), ("teacher", "bazaar")], |w| {
            w.change("teachers/bazaar/history.parquet", |t| {
                let text = arrow::array::StringArray::from(vec!["much"; t.num_rows()]);
                crate::workdir::with(&t, "refund_rate", std::sync::Arc::new(text))
            })
        });
    });
    let work = Workdir::new();
    let every = ["bazaar", "wallet", "studio"];
    for teacher in every {
        work.edit(
            &format!("teachers/{teacher}/teacher.toml"),
            "name = \"refund_rate\"\nkind = \"number\"",
            "name = \"refund_rate\"\nkind = \"number\"\nmissing = 0.02",
        );
    }
    [crate::workdir::PART_0, crate::workdir::PART_1]
        .iter()
        .for_each(|p| work.change(p, |t| without(&t, "refund_rate")));
    work.run(&[]).is("published");
}

/// The first number under `key` of the student's file becomes `text`.
fn spoil(work: &Workdir, key: &str, text: &str) {
    let path = "teachers/studio/model.json";
    let model = String::from_utf8(work.bytes(path)).unwrap();
    let at = model.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in {path}")) + key.len() + 3;
    let at = at + model[at..].find(|c: char| c.is_ascii_digit() || c == '-').unwrap();
    let end = at + model[at..].find([',', ']', '}']).unwrap();
    work.write_text(path, &format!("{}{text}{}", &model[..at], &model[end..]));
}

#[test]
fn e67_a_student_with_numbers_that_are_none_is_refused_when_it_is_loaded() {
    faults(|f| {
        for text in ["NaN", "1e999", "null", "\"0.1\"", "[]"] {
            for key in ["bias", "mean", "weight"] {
                f.refused(65, &[("file", "studio/model.json")], |w| spoil(w, key, text));
            }
        }
        f.refused(65, &[("file", "studio/model.json")], |w| spoil(w, "deviation", "0.0"));
        f.refused(65, &[("file", "studio/model.json")], |w| spoil(w, "deviation", "-1.0"));
        f.refused(65, &[("file", "studio/model.json")], |w| spoil(w, "bias", "0.0,0.0"));
        f.refused(65, &[("file", "studio/model.json")], |w| spoil(w, "classes", "4000000000"));
    });
}

#[test]
fn e68_a_path_that_leaves_its_bundle_is_refused_and_nothing_read() {
    let long = "x".repeat(5000);
    faults(|f| {
        for path in [
            "../../etc/passwd",
            "/etc/passwd",
            "../wallet/model.json",
            "./../bazaar/model.txt",
            "",
            "a\\u0000b",
            long.as_str(),
        ] {
            f.refused(
                65,
                &[
                    HERE,
                    (
                        "path",
                        if path.is_ascii() && !path.contains('\\') {
                            &path[..path.len().min(200)]
                        } else {
                            "a"
                        },
                    ),
                ],
                |w| {
                    w.edit(TOML, "file = \"model.txt\"", &format!("file = \"{path}\""));
                },
            );
        }
        f.refused(65, &[HERE, ("path", "../history")], |w| {
            w.edit(TOML, "accounts = \"history.parquet\"", "accounts = \"../history.parquet\"")
        });
        f.refused(65, &[HERE, ("error", "symlink")], |w| {
            fs::remove_file(w.path(MODEL)).unwrap();
            symlink("/etc/passwd", w.path(MODEL)).unwrap();
        });
        f.refused(65, &[("file", "bazaar/model.txt")], |w| {
            fs::remove_file(w.path(MODEL)).unwrap();
            fs::create_dir(w.path(MODEL)).unwrap();
        });
    });
}

#[test]
fn e69_what_is_too_large_or_too_deep_is_refused_in_little_memory() {
    faults(|f| {
        f.refused(65, &[("file", "bazaar/model.txt"), ("error", "1 GiB")], |w| grow(w, MODEL, (1 << 30) + 1));
        f.refused(65, &[HERE], |w| grow(w, TOML, (64 << 20) + 1));
        f.refused(65, &[HERE], |w| w.write_text(TOML, &format!("name = {}", "[".repeat(10_000))));
        f.refused(65, &[("file", "wallet/model.json")], |w| {
            w.write_text("teachers/wallet/model.json", &"[".repeat(10_000))
        });
        f.refused(65, &[("file", "wallet/model.json")], |w| {
            w.write_text("teachers/wallet/model.json", &"{\"a\":".repeat(10_000))
        });
        f.refused(65, &[("file", "studio/model.json")], |w| {
            w.write_text("teachers/studio/model.json", &"[".repeat(1_000_000))
        });
        f.refused(65, &[HERE, ("key", "features")], |w| {
            let values: Vec<String> = (0..100_000).map(|i| format!("\"{i}\"")).collect();
            let one_hot =
                format!("name = \"status\"\nkind = \"category\"\nencode = \"one_hot\"\nvalues = [{}]\n\n[[features]]\n", values.join(", "));
            w.edit(TOML, "name = \"account_age_days\"", &format!("{one_hot}name = \"account_age_days\""));
        });
    });
}

/// Makes the file as long as that without filling it.
fn grow(work: &Workdir, path: &str, bytes: u64) {
    File::options().write(true).open(work.path(path)).and_then(|f| f.set_len(bytes)).unwrap();
}

#[test]
fn e70_what_is_no_model_is_refused_whatever_it_is() {
    let pickle =
        b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.".to_vec();
    let zip = [b"PK\x03\x04\x14\x00\x00\x00\x08\x00".to_vec(), vec![0; 100]].concat();
    let library = [b"\x7fELF\x02\x01\x01".to_vec(), vec![0; 200]].concat();
    let html = b"<html></html>".to_vec();
    faults(|f| {
        for bytes in [pickle, zip, library, html, Vec::new()] {
            for model in [MODEL, "teachers/wallet/model.json", "teachers/studio/model.json"] {
                f.refused(65, &[("file", model.trim_start_matches("teachers/"))], |w| {
                    w.write_bytes(model, &bytes)
                });
            }
        }
        for share in [10, 50, 90] {
            for model in [MODEL, "teachers/wallet/model.json", "teachers/studio/model.json"] {
                let bytes = Workdir::new().bytes(model);
                f.refused(65, &[("file", model.trim_start_matches("teachers/"))], |w| {
                    w.write_bytes(model, &bytes[..bytes.len() * share / 100])
                });
            }
        }
    });
}

#[test]
fn e70_trees_that_lead_back_or_out_are_refused() {
    faults(|f| {
        let edits = [
            ("left_child=1 2 10 4 -2 -3 -6 8 -5 -7 -1\n", "left_child=0 2 10 4 -2 -3 -6 8 -5 -7 -1\n"),
            ("left_child=1 2 10 4 -2 -3 -6 8 -5 -7 -1\n", "left_child=99 2 10 4 -2 -3 -6 8 -5 -7 -1\n"),
            ("left_child=1 2 10 4 -2 -3 -6 8 -5 -7 -1\n", "left_child=1 2 10 4 -2 -3 -6 8 -5 -7 -99\n"),
            ("split_feature=8 9 6 9 6 3 8 12 6 0 0\n", "split_feature=8 9 6 9 6 3 8 12 6 0 99\n"),
            ("Tree=0\nnum_leaves=12\n", "Tree=0\nnum_leaves=1000000000\n"),
            (
                "threshold=1.5000000000000002 0.15750000625848773 0.21169999986886981",
                "threshold=nan 0.15750000625848773 0.21169999986886981",
            ),
        ];
        for (from, to) in edits {
            f.refused(65, &[("file", "bazaar/model.txt")], |w| w.edit(MODEL, from, to));
        }
    });
}

#[test]
fn e71_a_student_of_a_newer_format_is_refused() {
    faults(|f| {
        f.refused(65, &[("file", "studio/model.json"), ("error", "version")], |w| {
            spoil(w, "version", "1000")
        });
    });
}

#[test]
fn e72_the_order_of_classes_is_data() {
    let work = Workdir::new();
    work.edit("pipeline.toml", "[\"legit\", \"fraud\"]", "[\"fraud\", \"legit\"]");
    work.run(&[]).is("published");
    let found = work.probabilities("soft_labels", "account_id");
    for (account, p) in &reference_probabilities()["soft_labels"] {
        for (a, b) in p.iter().zip(found[account].iter().rev()) {
            let (a, b) = (f64::from_bits(*a), f64::from_bits(*b));
            assert!((a - b).abs() < 1e-9, "{account}: {a} and {b}");
        }
    }
    faults(|f| {
        f.refused(78, &[("teacher", "bazaar"), ("value", "scam"), ("hint", "teachers.classes")], |w| {
            w.edit(TOML, "[\"legit\", \"fraud\"]", "[\"legit\", \"scam\"]");
        });
        f.refused(78, &[("teacher", "wallet"), ("value", "swindle")], |w| {
            w.edit(
                "pipeline.toml",
                "bundle = \"teachers/wallet\"",
                "bundle = \"teachers/wallet\"\nclasses = { swindle = \"fraud\" }",
            );
        });
        f.refused(65, &[("file", "bazaar/model.txt"), ("key", "model.classes")], |w| {
            w.edit(TOML, "[\"legit\", \"fraud\"]", "[\"legit\", \"fraud\", \"bot\"]");
            w.edit(
                "pipeline.toml",
                "bundle = \"teachers/bazaar\"",
                "bundle = \"teachers/bazaar\"\nclasses = { bot = \"fraud\" }",
            );
        });
    });
}

#[test]
fn e72_a_teacher_that_is_still_cold_is_refused() {
    faults(|f| {
        f.refused(65, &[HERE, ("key", "training.rows"), ("value", "99")], |w| {
            w.edit(TOML, "rows = 3000", "rows = 99")
        });
    });
}

#[test]
fn e73_the_same_inputs_make_the_same_student_and_it_can_teach() {
    let work = Workdir::new();
    work.coldstart(&["run", "../pipeline.toml", "--date", crate::workdir::DATE, "--threads", "2"])
        .is("published");
    for file in ["model.json", "teacher.toml"] {
        let path = format!("student/ds={}/{file}", crate::workdir::DATE);
        assert!(work.bytes(&format!("out/{path}")) == super::reference()[&path], "{file}");
    }
    let model: Value =
        serde_json::from_slice(&work.bytes(&format!("out/student/ds={}/model.json", crate::workdir::DATE)))
            .unwrap();
    assert!(model.is_object());
    work.edit(
        "pipeline.toml",
        "bundle = \"teachers/studio\"",
        &format!("bundle = \"out/student/ds={}\"", crate::workdir::DATE),
    );
    work.edit("pipeline.toml", "path = \"out\"", "path = \"out2\"");
    work.run(&[]).is("published");
}

#[test]
fn e74_a_bundle_that_is_replaced_while_it_is_used_is_75_and_nothing_made_of_it_is_kept() {
    for file in
        ["teachers/bazaar/model.txt", "teachers/wallet/history.parquet", "teachers/studio/teacher.toml"]
    {
        let work = Workdir::new();
        let whole = work.bytes(file);
        let replace = || work.write_bytes(file, b"another");
        // after the digest and before it is loaded, and after it was loaded
        let running = Ran::start(work.failing("pause after create_dir */out/_runs", RUN));
        let early = running.paused(&work.path("tmp/paused"), replace);
        work.write_bytes(file, &whole);
        let late = Ran::halted(work.command(RUN), "profile", replace);
        for ran in [&early, &late] {
            assert!(ran.error(75)["file"].as_str().is_some_and(|f| f.ends_with(file)), "{ran}");
        }
        assert!(work.published().is_empty());
        work.write_bytes(file, &whole);
        let ran = work.run(&[]);
        assert_same(&work.published(), super::reference(), &ran);
    }
}

#[test]
fn every_fixture_of_a_bundle_is_whole() {
    for (folder, kinds) in [("teachers", 4), ("teachers4", 3), ("shapes", 47)] {
        let found = fs::read_dir(fixture(folder))
            .unwrap()
            .flatten()
            .filter(|e| e.path().join("teacher.toml").is_file())
            .count();
        assert_eq!(found, kinds, "{folder}: a new bundle needs reference predictions");
    }
}
