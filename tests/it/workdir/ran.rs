//! The program as a process: what it said and how it ended.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Adds a line to the file in which `make faults` counts what happened, if it runs.
pub fn count(what: &str) {
    if let Some(path) = std::env::var_os("COLDSTART_FAULTS_LOG") {
        let line = format!("{what}\n");
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut log| log.write_all(line.as_bytes()))
            .expect("a line of the log");
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    line: String,
}

/// What a program said and how it ended. `{}` shows all of it.
pub struct Ran {
    command: String,
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn start(mut command: Command) -> Running {
        let line = format!("{command:?}\nin {:?}", command.get_current_dir());
        Running { child: command.spawn().unwrap_or_else(|e| panic!("{line}: {e}")), line }
    }

    /// Starts a run, stops the process once it has said that `stage` is done, lets `meanwhile` happen, and
    /// lets the process go on.
    pub fn halted(command: Command, stage: &str, meanwhile: impl FnOnce()) -> Ran {
        Ran::halted_at(command, (stage, "done"), |_| meanwhile())
    }

    /// As [`halted`](Ran::halted) at the first such event; `meanwhile` is told which process it is.
    pub fn halted_at(command: Command, (stage, event): (&str, &str), meanwhile: impl FnOnce(Pid)) -> Ran {
        let mut running = Ran::start(command);
        let stderr = running.child.stderr.take().expect("a pipe");
        let mut said = String::new();
        let mut meanwhile = Some(meanwhile);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            let found: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(act) = meanwhile.take_if(|_| found["stage"] == stage && found["event"] == event) {
                let process = Pid::from_child(&running.child);
                kill_process(process, Signal::STOP).expect("the process is ours");
                act(process);
                kill_process(process, Signal::CONT).expect("the process is ours");
            }
        }
        let ran = running.finish();
        Ran { stderr: said, ..ran }
    }

    /// The result line of a run that succeeded.
    pub fn result(&self) -> Value {
        self.line(0)
    }

    /// The one line on stdout of a run that ended with this exit code.
    pub fn line(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "exit {code}\n{self}");
        assert_eq!(self.stdout.matches('\n').count(), 1, "one line on stdout\n{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout: {e}\n{self}"))
    }

    /// The run succeeded with this status.
    pub fn is(&self, status: &str) -> &Ran {
        assert_eq!(self.result()["status"], status, "{self}");
        self
    }

    /// The error line of a run that failed with this exit code: the last line on stderr.
    pub fn error(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "exit {code}\n{self}");
        let last = self.stderr.lines().last().unwrap_or_default();
        let error: Value =
            serde_json::from_str(last).unwrap_or_else(|e| panic!("the last line on stderr: {e}\n{self}"));
        assert_eq!((&error["level"], &error["exit"]), (&"error".into(), &code.into()), "{self}");
        assert!(self.stdout.is_empty(), "nothing on stdout\n{self}");
        error
    }

    /// The events of a stage on stderr.
    pub fn events(&self, stage: &str) -> Vec<String> {
        let lines = self.stderr.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        lines
            .filter(|l| l["stage"] == stage)
            .map(|l| l["event"].as_str().unwrap_or_default().to_string())
            .collect()
    }
}

impl Running {
    /// SIGKILL: no handler runs.
    pub fn kill(&mut self) {
        self.child.kill().expect("the program is ours");
    }

    /// Lets `meanwhile` happen once the program has stopped at a failpoint with this file, then lets it go
    /// on.
    pub fn paused(mut self, file: &Path, meanwhile: impl FnOnce()) -> Ran {
        while !file.exists() {
            if self.child.try_wait().expect("a program").is_some() {
                panic!("it ended before the pause\n{}", self.finish());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        meanwhile();
        fs::remove_file(file).expect("the pause");
        self.finish()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn finish(self) -> Ran {
        let output = self.child.wait_with_output().expect("the program ends");
        if output.status.signal() == Some(Signal::KILL.as_raw()) {
            count("kill");
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran {
            command: self.line,
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\n{}\nexit: {:?}\nstdout: {}\nstderr:\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}
