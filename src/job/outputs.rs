//! What an orchestrator asks for beside the result line: its XCom file, a file for each parameter, the reason
//! of a failure.
//!
//! Airflow's sidecar reads `--xcom` when the container ends, Argo reads each parameter from a path of its
//! own, and Kubernetes shows the termination log. Each is written beside its place and renamed. That they can
//! be written is checked before any work.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::lake::store::Real;
use crate::lake::store::files::{cannot_create, remove, write_atomic};
use crate::process::secrets::redact_json;

#[derive(Debug, Default, Clone, Args)]
pub struct Outputs {
    /// Also writes the result line to this file (Airflow's sidecar reads /airflow/xcom/return.json).
    #[arg(long, value_name = "FILE")]
    xcom: Option<PathBuf>,
    /// Also writes each key of the result line to a file of its name in this directory (for Argo's output
    /// parameters).
    #[arg(long, value_name = "DIR")]
    outputs_dir: Option<PathBuf>,
    /// Also writes the error line of a failure to this file (Kubernetes: /dev/termination-log).
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
}

impl Outputs {
    /// Refuses (73) what cannot be written. Creates no directory.
    pub fn check(&self) -> Result<()> {
        self.xcom.iter().try_for_each(|file| can_replace(file))?;
        self.outputs_dir.iter().try_for_each(|folder| can_hold(folder))?;
        self.termination_log.iter().try_for_each(|file| match file.is_file() {
            true => File::options().append(true).open(file).map(|_| ()).map_err(|e| cannot_create(&e, file)),
            false => can_replace(file),
        })
    }

    /// After a success, 99 included: `line` has been cut to what fits a result line, `whole` has not.
    pub fn succeeded(&self, line: &Value, whole: &Value) -> Result<()> {
        let (line, whole) = (redact_json(line), redact_json(whole));
        if let Some(file) = &self.xcom {
            write_atomic(&Real, file, format!("{line}\n").as_bytes())?;
        }
        for (folder, (key, value)) in self
            .outputs_dir
            .iter()
            .flat_map(|d| whole.as_object().into_iter().flatten().map(move |kv| (d, kv)))
        {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            write_atomic(&Real, &folder.join(key), text.as_bytes())?;
        }
        Ok(())
    }

    /// After a failure. One that cannot be written is not another failure.
    pub fn failed(&self, line: &str) {
        if let Some(file) = &self.termination_log {
            // In a pod the file is a mount of its own, which nothing can be renamed over.
            let _ = write_atomic(&Real, file, line.as_bytes())
                .or_else(|_| std::fs::write(file, line).map_err(|e| cannot_create(&e, file)));
        }
    }
}

fn can_replace(file: &Path) -> Result<()> {
    if file.is_dir() || file.file_name().is_none() {
        return Err(Error::new(Kind::CannotCreate, "a file is to be written here").file(file));
    }
    can_hold(file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

fn can_hold(folder: &Path) -> Result<()> {
    let probe = folder.join(format!(".coldstart.{}.tmp", std::process::id()));
    let made = File::create(&probe)
        .map_err(|e| cannot_create(&e, folder).hint("make the directory before the job starts"));
    made.and_then(|_| remove(&Real, &probe)).map_err(|e| match e.kind() {
        Kind::CannotCreate | Kind::TryAgain => e,
        _ => Error::new(Kind::CannotCreate, e.message().to_string()).file(folder),
    })
}
