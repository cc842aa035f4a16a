//! Checkpoints and the tree of names: every dtype, one file or shards, bytes or ranges.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::Dtype;
use tributary::files::{self, FolderSink, PositionedFile};
use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::{Backend, BackendInfo};
use tributary_core::dtype::Format;
use tributary_core::weights::{
    Checkpoint, Initial, NamedTensor, Sink, Storage, Weights, dequantize, format_of,
    quantize_checkpoint, save_safetensors,
};
use tributary_tests::files::{f32_bytes, fixtures, safetensors};
use tributary_tests::folder::Folder;
use tributary_tests::{shared, uniform};

fn open(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::from_bytes("model.safetensors", bytes).unwrap()
}

#[test]
fn every_float_dtype_loads() {
    let values = [0.0, -1.5, 3.3, 65504.0, -0.000_061_035_156, 2.0];
    let f16s = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let bf16s = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let checkpoint = open(safetensors(
        &[
            ("a.weight", Dtype::F32, &[2, 3], f32_bytes(&values)),
            ("b.weight", Dtype::F16, &[2, 3], f16s),
            ("c.weight", Dtype::BF16, &[2, 3], bf16s),
        ],
        &[],
    ));
    type Round = (&'static str, Format, fn(f32) -> f32);
    let rounds: [Round; 3] = [
        ("a", Format::F32, |v| v),
        ("b", Format::F16, |v| f16::from_f32(v).to_f32()),
        ("c", Format::F32, |v| bf16::from_f32(v).to_f32()),
    ];
    for (name, format, round) in rounds {
        let data = checkpoint.matrix(&format!("{name}.weight"), [2, 3]).unwrap();
        assert_eq!((data.module(), data.format, data.shape), (name, format, [2, 3]));
        let expected: Vec<f32> = values.iter().map(|&v| round(v)).collect();
        assert_eq!(dequantize(&data).unwrap(), expected, "{name}");
        assert_eq!(checkpoint.values(&format!("{name}.weight")).unwrap(), expected, "{name}");
    }
}

#[test]
fn axes_of_one_and_convolutions_are_matrices() {
    let file = |shape: &[usize]| {
        let n = shape.iter().product();
        open(safetensors(&[("w", Dtype::F32, shape, f32_bytes(&uniform(1, n)))], &[]))
    };
    let fitting: [(&[usize], [usize; 2]); 6] = [
        (&[6, 4], [6, 4]),
        (&[6, 4, 1], [6, 4]),
        (&[1, 6, 4], [6, 4]),
        (&[6, 2, 2, 3], [6, 12]),
        (&[1, 1, 6], [1, 6]),
        (&[6, 1, 1], [6, 1]),
    ];
    for (shape, asked) in fitting {
        let data = file(shape).matrix("w", asked);
        assert!(data.is_ok(), "{shape:?} as {asked:?}: {data:?}");
    }
    let wrong: [(&[usize], [usize; 2]); 6] = [
        (&[6, 4], [4, 6]),
        (&[6, 4], [6, 5]),
        (&[6, 4], [24, 1]),
        (&[24], [6, 4]),
        (&[6, 1], [1, 6]),
        (&[2, 3, 4], [6, 4]),
    ];
    for (shape, asked) in wrong {
        assert!(file(shape).matrix("w", asked).is_err(), "{shape:?} as {asked:?}");
    }
    assert!(file(&[1, 1, 6]).vector("w", 6).is_ok());
    assert!(file(&[2, 3]).vector("w", 6).is_err());
    assert!(file(&[6]).vector("w", 5).is_err());
}

#[test]
fn bytes_mapping_and_positions_give_the_same() {
    let path = fixtures().join("llama-gqa/model.safetensors");
    let bytes = open(std::fs::read(&path).unwrap());
    let mapped = files::open_checkpoint(&path).unwrap();
    let positioned = Box::new(PositionedFile::open(&path).unwrap());
    let positioned = Checkpoint::open("model.safetensors", positioned).unwrap();
    assert!(bytes.names().count() > 10);
    for name in bytes.names() {
        let expected = bytes.raw(name).unwrap();
        assert_eq!(mapped.raw(name).unwrap(), expected, "{name} mapped");
        assert_eq!(positioned.raw(name).unwrap(), expected, "{name} by positions");
    }
}

#[test]
fn a_matrix_from_memory_is_no_copy() {
    let mut sink = BTreeMap::new();
    let fixture = files::open_checkpoint(&fixtures().join("llama-gqa/model.safetensors")).unwrap();
    let rule = |name: &str, shape: &[usize]| format_of(name, shape, Format::Q8);
    quantize_checkpoint(&fixture, &rule, None, &mut sink, &mut |_, _, _| {}).unwrap();
    let bytes = bytes::Bytes::from(sink.remove("model.safetensors").unwrap());
    let checkpoint = Checkpoint::from_bytes("model.safetensors", bytes.clone()).unwrap();
    let inside = bytes.as_ptr_range();
    let mut blocks = 0;
    for name in checkpoint.names() {
        let [out, input] = checkpoint.info(name).unwrap().shape[..] else { continue };
        let data = checkpoint.matrix(name, [out, input]).unwrap();
        assert!(inside.contains(&data.values.as_ptr()), "{name}");
        if data.format == Format::Q8 {
            assert!(inside.contains(&data.scales.as_ptr()), "{name}.scales");
            blocks += 1;
        }
    }
    assert!(blocks > 5, "{blocks} quantised matrices");
}

#[test]
fn values_at_odd_positions_are_aligned() {
    // A header of odd length, which the reference writer never makes.
    let header = r#"{"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    for pad in 0..4 {
        let header = format!("{header}{}", " ".repeat(pad));
        let file = tributary_tests::files::with_header(&header, &f32_bytes(&[1.5, -2.0]));
        let data = open(file).matrix("w", [1, 2]).unwrap();
        assert_eq!(data.values.as_ptr() as usize % 4, 0, "{pad} spaces");
        assert_eq!(dequantize(&data).unwrap(), [1.5, -2.0], "{pad} spaces");
    }
}

#[test]
fn a_sharded_folder_is_one_checkpoint() {
    let folder = files::open_model(&fixtures().join("qwen2-bf16-sharded")).unwrap();
    assert!(folder.config.contains("qwen2"));
    let names: Vec<&str> = folder.checkpoint.names().collect();
    assert!(names.contains(&"lm_head.weight") && names.contains(&"model.norm.weight"));
    assert_eq!(folder.checkpoint.vector("model.norm.weight", 48).unwrap().len(), 48);
    assert!(folder.text("generation_config.json", 1 << 16).unwrap().is_some());
    assert!(folder.text("tokenizer.json", 1 << 16).unwrap().is_none());
}

#[test]
fn a_file_is_replaced_when_it_is_whole() {
    let folder = Folder::new("weights-replaced");
    folder.write("model.safetensors", b"before");
    let contents = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    let write = || {
        let mut sink = FolderSink::create(folder.path()).unwrap();
        sink.write_at("model.safetensors", 2, b"ter").unwrap();
        sink.write_at("model.safetensors", 0, b"af").unwrap();
        assert_eq!(contents().len(), 2, "beside the old one");
        sink
    };
    drop(write());
    assert_eq!(contents(), [b"before"]);
    write().finish().unwrap();
    assert_eq!(contents(), [b"after"]);
}

#[test]
fn what_is_saved_is_loaded_again_in_one_file_or_shards() {
    let tensors: Vec<NamedTensor> = (0..9)
        .map(|i| NamedTensor::f32(format!("t{i}"), &[i, 3], &uniform(i as u64, 3 * i)))
        .collect();
    let metadata = BTreeMap::from([("licence".to_owned(), "MIT".to_owned())]);
    for (max, files) in [(None, 1), (Some(1 << 20), 1), (Some(100), 6), (Some(1), 9)] {
        let folder = Folder::new("weights-1");
        let mut sink = FolderSink::create(folder.path()).unwrap();
        save_safetensors(&tensors, &metadata, max, &mut sink).unwrap();
        sink.finish().unwrap();
        let checkpoint = files::open_checkpoint(folder.path()).unwrap();
        let count = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, files + usize::from(files > 1), "{max:?}");
        assert_eq!(checkpoint.metadata()["licence"], "MIT");
        for tensor in &tensors {
            assert_eq!(checkpoint.raw(&tensor.spec.name).unwrap(), tensor.bytes, "{max:?}");
        }
        // Again, in another order: the same bytes.
        let mut again = BTreeMap::new();
        let reversed: Vec<NamedTensor> = tensors.iter().rev().cloned().collect();
        save_safetensors(&reversed, &metadata, max, &mut again).unwrap();
        for (name, bytes) in again {
            assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), bytes, "{name}");
        }
    }
}

#[test]
fn the_reference_reads_what_is_saved() {
    let mut sink = BTreeMap::new();
    let tensors = [NamedTensor::f32("b", &[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    save_safetensors(&tensors, &BTreeMap::new(), None, &mut sink).unwrap();
    let bytes = &sink["model.safetensors"];
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    assert_eq!(file.tensor("b").unwrap().data(), f32_bytes(&[1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn unused_names_what_nobody_asked_for() {
    let checkpoint = open(safetensors(
        &[
            ("layer.0.q.weight", Dtype::F32, &[2, 2], f32_bytes(&[0.0; 4])),
            ("layer.0.q.bias", Dtype::F32, &[2], f32_bytes(&[0.0; 2])),
            ("position_ids", Dtype::I64, &[1], vec![0; 8]),
        ],
        &[],
    ));
    let cpu = Cpu::default();
    let weights = Weights::new(&cpu, &checkpoint);
    let place = weights.at("layer").at(0).at("q");
    assert!(place.has("weight") && !place.has("scale"));
    assert_eq!(weights.unused(), ["layer.0.q.bias", "layer.0.q.weight", "position_ids"]);
    place.matrix("weight", [2, 2]).unwrap();
    assert_eq!(weights.unused(), ["layer.0.q.bias", "position_ids"]);
    place.vector("bias", 2).unwrap();
    assert_eq!(place.unused(), ["position_ids"]);
}

#[test]
fn fresh_weights_depend_on_seed_and_name_only() {
    let cpu = Cpu::default();
    let read = |seed, name: &str, shape: [usize; 2]| {
        let weights = Weights::fresh(&cpu, seed).at(name);
        assert!(!weights.has("weight") && weights.unused().is_empty());
        let matrix = weights.matrix("weight", shape).unwrap();
        let ids: Vec<u32> = (0..shape[0] as u32).collect();
        pollster::block_on(cpu.read(&cpu.embed(&matrix, &ids).unwrap())).unwrap()
    };
    let values = read(7, "q_proj", [64, 65]);
    assert_eq!(values, read(7, "q_proj", [64, 65]));
    assert_ne!(values, read(8, "q_proj", [64, 65]));
    assert_ne!(values, read(7, "k_proj", [64, 65]));
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let std = (values.iter().map(|v| v * v).sum::<f32>() / n - mean * mean).sqrt();
    // A normal cut at two standard deviations has 0.8796 of its standard deviation left.
    assert!(mean.abs() < 0.001 && (std - 0.0176).abs() < 0.0005, "mean {mean}, std {std}");
    assert!(values.iter().all(|v| v.abs() <= 0.04));

    // By LeCun a product keeps the size of what it multiplies.
    let wide = Weights::fresh(&cpu, 7).with_initial(Initial::FanIn);
    let matrix = wide.matrix("wide.weight", [50, 400]).unwrap();
    let ids: Vec<u32> = (0..50).collect();
    let values = pollster::block_on(cpu.read(&cpu.embed(&matrix, &ids).unwrap())).unwrap();
    let std = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
    assert!((std - 0.8796 / 20.0).abs() < 0.002, "std {std}");

    let norm = Weights::fresh(&cpu, 7).at("norm");
    let x = cpu.upload(&[3.0, -4.0], [1, 2]).unwrap();
    let y = cpu.layer_norm(
        &x,
        &norm.vector("weight", 2).unwrap(),
        &norm.vector("bias", 2).unwrap(),
        0.0,
    );
    // Weight one and bias zero: the normalised row itself.
    assert_eq!(pollster::block_on(cpu.read(&y.unwrap())).unwrap(), [1.0, -1.0]);
}

#[test]
fn a_range_outside_the_file_is_refused() {
    let bytes = bytes::Bytes::from_static(b"0123456789");
    let reversed = std::ops::Range { start: 5, end: 4 };
    for range in [0..11, 11..12, u64::MAX - 1..u64::MAX, reversed] {
        assert!(bytes.read(range.clone()).is_err(), "{range:?}");
    }
    assert_eq!(bytes.read(3..5).unwrap(), "34");
}

#[test]
fn real_checkpoints_load() {
    let Some(shared) = shared() else { return };
    let cpu = Cpu::default();
    let BackendInfo { device, .. } = cpu.info();
    for folder in ["iclrec-beauty", "llara-sasrec/movielens", "stories260k", "vit-tiny"] {
        let path = shared.join("weights").join(folder);
        let checkpoint = files::open_model(&path).unwrap().checkpoint;
        let weights = Weights::new(&cpu, &checkpoint);
        for name in checkpoint.names() {
            let shape = &checkpoint.info(name).unwrap().shape;
            let wide: Vec<usize> = shape.iter().copied().filter(|&axis| axis > 1).collect();
            match wide[..] {
                [] => weights.vector(name, 1).map(drop),
                [len] => weights.vector(name, len).map(drop),
                [out, ref rest @ ..] => {
                    weights.matrix(name, [out, rest.iter().product()]).map(drop)
                }
            }
            .unwrap_or_else(|e| panic!("{folder} {name} {shape:?} on {device}: {e}"));
        }
        assert!(weights.unused().is_empty(), "{folder}");
    }
}
