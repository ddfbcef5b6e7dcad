//! Model stores, as `iotml.ModelStore` asks them.

mod client;
mod failure;

pub use client::{Onnx, StoreClient, draft};
pub use failure::Failure;
