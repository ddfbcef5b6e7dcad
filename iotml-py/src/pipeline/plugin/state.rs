//! What a stage written in Python remembers, by partition: core's `Stateful` over three methods of the instance.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use iotml_core::batch::{Lane, LaneInfo};
use iotml_core::state::{StateError, Stateful};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::exception::Raised;
use super::stage::{ENDING, Instance, attached};

/// The name of the partition behind each lane.
pub type Partitions = Arc<HashMap<Lane, Arc<str>>>;

/// What a stage has that keeps state.
const METHODS: [&str; 3] = ["snapshot", "restore", "forget"];

/// Whether the object keeps state; raises `TypeError` if it has some of the methods and lacks others.
pub fn keeps_state(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let mut lacking = Vec::new();
    for method in METHODS {
        if object.getattr_opt(method)?.is_none() {
            lacking.push(format!("{method}()"));
        }
    }
    if lacking.is_empty() || lacking.len() == METHODS.len() {
        return Ok(lacking.is_empty());
    }
    let (kind, lacking) = (object.get_type().name()?, lacking.join(" and "));
    Err(PyTypeError::new_err(format!(
        "{kind} keeps state, so it needs snapshot(partition), restore(partition, state) and forget(partition): it has no {lacking}"
    )))
}

impl Stateful for Instance {
    fn assigned(&mut self, lanes: &[LaneInfo]) {
        let partitions = Arc::make_mut(&mut self.partitions);
        for info in lanes {
            // The partition's former lane is gone for good.
            partitions.retain(|_, partition| *partition != info.partition);
            partitions.insert(info.lane, info.partition.clone());
        }
    }

    fn snapshot(&self, partition: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.with_state("taken", partition, |object| {
            let state = object.call_method1("snapshot", (partition,))?;
            if state.is_none() {
                return Ok(None);
            }
            let Ok(bytes) = state.cast::<PyBytes>() else {
                let kind = state.get_type().name()?;
                let message =
                    format!("snapshot(partition) returned {kind}; return bytes, or None where there is no state");
                return Err(PyTypeError::new_err(message));
            };
            Ok(Some(bytes.as_bytes().to_vec()))
        })
    }

    fn restore(&mut self, partition: &str, snapshot: &[u8]) -> Result<(), StateError> {
        self.with_state("restored", partition, |object| {
            object.call_method1("restore", (partition, PyBytes::new(object.py(), snapshot))).map(|_| ())
        })
    }

    fn forget(&mut self, partition: &str) {
        let forgotten =
            self.with_state("forgotten", partition, |object| object.call_method1("forget", (partition,)).map(|_| ()));
        if let Err(error) = forgotten {
            tracing::warn!(plugin = self.name(), partition, error = %iotml_core::error::report(&error), "forget() failed");
        }
        Arc::make_mut(&mut self.partitions).retain(|_, of| **of != *partition);
    }
}

impl Instance {
    fn with_state<T>(
        &self,
        action: &'static str,
        partition: &str,
        call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T, StateError> {
        let called =
            attached(|py| call(self.object(py)).map_err(|exception| io::Error::other(Raised::new(py, exception))));
        called.unwrap_or_else(|| Err(io::Error::other(ENDING))).map_err(|source| StateError::Store {
            action,
            stage: self.name().to_owned(),
            partition: partition.to_owned(),
            source,
        })
    }
}
