//! What a run keeps once it is published: `explanation/` in the run directory, from which `coldstart explain`
//! makes an account's label again.
//!
//! The tables alone could not do: they hold what came out, but neither the calibrations and constants that
//! led there nor what the labels would be without a teacher. The calculator among these files can be named by
//! a later pipeline (`relevance.calculator`).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::lake::store::Real;
use crate::lake::store::digest::{self, FileDigest};
use crate::lake::store::files::{create_dir, read, remove, write_atomic};
use crate::run::directory::Directory;
use crate::run::stage::Stage;
use crate::stages::artifacts::{
    CALCULATOR, COUNTED_PROFILE, FEATURE_SKETCHES, FUSION, SCORE_SKETCHES, SCORED, VERDICT,
};

/// Its name in a run directory.
pub const FOLDER: &str = "explanation";
/// The files, by the stage that made them.
const FILES: [(Stage, &str); 7] = [
    (COUNTED_PROFILE.stage, COUNTED_PROFILE.file),
    (SCORED.stage, SCORED.file),
    (CALCULATOR.stage, CALCULATOR.file),
    (FUSION.stage, FUSION.file),
    (VERDICT.stage, VERDICT.file),
    (FEATURE_SKETCHES.stage, FEATURE_SKETCHES.file),
    (SCORE_SKETCHES.stage, SCORE_SKETCHES.file),
];

/// Copies the files out of the stages' directories, which are about to be cleared; their digests belong into
/// the record of what was published.
pub fn keep(directory: &Directory) -> Result<Vec<FileDigest>> {
    let (store, folder) = (directory.store, directory.root().join(FOLDER));
    remove(store, &folder)?;
    create_dir(store, &folder)?;
    let copy = |(stage, file): &(Stage, &str)| {
        let from = directory.stage(stage.name()).join(file);
        let bytes = read(store, &from).map_err(|e| Error::io(&e, "cannot read", &from))?;
        write_atomic(store, &folder.join(file), &bytes)?;
        digest::file(store, &folder, file)
    };
    FILES.iter().map(copy).collect()
}

/// Where a run directory keeps them.
pub fn place(root: &Path) -> PathBuf {
    root.join(FOLDER)
}

/// The folder of a run directory, once every file in it has the recorded digest (65 otherwise).
pub fn open(root: &Path, files: &[FileDigest]) -> Result<PathBuf> {
    let folder = root.join(FOLDER);
    for (_, name) in FILES {
        let recorded = files.iter().find(|f| f.path == name);
        if recorded.is_none_or(|f| digest::file(&Real, &folder, name).ok().as_ref() != Some(f)) {
            return Err(Error::data("what was kept to explain the run is missing or damaged")
                .file(&folder.join(name))
                .hint("run again with --replace"));
        }
    }
    Ok(folder)
}
