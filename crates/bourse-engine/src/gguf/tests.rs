//! The reader against good, bad and mutated files.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::testing::{GgufWriter, Recipe};
use crate::vocabulary::Vocabulary;

fn open(bytes: Vec<u8>) -> Result<GgufFile, GgufError> {
    GgufFile::from_bytes(Arc::from(bytes))
}

fn small() -> Recipe {
    Recipe { layers: 1, width: 32, heads: 2, kv_heads: 1, feed_width: 32, vocab_size: 8, ..Recipe::default() }
}

/// A file with one metadata entry, given by its raw encoding after the key.
fn with_entry(value: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(0_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.push(b'k');
    file.extend(value);
    file
}

fn entry(type_id: u32, value: &[u8]) -> Vec<u8> {
    with_entry(&[&type_id.to_le_bytes()[..], value].concat())
}

#[test]
fn a_written_file_reads_back() {
    let mut writer = GgufWriter::default();
    writer.u32("a.number", 7);
    writer.f32("a.float", 0.5);
    writer.string("a.text", "grüße");
    writer.strings("a.list", ["x", "y"].map(str::to_owned).into_iter());
    writer.tensor("t", TensorType::F32, &[2, 3], (0..24).collect());
    writer.tensor("u", TensorType::Q8_0, &[32], vec![9; 34]);
    let mut file = open(writer.finish()).unwrap();
    assert_eq!(file.get_u32("a.number").unwrap(), 7);
    assert!((file.get_f32("a.float").unwrap() - 0.5).abs() < f32::EPSILON);
    assert_eq!(file.get_str("a.text").unwrap(), "grüße");
    assert_eq!(file.get_array("a.list").unwrap().as_strings().unwrap(), ["x", "y"]);
    assert!(matches!(file.get_u32("a.text"), Err(GgufError::Metadata { .. })));
    let info = file.tensor("t").unwrap();
    assert_eq!((info.row_elements(), info.rows(), info.bytes), (2, 3, 24));
    let mut bytes = vec![1; 3];
    file.read_tensor("t", &mut bytes).unwrap();
    assert_eq!(bytes, (0..24).collect::<Vec<u8>>());
    file.read_tensor("u", &mut bytes).unwrap();
    assert_eq!(bytes, vec![9; 34]);
    assert!(matches!(file.read_tensor("v", &mut bytes), Err(GgufError::NoTensor(_))));
}

#[test]
fn every_scalar_type_is_read() {
    for (type_id, bytes, expected) in [
        (0, &[200][..], Value::Uint(200)),
        (1, &[0xFF], Value::Int(-1)),
        (2, &[1, 1], Value::Uint(257)),
        (3, &[0xFE, 0xFF], Value::Int(-2)),
        (4, &[1, 0, 0, 0], Value::Uint(1)),
        (5, &[0xFF; 4], Value::Int(-1)),
        (6, &[0, 0, 0, 0x3F], Value::Float(0.5)),
        (7, &[1], Value::Bool(true)),
        (8, &[1, 0, 0, 0, 0, 0, 0, 0, b'x'], Value::String("x".to_owned())),
        (10, &[0xFF; 8], Value::Uint(u64::MAX)),
        (11, &[0xFF; 8], Value::Int(-1)),
        (12, &[0, 0, 0, 0, 0, 0, 0xE0, 0x3F], Value::Float(0.5)),
    ] {
        let file = open(entry(type_id, bytes)).unwrap();
        assert_eq!(file.value("k"), Some(&expected), "type {type_id}");
    }
}

#[test]
fn malformed_values_are_refused() {
    let array =
        |type_id: u32, count: u64| entry(9, &[&type_id.to_le_bytes()[..], &count.to_le_bytes()].concat());
    for (what, file) in [
        ("an unknown type", entry(13, &[0; 8])),
        ("a truth value of 2", entry(7, &[2])),
        ("text that is not UTF-8", entry(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xFF])),
        ("an array of arrays", array(9, 0)),
        ("an array of nothing known", array(99, 0)),
        ("an array longer than the file", array(0, 1000)),
        ("a string longer than the file", entry(8, &[0xFF, 0xFF, 0, 0, 0, 0, 0, 0])),
        ("a string of 2^63 bytes", entry(8, &[0, 0, 0, 0, 0, 0, 0, 0x80])),
        ("nothing after the type", entry(10, &[])),
    ] {
        assert!(open(file).is_err(), "{what}");
    }
}

#[test]
fn limits_hold_at_the_bound_and_one_past() {
    let header = |tensors: u64, entries: u64| {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(tensors.to_le_bytes());
        file.extend(entries.to_le_bytes());
        open(file)
    };
    // At the bound the count is believed, and the file turns out to be too short.
    assert!(matches!(header(TENSORS_MAX, 0), Err(GgufError::Truncated { .. })));
    assert!(matches!(header(TENSORS_MAX + 1, 0), Err(GgufError::Limit { .. })));
    assert!(matches!(header(0, METADATA_ENTRIES_MAX), Err(GgufError::Truncated { .. })));
    assert!(matches!(header(0, METADATA_ENTRIES_MAX + 1), Err(GgufError::Limit { .. })));
    let array = |count: u64| open(entry(9, &[&0_u32.to_le_bytes()[..], &count.to_le_bytes()].concat()));
    assert!(matches!(array(ARRAY_ITEMS_MAX), Err(GgufError::Truncated { .. })));
    assert!(matches!(array(ARRAY_ITEMS_MAX + 1), Err(GgufError::Limit { .. })));
    let string = |bytes: u64| open(entry(8, &bytes.to_le_bytes()));
    assert!(matches!(string(STRING_BYTES_MAX), Err(GgufError::Truncated { .. })));
    assert!(matches!(string(STRING_BYTES_MAX + 1), Err(GgufError::Limit { .. })));
    let key = |bytes: usize| {
        let mut writer = GgufWriter::default();
        writer.u32(&"k".repeat(bytes), 1);
        open(writer.finish())
    };
    assert!(key(NAME_BYTES_MAX as usize).is_ok());
    assert!(matches!(key(NAME_BYTES_MAX as usize + 1), Err(GgufError::Limit { .. })));
    let alignment = |alignment: u64| {
        let mut writer = GgufWriter::default();
        writer.u32("general.alignment", alignment as u32);
        open(writer.finish())
    };
    assert!(alignment(ALIGNMENT_MAX).is_ok());
    assert!(matches!(alignment(ALIGNMENT_MAX * 2), Err(GgufError::Limit { .. })));
    assert!(matches!(alignment(48), Err(GgufError::Malformed(_))));
    assert!(matches!(alignment(0), Err(GgufError::Malformed(_))));
}

#[test]
fn tensors_must_have_a_shape_that_fits() {
    let tensor = |dimensions: &[u32], bytes: usize| {
        let mut writer = GgufWriter::default();
        writer.tensor("t", TensorType::Q8_0, dimensions, vec![0; bytes]);
        open(writer.finish())
    };
    assert!(tensor(&[32, 1, 1, 1], 34).is_ok());
    assert!(matches!(tensor(&[32, 1, 1, 1, 1], 34), Err(GgufError::Limit { .. })));
    assert!(matches!(tensor(&[], 34), Err(GgufError::Limit { .. })));
    assert!(matches!(tensor(&[31], 34), Err(GgufError::Malformed(_))));
    assert!(matches!(tensor(&[32, 0], 34), Err(GgufError::Malformed(_))));
    assert!(matches!(tensor(&[32, 3], 34), Err(GgufError::Malformed(_))), "reaches past the end");
    let most = 1 << 18;
    assert!(matches!(tensor(&[most, most], 34), Err(GgufError::Malformed(_))), "believed, but not there");
    assert!(matches!(tensor(&[most, most, 2], 34), Err(GgufError::Limit { .. })));
    assert!(matches!(tensor(&[u32::MAX; 4], 34), Err(GgufError::Limit { .. })));
}

#[test]
fn other_files_are_refused_by_their_first_bytes() {
    assert!(matches!(open(b"PK\x03\x04rest".to_vec()), Err(GgufError::Magic)));
    assert!(matches!(open(b"GGU".to_vec()), Err(GgufError::Truncated { .. })));
    assert!(matches!(open(b"GGUF\x01\0\0\0".to_vec()), Err(GgufError::Version(1))));
    // A file of the other byte order shows as a version of 2^24 times the real one.
    assert!(matches!(open(b"GGUF\0\0\0\x03".to_vec()), Err(GgufError::Version(_))));
}

#[test]
fn the_same_name_twice_is_refused() {
    let mut writer = GgufWriter::default();
    writer.u32("k", 1);
    writer.u32("k", 1);
    assert!(matches!(open(writer.finish()), Err(GgufError::Malformed(_))));
    let mut writer = GgufWriter::default();
    writer.tensor("t", TensorType::F32, &[1], vec![0; 4]);
    writer.tensor("t", TensorType::F32, &[1], vec![0; 4]);
    assert!(matches!(open(writer.finish()), Err(GgufError::Malformed(_))));
}

#[test]
fn a_file_that_shrinks_after_the_check_is_an_error() {
    let path = std::env::temp_dir().join(format!("bourse-shrinks-{}.gguf", std::process::id()));
    std::fs::write(&path, small().file()).unwrap();
    let mut file = GgufFile::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(600).unwrap();
    let outcome = file.read_tensor("output_norm.weight", &mut Vec::new());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(outcome, Err(GgufError::Truncated { .. })));
}

#[test]
fn every_cut_of_a_file_is_refused() {
    let whole = small().file();
    for length in 0..whole.len() - 32 {
        assert!(open(whole[..length].to_vec()).is_err(), "cut to {length} bytes");
    }
}

/// Opens the bytes and reads everything that can be read; only a panic or a runaway would be wrong.
fn read_all(bytes: Vec<u8>) {
    let Ok(mut file) = open(bytes) else { return };
    let names: Vec<String> = file.tensors().map(|(name, _)| name.to_owned()).collect();
    let mut into = Vec::new();
    for name in names {
        let bytes = file.tensor(&name).map(|info| info.bytes);
        file.read_tensor(&name, &mut into).unwrap();
        assert_eq!(Some(into.len() as u64), bytes);
    }
    let _ = Vocabulary::from_gguf(&file);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = small().file();
        // The header is where the reader can go wrong; most changes go there.
        let header = bytes.len().min(1500);
        for (place, value) in changes {
            let at = place.index(header);
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_all(bytes);
    }

    #[test]
    fn mutated_models_load_or_are_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = small().file();
        for (place, value) in changes {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        let path = std::env::temp_dir().join(format!("bourse-mutated-{}.gguf", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let options = crate::LoadOptions { threads: 1, ..crate::LoadOptions::default() };
        let loaded = crate::Model::load(&path, &options, &mut |_| {});
        std::fs::remove_file(&path).unwrap();
        if let Ok(model) = loaded {
            // A model that loads runs, whatever its numbers are.
            let mut stage = crate::Stage::new(Arc::new(model), 1, 32);
            let row = crate::StageRow { sequence: 0, position: 0 };
            let hidden = stage.run(&[row], crate::StageInput::Tokens(&[1])).unwrap();
            stage.logits(&hidden).unwrap();
        }
    }
}
