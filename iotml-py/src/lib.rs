//! The native half of the Python module `iotml`; the other half is in `python/iotml/`.
//!
//! | file | what |
//! | --- | --- |
//! | `error.rs` | a Rust error as the exception of its stage, with its causes |
//! | `process.rs` | waiting without the GIL, Ctrl-C, and forks |
//! | `array.rs` | NumPy arrays in and out |

// Until the areas that use all of them are here.
#[allow(dead_code)]
mod error;
#[allow(dead_code)]
mod process;

use pyo3::pymodule;

/// What is compiled; users import `iotml`, which re-exports it.
#[pymodule]
mod _iotml {
    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python packages give their version")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
