//! Structured logs on stderr, as text for people or JSON for machines, without secrets (invariant 10).

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, reload};

use crate::error::ConfigError;
use crate::plugin::config::{LogFormat, LogTable, Secrets};

/// The environment variable that overrides the configured level.
const OVERRIDE: &str = "RUST_LOG";

/// What no line of the process may hold. There is one log, and a program may start one pipeline after the other.
static HIDDEN: LazyLock<Hidden> = LazyLock::new(Hidden::default);

type Hidden = Arc<RwLock<Secrets>>;

/// The level of everything that has none of its own.
const ROOT: &str = "root";

/// What the log lets through, and how to change it; empty while the process does not log our way.
static LEVELS: Mutex<Option<Levels>> = Mutex::new(None);

struct Levels {
    /// As configured.
    configured: String,
    /// As asked for since, by module.
    changed: BTreeMap<String, String>,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send>,
}

impl Levels {
    fn text(&self) -> String {
        let changed = self.changed.iter().map(|(name, level)| match name.as_str() {
            ROOT => format!(",{level}"),
            name => format!(",{name}={level}"),
        });
        self.configured.clone() + &changed.collect::<String>()
    }
}

/// Starts logging for the whole process, with stars in place of `secrets`. Level and format are those of the first call; a
/// later one only adds its secrets.
pub fn init(table: &LogTable, secrets: Secrets) -> Result<(), ConfigError> {
    let overriding = env::var(OVERRIDE).ok().filter(|level| !level.is_empty());
    let (filter, configured) = match overriding {
        Some(level) => {
            let wrong = |error: ConfigError| ConfigError::with(format!("{OVERRIDE}: {error}"), error);
            (filter(&level).map_err(wrong)?, level)
        }
        None => (filter(&table.level)?, table.level.clone()),
    };
    HIDDEN.write().unwrap_or_else(PoisonError::into_inner).extend(&secrets);
    let writer = Scrubbed { secrets: HIDDEN.clone(), inner: io::stderr };
    // Complaints about lines that cannot be written would go to the same stderr, and panic there.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let set = match table.format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map(|()| -> Box<dyn Fn(_) -> _ + Send> { Box::new(move |filter| handle.reload(filter)) })
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map(|()| -> Box<dyn Fn(_) -> _ + Send> { Box::new(move |filter| handle.reload(filter)) })
        }
    };
    // A program that already logs its own way keeps it.
    if let Ok(reload) = set {
        *lock_levels() = Some(Levels { configured, changed: BTreeMap::new(), reload });
    }
    Ok(())
}

/// The levels in force, by module; `root` is that of all others.
pub fn levels() -> BTreeMap<String, String> {
    let Some(text) = lock_levels().as_ref().map(Levels::text) else { return BTreeMap::new() };
    let mut levels = BTreeMap::from([(ROOT.to_owned(), "error".to_owned())]);
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        match directive.rsplit_once('=') {
            Some((name, level)) => levels.insert(name.to_owned(), level.to_lowercase()),
            None if is_level(directive) => levels.insert(ROOT.to_owned(), directive.to_lowercase()),
            None => levels.insert(directive.to_owned(), "trace".to_owned()),
        };
    }
    levels
}

/// Changes the level of a module and what is below it (`iotml_kafka`, `iotml_core::pipeline`), or of `root`.
pub fn set_level(name: &str, level: &str) -> Result<(), ConfigError> {
    let level = level.to_lowercase();
    if !is_level(&level) {
        return Err(ConfigError::new(format!(
            "{level:?} is no level; there are off, error, warn, info, debug and trace"
        )));
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')) {
        return Err(ConfigError::new(format!("{name:?} is no module; write root, or a name like iotml_kafka")));
    }
    let mut levels = lock_levels();
    let levels = levels.as_mut().ok_or_else(|| ConfigError::new("the process does not log in iotml's way"))?;
    levels.changed.insert(name.to_owned(), level);
    let filter = filter(&levels.text())?;
    (levels.reload)(filter).map_err(|error| ConfigError::with("the level cannot be changed any more", error))
}

fn is_level(word: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].contains(&word.to_lowercase().as_str())
}

fn lock_levels() -> MutexGuard<'static, Option<Levels>> {
    // Every change is one assignment, so a panic elsewhere cannot leave it half made.
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner)
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
