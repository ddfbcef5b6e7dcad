//! What goes to the terminal.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Prints to stdout. A reader that has gone away (`worker schema | head`) is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write to stdout: {error}"), 1),
    }
}

/// Says on stderr what went wrong; gives the exit code `code`.
pub fn fail(message: &dyn Display, code: u8) -> ExitCode {
    say("error", message);
    ExitCode::from(code)
}

/// Says something on stderr; a closed stderr is no reason to panic.
pub(super) fn say(kind: &str, message: &dyn Display) {
    let _ = writeln!(io::stderr(), "{kind}: {message}");
}
