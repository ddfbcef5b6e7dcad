//! `validate`: checks configurations without starting anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::USAGE;
use super::output::{fail, print, say};
use crate::log;
use crate::plugin::Registry;
use crate::plugin::config::{Config, Mistake, Mistakes};

/// Reports everything that is wrong with every file.
pub(super) fn validate(files: &[PathBuf], show: bool, registry: &Arc<Registry>) -> ExitCode {
    let configs = match load_all(files, registry) {
        Ok(configs) => configs,
        Err(code) => return code,
    };
    let mut text = String::new();
    for config in &configs {
        if show {
            text.push_str(&format!("{:#}\n", config.redacted()));
        } else {
            let n_warnings = match config.warnings.len() {
                0 => String::new(),
                1 => " with 1 warning".to_owned(),
                n => format!(" with {n} warnings"),
            };
            let name = &config.frame.pipeline.name;
            text.push_str(&format!("{}: pipeline {name:?} is valid{n_warnings}\n", config.file.display()));
        }
    }
    print(&text)
}

/// Loads all files and says on stderr what is wrong with them, and what a person should look at.
pub(super) fn load_all(files: &[PathBuf], registry: &Arc<Registry>) -> Result<Vec<Config>, ExitCode> {
    let mut configs = Vec::with_capacity(files.len());
    let mut is_wrong = false;
    for file in files {
        match load(file, registry) {
            Ok(config) => {
                let file = config.file.display();
                config.warnings.iter().for_each(|warning| say("warning", &format!("{file}: {warning}")));
                configs.push(config);
            }
            Err(mistakes) => {
                say("error", &mistakes);
                is_wrong = true;
            }
        }
    }
    if is_wrong {
        return Err(ExitCode::from(USAGE));
    }
    for (at, config) in configs.iter().enumerate() {
        let name = &config.frame.pipeline.name;
        if let Some(first) = configs[..at].iter().find(|other| other.frame.pipeline.name == *name) {
            let (file, first) = (config.file.display(), first.file.display());
            let message = format!("{file}: pipeline {name:?} is already in {first}; give each a name of its own");
            return Err(fail(&message, USAGE));
        }
    }
    Ok(configs)
}

/// Loads one file, and checks what only the command line knows.
pub(super) fn load(file: &Path, registry: &Arc<Registry>) -> Result<Config, Mistakes> {
    let config = Config::load(file, registry)?;
    let level = config.frame.log.as_ref().map(|log| log::filter(&log.level));
    match level {
        Some(Err(error)) => {
            let mistakes = vec![Mistake::new("log.level", error.message)];
            Err(Mistakes { file: file.to_owned(), mistakes })
        }
        _ => Ok(config),
    }
}
