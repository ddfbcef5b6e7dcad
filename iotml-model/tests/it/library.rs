//! A machine without ONNX Runtime.

use std::process::Command;

use iotml_model::{EngineChoice, Kind, Manifest, Model};

use crate::setup::options;

/// Set in the child process, where no other test has loaded a library yet.
const CHILD: &str = "IOTML_TEST_MISSING_LIBRARY";

#[cfg(feature = "onnxruntime")]
#[test]
fn missing_library_is_one_clear_error() {
    if std::env::var_os(CHILD).is_some() {
        let manifest = Manifest::builder(Kind::Reconstruction, "m").feature("x", None);
        let model = iotml_model::testing::scaled_copy(1, 1.0).build();
        let error = Model::from_bytes(model, "m", &options(manifest, EngineChoice::OnnxRuntime)).unwrap_err();
        println!("CHILD SAYS: {error}");
        return;
    }
    let says = |library: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "library::missing_library_is_one_clear_error", "--nocapture"]);
        let output = child.env(CHILD, "1").env("ORT_DYLIB_PATH", library).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().find_map(|line| Some(line.split_once("CHILD SAYS: ")?.1.to_owned())).unwrap()
    };
    let missing = says("/nowhere/libonnxruntime.so");
    assert!(missing.contains("pip install onnxruntime") && missing.contains("ORT_DYLIB_PATH"), "{missing}");
    assert!(missing.contains("/nowhere/libonnxruntime.so"), "{missing}");
    assert_eq!(missing.matches("ORT_DYLIB_PATH").count(), 1);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("libonnxruntime.so");
    std::fs::write(&file, b"not a library").unwrap();
    let damaged = says(file.to_str().unwrap());
    assert!(damaged.contains("found but not usable") && damaged.contains("libonnxruntime.so"), "{damaged}");
}
