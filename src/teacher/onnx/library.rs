//! ONNX Runtime's library: found and loaded once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Kind, Result};

/// The process's environment of ONNX Runtime, without telemetry.
pub fn environment() -> Result<&'static ort::environment::Environment> {
    static ENVIRONMENT: OnceLock<std::result::Result<ort::environment::Environment, String>> =
        OnceLock::new();
    let built = ENVIRONMENT.get_or_init(|| {
        let path = library().ok_or("the library was not found")?;
        let builder = ort::init_from(&path).map_err(|e| e.to_string())?;
        builder.with_name("coldstart").with_telemetry(false).build().map_err(|e| e.to_string())
    });
    built.as_ref().map_err(|e| {
        Error::new(Kind::Missing, format!("ONNX Runtime cannot be loaded: {e}")).hint(
            "`pip install onnxruntime` brings the library: set ORT_DYLIB_PATH to its \
             onnxruntime/capi/libonnxruntime.so.* (1.24 or later); in a clone, `make setup` does both",
        )
    })
}

/// `ORT_DYLIB_PATH`, else the `.onnxruntime/` directory that `make setup` makes, looked for from the
/// program's place upwards.
fn library() -> Option<PathBuf> {
    const FILE: &str = ".onnxruntime/libonnxruntime.so";
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Some(PathBuf::from(path));
    }
    let program = std::env::current_exe().ok()?;
    let beside = program.ancestors().map(|folder| folder.join(FILE)).find(|p| p.is_file());
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    beside.or_else(|| built_in.is_file().then_some(built_in))
}

/// The refusal of something that ONNX Runtime did not do.
pub fn failed(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::data(format!("{what}: {error}"))
}
