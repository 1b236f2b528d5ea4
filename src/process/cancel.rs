//! Stop requests: a signal sets a flag, the stages look at it for every batch.
//!
//! A publication that has begun is brought to its end: nothing in it looks at the flag, and [`Commit`] keeps
//! others from ending it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Error, Kind, Result};

static SIGNAL: std::sync::OnceLock<Arc<AtomicUsize>> = std::sync::OnceLock::new();
static COMMITTING: AtomicBool = AtomicBool::new(false);

/// Listens for SIGTERM, SIGINT and SIGHUP; a second one ends the process at once.
pub fn install() -> Result<()> {
    let flag = SIGNAL.get_or_init(|| Arc::new(AtomicUsize::new(0)));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let again = Arc::new(AtomicBool::new(false));
        let failed = |e: std::io::Error| Error::bug(format!("cannot listen for signals: {e}"));
        // The order matters: the first signal finds `again` unset and only arms it.
        let code = if signal == SIGINT { Kind::Interrupted } else { Kind::Terminated }.exit_code();
        signal_hook::flag::register_conditional_shutdown(signal, code.into(), Arc::clone(&again))
            .map_err(failed)?;
        signal_hook::flag::register(signal, again).map_err(failed)?;
        signal_hook::flag::register_usize(signal, Arc::clone(flag), signal as usize).map_err(failed)?;
    }
    Ok(())
}

/// An error once a stop was asked for, and while the process holds more memory than it may.
pub fn check() -> Result<()> {
    match SIGNAL.get().map_or(0, |f| f.load(Ordering::Relaxed)) as i32 {
        0 => crate::process::memory::check(),
        SIGINT => Err(Error::new(Kind::Interrupted, "stopped by SIGINT; the same command resumes")),
        _ => Err(Error::new(Kind::Terminated, "stopped by a signal; the same command resumes")),
    }
}

/// While one lives, tables are being published.
pub struct Commit(());

impl Commit {
    pub fn begin() -> Commit {
        COMMITTING.store(true, Ordering::SeqCst);
        Commit(())
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        COMMITTING.store(false, Ordering::SeqCst);
    }
}

/// Whether tables are being published.
pub fn committing() -> bool {
    COMMITTING.load(Ordering::SeqCst)
}
