//! The process: arguments in, exit code out.

use std::process::ExitCode;

use coldstart::lake::store::Real;

fn main() -> ExitCode {
    ExitCode::from(coldstart::cli::main(&Real))
}
