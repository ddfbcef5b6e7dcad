//! Structured logs on stderr, as text for people or JSON for machines, without secrets (invariant 10).

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::error::ConfigError;
use crate::plugin::config::{LogFormat, LogTable, Secrets};

/// The environment variable that overrides the configured level.
const OVERRIDE: &str = "RUST_LOG";

/// What no line of the process may hold. There is one log, and a program may start one pipeline after the other.
static HIDDEN: LazyLock<Hidden> = LazyLock::new(Hidden::default);

type Hidden = Arc<RwLock<Secrets>>;

/// Starts logging for the whole process, with stars in place of `secrets`. Level and format are those of the first call; a
/// later one only adds its secrets.
pub fn init(table: &LogTable, secrets: Secrets) -> Result<(), ConfigError> {
    let overriding = env::var(OVERRIDE).ok().filter(|level| !level.is_empty());
    let filter = match &overriding {
        Some(level) => filter(level).map_err(|error| ConfigError::with(format!("{OVERRIDE}: {error}"), error))?,
        None => filter(&table.level)?,
    };
    HIDDEN.write().unwrap_or_else(PoisonError::into_inner).extend(&secrets);
    let writer = Scrubbed { secrets: HIDDEN.clone(), inner: io::stderr };
    // Complaints about lines that cannot be written would go to the same stderr, and panic there.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let set = match table.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A program that already logs its own way keeps it.
    drop(set);
    Ok(())
}

/// What `level` lets through.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(level).map_err(|error| {
        let message =
            format!("{level:?} is no level; write error, warn, info, debug or trace, or info,iotml_kafka=debug");
        ConfigError::with(message, error)
    })
}

/// Writes lines with stars in place of secrets.
#[derive(Clone, Debug)]
struct Scrubbed<M> {
    secrets: Hidden,
    inner: M,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Scrubbed<M> {
    type Writer = ScrubbedWriter<'a, M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbedWriter { secrets: &self.secrets, inner: self.inner.make_writer() }
    }
}

struct ScrubbedWriter<'a, W> {
    secrets: &'a RwLock<Secrets>,
    inner: W,
}

impl<W: Write> Write for ScrubbedWriter<'_, W> {
    /// Takes a whole line at once, which is how the subscriber writes. A log that nobody reads any more (a closed pipe, a
    /// full disk) loses its lines and stops nothing.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let _ = match secrets.is_empty() {
            true => self.inner.write_all(line),
            false => self.inner.write_all(secrets.scrub(&String::from_utf8_lossy(line)).as_bytes()),
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.inner.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(is_json: bool) -> String {
        let mut secrets = Secrets::default();
        secrets.add("hunter\"2");
        let kept = Kept::default();
        let inner = kept.clone();
        let hidden = Hidden::default();
        let writer = Scrubbed { secrets: hidden.clone(), inner: move || inner.clone() };
        // As a second pipeline of the process brings them, when the log runs already.
        hidden.write().unwrap().extend(&secrets);
        let lines = tracing_subscriber::fmt().with_writer(writer).with_ansi(false);
        let log = || tracing::info!(password = "hunter\"2", topic = "cars", "refused: {}", "hunter\"2");
        match is_json {
            true => tracing::subscriber::with_default(lines.json().finish(), log),
            false => tracing::subscriber::with_default(lines.finish(), log),
        }
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn inv_10_no_secret_reaches_the_log() {
        for is_json in [false, true] {
            let line = logged(is_json);
            assert!(line.contains("cars") && line.contains("***"), "{line}");
            assert!(!line.contains("hunter"), "{line}");
        }
        let line: serde_json::Value = serde_json::from_str(&logged(true)).unwrap();
        assert_eq!(line["fields"]["password"], "***");
    }

    #[test]
    fn a_wrong_level_is_an_error() {
        assert!(filter("info,iotml_core=debug").is_ok());
        let error = filter("iotml=loud").unwrap_err();
        assert!(error.message.contains("is no level; write error, warn"), "{error}");
    }
}
