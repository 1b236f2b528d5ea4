//! The program with failpoints before and after everything that it does to the disk, for the tests. The
//! released program has none.
//!
//!     COLDSTART_FAILPOINT='ACTION WHEN STEP PATH' failing run ...
//!
//! ACTION is `kill` (SIGKILL), `pause` (until the file that it makes, COLDSTART_FAILPOINT_PAUSED, is gone),
//! or the error that the step gets: `ENOSPC`, `EIO`. WHEN is `before`, `half` (of a write) or `after` (the
//! answer is lost). STEP is a step of the store, PATH a glob for what it is about. It happens once.
//! COLDSTART_FAILPOINT_LOG names a file that lists every step that the run does, `NUMBER STEP PATH` a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coldstart::lake::store::{Real, Store};
use faulty::{Faulty, Point, When};
use rustix::process::{Signal, getpid, kill_process};

#[path = "../src/lake/store/faulty.rs"]
mod faulty;

/// Where something happens, and what.
struct Failpoint {
    action: String,
    when: When,
    step: String,
    path: glob::Pattern,
    met: AtomicBool,
}

fn main() -> ExitCode {
    let failpoint =
        std::env::var("COLDSTART_FAILPOINT").ok().map(|text| parse(&text).expect("ACTION WHEN STEP PATH"));
    let log = std::env::var_os("COLDSTART_FAILPOINT_LOG")
        .map(|path| Mutex::new(File::create(path).expect("a file for the log")));
    let plan = move |p: &Point| {
        if let Some(log) = log.as_ref().filter(|_| p.when == When::Before) {
            writeln!(log.lock().expect("no panic"), "{} {} {}", p.number, p.step, p.path.display())
                .expect("a line of the log");
        }
        failpoint.as_ref().filter(|f| f.is_met(p)).and_then(|f| act(&f.action))
    };
    ExitCode::from(coldstart::cli::main(&Faulty::new(Real, Arc::new(plan))))
}

fn parse(text: &str) -> Option<Failpoint> {
    let mut words = text.splitn(4, ' ');
    let action = words.next()?.to_string();
    let when = match words.next()? {
        "before" => When::Before,
        "half" => When::Half,
        "after" => When::After,
        _ => return None,
    };
    let (step, path) = (words.next()?.to_string(), glob::Pattern::new(words.next()?).ok()?);
    Some(Failpoint { action, when, step, path, met: AtomicBool::new(false) })
}

impl Failpoint {
    fn is_met(&self, p: &Point) -> bool {
        p.when == self.when
            && p.step == self.step
            && self.path.matches_path(p.path)
            && !self.met.swap(true, Ordering::Relaxed)
    }
}

fn act(action: &str) -> Option<io::Error> {
    match action {
        "kill" => {
            kill_process(getpid(), Signal::KILL).expect("the process is its own");
            loop {
                std::thread::park();
            }
        }
        "pause" => {
            let path = std::env::var("COLDSTART_FAILPOINT_PAUSED").expect("a file for the pause");
            File::create(&path).expect("a file for the pause");
            while Path::new(&path).exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            None
        }
        "ENOSPC" => Some(io::Error::from_raw_os_error(libc::ENOSPC)),
        "EIO" => Some(io::Error::from_raw_os_error(libc::EIO)),
        other => panic!("no action {other}"),
    }
}
