//! Stop requests: a signal sets a flag, the stages look at it for every batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Error, Kind, Result};

static SIGNAL: std::sync::OnceLock<Arc<AtomicUsize>> = std::sync::OnceLock::new();

/// Listens for SIGTERM, SIGINT and SIGHUP; a second one ends the process at once.
pub fn install() -> Result<()> {
    let flag = SIGNAL.get_or_init(|| Arc::new(AtomicUsize::new(0)));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let failed = |e: std::io::Error| Error::bug(format!("cannot listen for signals: {e}"));
        // The order matters: the first signal finds `again` unset and only arms it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again)).map_err(failed)?;
        signal_hook::flag::register(signal, again).map_err(failed)?;
        signal_hook::flag::register_usize(signal, Arc::clone(flag), signal as usize).map_err(failed)?;
    }
    Ok(())
}

/// An error once a stop was asked for.
pub fn check() -> Result<()> {
    match SIGNAL.get().map_or(0, |f| f.load(Ordering::Relaxed)) as i32 {
        0 => Ok(()),
        SIGINT => Err(Error::new(Kind::Interrupted, "stopped by SIGINT; the same command resumes")),
        _ => Err(Error::new(Kind::Terminated, "stopped by a signal; the same command resumes")),
    }
}
