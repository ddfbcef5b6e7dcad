//! One instance of a plug-in: made by its factory, for one task.

use std::sync::Arc;

use iotml_core::error::ConfigError;
use iotml_core::pipeline::TaskContext;
use iotml_core::state::Stateful;
use pyo3::prelude::*;
use serde_json::Value;

use super::exception::Raised;
use super::state::{self, Partitions};
use super::task::Task;

/// A plug-in as it was registered.
#[derive(Debug)]
pub struct Definition {
    /// The `type`.
    pub name: &'static str,
    /// The method to call for a batch.
    pub method: &'static str,
    /// Takes the configuration as a dict, gives an instance.
    pub make: Py<PyAny>,
}

/// An instance of a plug-in.
#[derive(Debug)]
pub struct Instance {
    definition: Arc<Definition>,
    object: Py<PyAny>,
    /// What is called for a batch: a method of the object, or the object itself.
    call: Py<PyAny>,
    is_open: bool,
    keeps_state: bool,
    /// Those of the task, where the stage keeps state.
    pub(super) partitions: Partitions,
}

impl Instance {
    /// Calls the factory. Its exceptions are mistakes of the configuration.
    pub fn new(definition: &Arc<Definition>, config: &Value) -> Result<Self, ConfigError> {
        let made = attached(|py| {
            let made = Self::make(py, definition, config);
            made.map_err(|exception| Raised::new(py, exception))
        });
        match made {
            Some(Ok(made)) => Ok(made),
            Some(Err(raised)) => Err(ConfigError::with(raised.to_string(), raised)),
            None => Err(ConfigError::new(ENDING)),
        }
    }

    fn make(py: Python<'_>, definition: &Arc<Definition>, config: &Value) -> PyResult<Self> {
        let config = py.import("json")?.call_method1("loads", (config.to_string(),))?;
        let object = definition.make.bind(py).call1((config,))?;
        let Definition { name, method, .. } = &**definition;
        let call = match object.getattr_opt(*method)? {
            Some(call) => call,
            None if object.is_callable() => object.clone(),
            None => {
                let kind = object.get_type().name()?;
                let message = format!("the factory of {name:?} made a {kind}, which has no method {method}(batch)");
                return Err(pyo3::exceptions::PyTypeError::new_err(message));
            }
        };
        // Sinks keep theirs outside.
        let keeps_state = *method != "write" && state::keeps_state(&object)?;
        Ok(Self {
            definition: definition.clone(),
            object: object.unbind(),
            call: call.unbind(),
            is_open: false,
            keeps_state,
            partitions: Partitions::default(),
        })
    }

    /// Calls `open(task)`, where there is one.
    pub fn open(&mut self, py: Python<'_>, task: &TaskContext) -> PyResult<()> {
        if let Some(open) = self.object.bind(py).getattr_opt("open")? {
            open.call1((Task::new(task),))?;
        }
        self.is_open = true;
        Ok(())
    }

    /// Calls it for a batch.
    pub fn call<'py>(&self, py: Python<'py>, batch: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.call.bind(py).call1((batch,))
    }

    /// An attribute of the instance; `None` where there is none, and where it is `None`.
    pub fn attribute<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.object.bind(py).getattr_opt(name)?.filter(|value| !value.is_none()))
    }

    /// Calls `close()`, where there is one, once, and only if it was opened.
    pub fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        match self.object.bind(py).getattr_opt("close")? {
            Some(close) => close.call0().map(|_| ()),
            None => Ok(()),
        }
    }

    /// The object that the factory made.
    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Whether it remembers something from batch to batch.
    pub fn keeps_state(&self) -> bool {
        self.keeps_state
    }

    /// What it remembers, if it keeps state.
    pub fn state(&mut self) -> Option<&mut dyn Stateful> {
        if self.keeps_state { Some(self) } else { None }
    }

    /// The partitions of its task, if it keeps state.
    pub fn partitions(&self) -> Partitions {
        self.partitions.clone()
    }

    /// The `type`.
    pub fn name(&self) -> &'static str {
        self.definition.name
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        attached(|py| {
            if let Err(exception) = self.close(py) {
                tracing::warn!(plugin = self.name(), error = %Raised::new(py, exception), "close() failed");
            }
        });
    }
}

/// Why nothing can be called any more.
pub const ENDING: &str = "the Python interpreter is ending";

/// Calls `f` with the GIL; `None` when the interpreter is ending.
pub fn attached<T>(f: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    Python::try_attach(f)
}
