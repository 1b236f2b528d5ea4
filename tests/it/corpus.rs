//! The corpus of the fuzzed parsers, replayed: no input takes them down or long, and what is hostile is
//! refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::parsers::PARSERS;

/// Generous, for a crowded machine; a parser takes milliseconds.
const LONGEST: Duration = Duration::from_secs(5);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// Names in a folder, without their endings.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|e| e.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect()
}

#[test]
fn every_input_of_the_corpus_is_read_or_refused_as_its_folder_says() {
    for (parser, parse) in PARSERS {
        for verdict in ["read", "refused"] {
            for entry in fs::read_dir(fuzz().join("corpus").join(parser).join(verdict))
                .expect("a folder of the corpus")
                .flatten()
            {
                let path = entry.path();
                let bytes = fs::read(&path).expect("an input");
                let clock = Instant::now();
                // a panic names the file, too
                let found = std::panic::catch_unwind(|| parse(&bytes))
                    .unwrap_or_else(|_| panic!("{}: a panic", path.display()));
                assert!(clock.elapsed() < LONGEST, "{} took {:?}", path.display(), clock.elapsed());
                match (verdict, found) {
                    ("read", Err(e)) => panic!("{} is refused: {e}", path.display()),
                    ("refused", Ok(())) => panic!("{} is read", path.display()),
                    (_, Err(e)) => assert_eq!(e.kind().exit_code(), 65, "{}: {e}", path.display()),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn every_parser_has_a_fuzz_target_and_a_corpus_and_no_other_has() {
    let parsers: BTreeSet<String> = PARSERS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), parsers);
    assert_eq!(names(&fuzz().join("corpus")), parsers);
    for parser in &parsers {
        let folder = fuzz().join("corpus").join(parser);
        assert_eq!(names(&folder), ["read", "refused"].map(String::from).into(), "{parser}");
        let target = fs::read_to_string(fuzz().join(format!("fuzz_targets/{parser}.rs"))).expect("a target");
        assert!(target.contains(&format!("parsers::{parser}(bytes)")), "{parser}");
    }
}
