//! What goes on beside a run: a thread says how far it is and sees to it that a stop request is honoured.
//!
//! A stage looks at stop requests after each batch. One that is between batches for longer than a grace
//! period is ended by this thread, as a kill would end it: the next run resumes. Publication is never ended
//! this way.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::Error;
use crate::lake::store::Real;
use crate::lake::store::files::write_atomic;
use crate::process::log::Log;
use crate::process::{cancel, memory};

/// How often the thread looks.
const TICK: Duration = Duration::from_millis(250);
/// What a stage has to honour a stop request; a scheduler kills after ten seconds or more.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `work`. Meanwhile says each `every` how far its stage is, keeps Argo's progress file, and where
/// `work` does not honour a stop request in time, says so by `last_words` and ends the process.
pub fn during<T>(
    log: &Log,
    every: Duration,
    last_words: &(dyn Fn(&Error) + Sync),
    work: impl FnOnce() -> T,
) -> T {
    let (running, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut argo = Argo::new();
            let (mut said, mut stopping) = (Instant::now(), None);
            while ended.recv_timeout(TICK.min(every)) == Err(RecvTimeoutError::Timeout) {
                argo.write(log);
                if said.elapsed() >= every {
                    said = Instant::now();
                    say(log);
                }
                match cancel::check() {
                    Err(error) if !cancel::committing() => {
                        if stopping.get_or_insert_with(Instant::now).elapsed() > GRACE {
                            let code = error.kind().exit_code();
                            last_words(&error.with("stage", log.at().map_or("", |a| a.stage)));
                            // SAFETY: takes no pointer; unlike exit, it runs no destructor of a library that
                            // another thread is using.
                            unsafe { libc::_exit(code.into()) }
                        }
                    }
                    _ => stopping = None,
                }
            }
            argo.write(log);
        });
        // dropped however `work` ends, which ends the thread
        let _running = running;
        work()
    })
}

fn say(log: &Log) {
    let Some(at) = log.at().filter(|_| !log.draws()) else { return };
    let mut details = json!({"seconds": at.since.elapsed().as_secs(), "mib": memory::resident() >> 20});
    if let Some((done, all)) = at.rows() {
        details["rows"] = json!(done);
        details["of"] = json!(all);
    }
    log.info(at.stage, "working", details);
}

/// The file in which Argo looks for `N/M`.
struct Argo {
    file: Option<PathBuf>,
    written: (u64, u64),
}

impl Argo {
    fn new() -> Argo {
        Argo { file: std::env::var_os("ARGO_PROGRESS_FILE").map(PathBuf::from), written: (0, 0) }
    }

    fn write(&mut self, log: &Log) {
        let (Some(file), Some(at)) = (&self.file, log.at()) else { return };
        let now = at.progress();
        if now == self.written {
            return;
        }
        self.written = now;
        if let Err(e) = write_atomic(&Real, file, format!("{}/{}\n", now.0, now.1).as_bytes()) {
            log.warn(
                at.stage,
                "the progress file cannot be written",
                json!({"file": file.display().to_string(), "error": e.message()}),
            );
            self.file = None;
        }
    }
}
