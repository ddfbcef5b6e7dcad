//! What happened when, on stderr and in a file.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The log of one seed. Times count from when it was opened.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    began: Instant,
}

impl Journal {
    /// A new file.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?), began: Instant::now() })
    }

    /// Writes a line.
    pub fn note(&self, what: impl Display) {
        let line = format!("{:>7.2} s  {what}\n", self.began.elapsed().as_secs_f64());
        eprint!("{line}");
        // A full disk costs a line of the log, not the run.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }

    /// Seconds since it was opened.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
