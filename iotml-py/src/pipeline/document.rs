//! A document for the builder: written as TOML, so that what is built is also what can be kept in a file.

use pyo3::prelude::*;
use serde_json::{Map, Value};

use crate::error::ConfigError;

/// Tables in the order in which a person reads them.
const TABLES: [&str; 10] =
    ["pipeline", "source", "decode", "preprocess", "score", "route", "dead_letter", "state", "http", "log"];

/// The TOML text of a document in JSON.
#[pyfunction]
pub fn toml_text(json: &str) -> PyResult<String> {
    let wrong =
        |error: &dyn std::fmt::Display| ConfigError::new_err(format!("the document cannot be written: {error}"));
    let mut document: Map<String, Value> = serde_json::from_str(json).map_err(|error| wrong(&error))?;
    let mut text = String::new();
    for table in TABLES {
        let Some(value) = document.remove(table) else { continue };
        let one = Map::from_iter([(table.to_owned(), value)]);
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&toml::to_string_pretty(&one).map_err(|error| wrong(&error))?);
    }
    Ok(text)
}
