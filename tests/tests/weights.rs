//! Checkpoints and the tree of names: every dtype, one file or shards, bytes or ranges.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tributary_core::dtype::Format;
use tributary_core::weights::{Checkpoint, dequantize};

/// A safetensors file of these tensors, written by the reference implementation.
fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.to_string(), TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views.collect::<BTreeMap<_, _>>(), None).unwrap()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn every_float_dtype_loads() {
    let values = [0.0, -1.5, 3.25, 65504.0, -0.000_061_035_156, 2.0];
    let f16s = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let bf16s = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let bytes = file(&[
        ("a.weight", Dtype::F32, &[2, 3], f32_bytes(&values)),
        ("b.weight", Dtype::F16, &[2, 3], f16s),
        ("c.weight", Dtype::BF16, &[2, 3], bf16s),
    ]);
    let checkpoint = Checkpoint::from_bytes("model.safetensors", bytes).unwrap();
    for (name, format, exact) in
        [("a", Format::F32, true), ("b", Format::F16, true), ("c", Format::F32, false)]
    {
        let data = checkpoint.matrix(&format!("{name}.weight"), [2, 3]).unwrap();
        assert_eq!((data.name.as_str(), data.format, data.shape), (name, format, [2, 3]));
        for (found, expected) in dequantize(&data).unwrap().iter().zip(values) {
            let expected = if exact { expected } else { bf16::from_f32(expected).to_f32() };
            assert_eq!(*found, expected, "{name}");
        }
    }
}
