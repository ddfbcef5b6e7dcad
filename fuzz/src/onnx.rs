use iotml_model::manifest::Scale;
use iotml_model::precheck::{self, Limits};
use iotml_model::{Kind, Manifest};

/// A file, by itself and against a manifest; and as the manifest itself.
pub fn onnx(data: &[u8]) {
    let limits = Limits { max_elements: 20_000, ..Limits::default() };
    for kind in [None, Some(Kind::Reconstruction), Some(Kind::NextEvent), Some(Kind::Score)] {
        let manifest = kind.map(manifest);
        if let Err(refusal) = precheck::check(data.to_vec(), manifest.as_ref(), &limits) {
            assert!(refusal.to_string().len() < 20_000, "a refusal of {} bytes", refusal.to_string().len());
        }
    }
    if let Ok(manifest) = Manifest::from_json(data) {
        let again = serde_json::to_vec(&manifest).expect("a manifest is JSON");
        assert_eq!(Manifest::from_json(&again).expect("a manifest written is one"), manifest);
    }
}

fn manifest(kind: Kind) -> Manifest {
    Manifest::builder(kind, "m")
        .feature("a", Some(Scale::Range { min: 0.0, max: 1.0 }))
        .feature("b", None)
        .build()
        .expect("a sound manifest")
}
