//! The embedded servers, for tests and notebooks without servers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iotml_core::error::report;
use iotml_kafka::EmbeddedKafka;
use iotml_mqtt::embedded::EmbeddedBroker;
use pyo3::prelude::*;

use crate::error::IotmlError;
use crate::process::ForkGuard;

/// An in-memory Kafka cluster in this process, on loopback and a free port, until `stop` or the end of a `with` block.
///
/// A partition keeps the newest 5 MiB and at most 100,000 messages, and drops older ones without a word; topics cannot be
/// created through the protocol, and nothing is compacted. Who joins a group again soon after its last member left waits for
/// nearly the time of a session (`session.timeout.ms`, 45 seconds unless set). It is for tests and demos.
#[pyclass(frozen, module = "iotml.testing", name = "EmbeddedKafka")]
pub struct PyEmbeddedKafka {
    cluster: Mutex<Option<EmbeddedKafka>>,
    guard: ForkGuard,
    bootstrap: String,
}

#[pymethods]
impl PyEmbeddedKafka {
    /// `topics` are created, each with so many partitions.
    #[new]
    #[pyo3(signature = (topics: "dict[str, int]"=BTreeMap::new()))]
    fn new(py: Python<'_>, topics: BTreeMap<String, u16>) -> PyResult<Self> {
        let started = py.detach(|| {
            let cluster = EmbeddedKafka::start(1).map_err(|error| report(&error))?;
            // Nobody else comes that a group would have to wait for.
            cluster.set_group_delay(Duration::ZERO);
            let created = topics.iter().try_for_each(|(name, n_partitions)| cluster.create_topic(name, *n_partitions));
            created.map(|()| cluster).map_err(|error| report(&error))
        });
        let cluster = started.map_err(IotmlError::new_err)?;
        let bootstrap = cluster.bootstrap_servers();
        Ok(Self { cluster: Mutex::new(Some(cluster)), guard: ForkGuard::new(), bootstrap })
    }

    /// What to set `bootstrap.servers` to.
    #[getter]
    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Ends the cluster; what it kept is gone.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.guard.check("cluster")?;
        let cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(cluster));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error: "object"))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.stop(py)
    }

    fn __repr__(&self) -> String {
        format!("EmbeddedKafka({:?})", self.bootstrap)
    }
}

impl Drop for PyEmbeddedKafka {
    fn drop(&mut self) {
        let cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !self.guard.is_here() {
            // Its thread did not survive the fork, and would be waited for in vain.
            std::mem::forget(cluster);
        }
    }
}

/// An MQTT 5 broker in this process, on loopback and a free port, until `stop` or the end of a `with` block. It keeps
/// everything in memory and drops nothing; it is for tests and demos.
#[pyclass(frozen, module = "iotml.testing", name = "EmbeddedMqtt")]
pub struct PyEmbeddedMqtt {
    broker: Mutex<Option<EmbeddedBroker>>,
    guard: ForkGuard,
    address: String,
}

#[pymethods]
impl PyEmbeddedMqtt {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let broker = py.detach(EmbeddedBroker::start).map_err(|error| IotmlError::new_err(report(&error)))?;
        let address = broker.address();
        Ok(Self { broker: Mutex::new(Some(broker)), guard: ForkGuard::new(), address })
    }

    /// `host:port`.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// Ends the broker; what it kept is gone.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.guard.check("broker")?;
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(broker));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error: "object"))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.stop(py)
    }

    fn __repr__(&self) -> String {
        format!("EmbeddedMqtt({:?})", self.address)
    }
}

impl Drop for PyEmbeddedMqtt {
    fn drop(&mut self) {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !self.guard.is_here() {
            std::mem::forget(broker);
        }
    }
}
