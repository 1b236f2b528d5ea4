//! A lock that is an object: who writes it first holds it, for as long as it is written again.
//!
//! A store frees nothing when a process dies. A lease that is not renewed ends after `TERM`; one whose holder
//! was a process of this machine that is gone ends at once. It spares work that would be lost: that no date is
//! published twice is the commit's business.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::lake::location::{FileId, Location};
use crate::lake::{input, objects};

/// How long a lease is good for, in seconds.
const TERM: u64 = 120;
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(30);

/// What the object says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    machine: String,
    process: u32,
    /// Tells a holder from another one in the same process.
    holder: u64,
    /// Seconds since 1970.
    until: u64,
}

/// A lease that is held; dropped, it is given back.
pub struct Lease {
    place: Location,
    held: Held,
    ended: Arc<(Mutex<bool>, Condvar)>,
    renewing: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes the lease; held by another run: 75.
    pub fn take(place: &Location) -> Result<Lease> {
        let uri = place.to_string();
        let holder = RandomState::new().hash_one(std::process::id());
        let held = Held { machine: machine(), process: std::process::id(), holder, until: 0 };
        for _ in 0..3 {
            if objects::write_new(&uri, held.renewed()?)? {
                return Ok(Lease::of(place, held));
            }
            // an answer that was lost says no of our own lease
            let Some((found, id)) = read(place)? else { continue };
            if found.as_ref().is_some_and(|f| f.holder == holder) {
                return Ok(Lease::of(place, held));
            }
            if found.as_ref().is_some_and(Held::lives) {
                return Err(Error::new(Kind::TryAgain, "another run of this date holds the lock")
                    .file(place.shown())
                    .hint(format!("a lock that nobody renews ends after {TERM} seconds")));
            }
            if objects::write_over(&uri, &id, held.renewed()?)? {
                return Ok(Lease::of(place, held));
            }
        }
        Err(Error::new(Kind::TryAgain, "another run of this date took the lock").file(place.shown()))
    }

    fn of(place: &Location, held: Held) -> Lease {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let (watched, mine, uri) = (Arc::clone(&ended), held.clone(), place.clone());
        let renew = move || {
            let (lock, bell) = &*watched;
            let mut ended = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*ended {
                let (guard, rung) = bell.wait_timeout(ended, RENEWED).unwrap_or_else(PoisonError::into_inner);
                ended = guard;
                if rung.timed_out() {
                    // one that cannot be renewed ends some day; what counts is the commit
                    let _ = mine.renew(&uri);
                }
            }
        };
        Lease { place: place.clone(), held, ended, renewing: std::thread::Builder::new().spawn(renew).ok() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.1.notify_all();
        self.renewing.take().map(JoinHandle::join);
        if self.held.stands(&self.place).is_some() {
            let _ = objects::remove(&self.place.to_string());
        }
    }
}

impl Held {
    /// Whether somebody can still be at work under it.
    fn lives(&self) -> bool {
        let dead =
            self.machine == machine() && !std::path::Path::new(&format!("/proc/{}", self.process)).exists();
        self.until > now() && !dead
    }

    /// What the object says from now on.
    fn renewed(&self) -> Result<Bytes> {
        let held = Held { until: now() + TERM, ..self.clone() };
        serde_json::to_vec(&held).map(Bytes::from).map_err(|e| Error::bug(e.to_string()))
    }

    /// The object, if it is still this lease's.
    fn stands(&self, place: &Location) -> Option<FileId> {
        let (found, id) = read(place).ok()??;
        found.filter(|f| f.holder == self.holder).map(|_| id)
    }

    fn renew(&self, place: &Location) -> Result<bool> {
        match self.stands(place) {
            Some(id) => objects::write_over(&place.to_string(), &id, self.renewed()?),
            None => Ok(false),
        }
    }
}

/// What stands there, and the version of it that was looked at first.
fn read(place: &Location) -> Result<Option<(Option<Held>, FileId)>> {
    let Some(id) = input::stat(place)? else { return Ok(None) };
    let text = match input::read(place) {
        Err(e) if e.kind() == Kind::Missing => return Ok(None),
        text => text?,
    };
    Ok(Some((serde_json::from_slice(&text).ok(), id)))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// This machine since it was started, as far as its processes see each other.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let space = std::fs::read_link("/proc/self/ns/pid").map(|p| p.display().to_string()).unwrap_or_default();
    format!("{} {} {space}", read("/proc/sys/kernel/random/boot_id"), read("/etc/hostname"))
}
