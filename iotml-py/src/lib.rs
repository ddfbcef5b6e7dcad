//! The native half of the Python module `iotml`; the other half is in `python/iotml/`.
//!
//! | file | what |
//! | --- | --- |
//! | `error.rs` | a Rust error as the exception of its stage, with its causes |
//! | `process.rs` | waiting without the GIL, Ctrl-C, and forks |
//! | `array.rs` | NumPy arrays in and out |
//! | `column.rs` | Arrow columns as NumPy arrays |
//! | `capsule.rs` | Arrow data in and out |
//! | `model.rs` | models as files and bytes |
//! | `scorer/` | `Scorer` |
//! | `store/` | where models are kept |
//! | `model_topic.rs` | where models are announced |
//! | `log/` | reading topics and files for training |
//! | `pipeline/` | pipelines, and their stages written in Python |
//! | `embedded.rs` | servers inside the process |
//! | `cli.rs` | the command line of a worker, the demo, the simulator |

mod array;
mod capsule;
mod cli;
mod column;
mod embedded;
mod error;
mod log;
mod model;
mod model_topic;
mod pipeline;
mod process;
mod scorer;
mod store;

use pyo3::pymodule;

/// What is compiled; users import `iotml`, which re-exports it.
#[pymodule]
mod _iotml {
    use pyo3::prelude::*;

    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python packages give their version")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::model::{check_model, embed_manifest};
    #[pymodule_export]
    use crate::model_topic::TopicClient;
    #[pymodule_export]
    use crate::scorer::{Prediction, Scorer};
    #[pymodule_export]
    use crate::store::StoreClient;

    #[pymodule_export]
    use crate::log::{
        FileRange, FileReader, LogBatch, LogRead, LogStats, LogStream, PyLogRange, PyLogReader, Rejection,
    };

    #[pymodule_export]
    use crate::cli::run_command;
    #[pymodule_export]
    use crate::embedded::{PyEmbeddedKafka, PyEmbeddedMqtt};
    #[pymodule_export]
    use crate::pipeline::{Pipeline, PyBatch, Stats, Task, stop_pipelines, toml_text};

    #[pymodule_init]
    fn init(py: Python<'_>) -> PyResult<()> {
        crate::model::prefer_installed_onnxruntime(py)
    }
}
