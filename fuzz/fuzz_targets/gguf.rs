//! Opens arbitrary bytes as a model file and reads everything that the header promises.
//!
//! `cargo +nightly fuzz run gguf` from this directory. Anything but an error or success is a finding: a panic,
//! a hang, or memory far beyond the input's size.
#![no_main]

use std::sync::Arc;

use bourse_engine::{GgufFile, Vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = GgufFile::from_bytes(Arc::from(bytes)) else { return };
    let names: Vec<String> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    let mut into = Vec::new();
    for name in names {
        file.read_tensor(&name, &mut into).expect("a range that was checked can be read");
    }
    let _ = Vocabulary::from_gguf(&file);
});
