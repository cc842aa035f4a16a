//! f16, q8 and q4 against their definition in f64, at odd widths.

use std::collections::BTreeMap;

use half::f16;
use safetensors::Dtype;
use tributary_core::backend::MatrixData;
use tributary_core::dtype::{BLOCK, Format};
use tributary_core::weights::{
    Checkpoint, Coding, Writer, dequantize, format_of, quantize, quantize_checkpoint,
};
use tributary_tests::files::{assert_refused, f32_bytes, safetensors};
use tributary_tests::uniform;

const WIDTHS: [usize; 8] = [1, 5, 31, 32, 33, 64, 97, 260];

/// Mostly small values and a few large ones, as in trained weights.
fn weights(seed: u64, n: usize) -> Vec<f32> {
    uniform(seed, n).iter().map(|v| 0.3 * v * v * v).collect()
}

fn scales(data: &MatrixData) -> Vec<f64> {
    let pairs = data.scales.chunks_exact(2);
    pairs.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect()
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

#[test]
fn q8_equals_its_twin() {
    for (seed, input) in WIDTHS.into_iter().enumerate() {
        let values = weights(seed as u64 + 1, 7 * input);
        let data = quantize("w", &values, [7, input], Format::Q8).unwrap();
        let mut quants = data.values.iter().map(|&byte| f64::from(byte as i8));
        let mut scales = scales(&data).into_iter();
        for row in values.chunks(input) {
            for block in row.chunks(BLOCK) {
                let absmax = block.iter().fold(0.0, |m: f64, &v| m.max(f64::from(v).abs()));
                let scale = scales.next().unwrap();
                assert_eq!(scale, f16::from_f64(absmax / 127.0).to_f64(), "width {input}");
                for &value in block {
                    let exact = f64::from(value) / scale;
                    let quant = quants.next().unwrap();
                    if scale == 0.0 {
                        // The block is below what an f16 scale can tell from zero.
                        assert!(quant == 0.0 && absmax < 4e-6, "{value} became {quant}");
                        continue;
                    }
                    // Nearest; a tie in f64 may fall either way in f32.
                    let bound = 0.5 + 1e-5;
                    let clamped = quant.abs() == 127.0 && exact.abs() > 127.0;
                    assert!((exact - quant).abs() <= bound || clamped, "{exact} became {quant}");
                }
            }
        }
        assert!(quants.next().is_none() && scales.next().is_none(), "width {input}");
    }
}

#[test]
fn q4_is_nearest_and_never_worse_than_plain_scales() {
    let (mut searched, mut plain_sum) = (0.0, 0.0);
    for (seed, input) in WIDTHS.into_iter().enumerate() {
        let values = weights(seed as u64 + 20, 7 * input);
        let data = quantize("w", &values, [7, input], Format::Q4).unwrap();
        let decoded = dequantize(&data).unwrap();
        let scales = scales(&data);
        let per_row = Format::Q4.row_scales(input);
        for (r, row) in values.chunks(input).enumerate() {
            for (i, block) in row.chunks(BLOCK).enumerate() {
                let scale = scales[r * per_row + i];
                let at = r * input + i * BLOCK;
                let found = &decoded[at..at + block.len()];
                for (&value, &found) in block.iter().zip(found) {
                    let exact = f64::from(value) / scale;
                    let nearest = exact.round().clamp(-8.0, 7.0) * scale;
                    let distance = |v: f64| (f64::from(value) - v).abs();
                    let bound = distance(nearest) * (1.0 + 1e-4) + 1e-9;
                    assert!(distance(f64::from(found)) <= bound, "{value} became {found}");
                }
                let error = squared_error(block, found);
                let largest =
                    block.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
                for plain in [largest.abs() / 7.0, largest / -8.0] {
                    let scale = f16::from_f32(plain).to_f32();
                    let plain: Vec<f32> = block
                        .iter()
                        .map(|v| {
                            if scale == 0.0 {
                                0.0
                            } else {
                                (v / scale).round().clamp(-8.0, 7.0) * scale
                            }
                        })
                        .collect();
                    let plain = squared_error(block, &plain);
                    assert!(
                        error <= plain * (1.0 + 1e-5) + 1e-12,
                        "{error} over {plain}, width {input}"
                    );
                    plain_sum += plain / 2.0;
                }
                searched += error;
            }
        }
    }
    assert!(searched < 0.8 * plain_sum, "the search wins little: {searched} of {plain_sum}");
}

#[test]
fn round_trips_stay_within_their_bounds() {
    // nmse of uniform rounding on these weights, with room for the short blocks.
    for (format, bound) in
        [(Format::F32, 0.0), (Format::F16, 1e-7), (Format::Q8, 5e-5), (Format::Q4, 1e-2)]
    {
        for (seed, input) in WIDTHS.into_iter().enumerate() {
            let values = weights(seed as u64 + 40, 11 * input);
            let data = quantize("w", &values, [11, input], format).unwrap();
            data.check().unwrap();
            let decoded = dequantize(&data).unwrap();
            let power: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            let nmse = squared_error(&values, &decoded) / power;
            assert!(nmse <= bound, "{format} width {input}: nmse {nmse}");
        }
    }
}

#[test]
fn unused_nibbles_are_zero_values() {
    let data = quantize("w", &weights(3, 35), [1, 35], Format::Q4).unwrap();
    let last = &data.values[16..];
    // Columns 32, 33, 34 are the low nibbles of the first three bytes.
    assert!(last[..3].iter().all(|byte| byte >> 4 == 8), "{last:?}");
    assert!(last[3..].iter().all(|&byte| byte == 0x88), "{last:?}");
}

#[test]
fn extremes_are_exact_or_refused() {
    for format in [Format::Q8, Format::Q4, Format::F16] {
        let zeros = quantize("w", &[0.0; 40], [1, 40], format).unwrap();
        assert_eq!(dequantize(&zeros).unwrap(), [0.0; 40], "{format}");
        // Below f16's smallest: zeros, nothing else.
        let tiny = quantize("w", &[1e-12; 40], [1, 40], format).unwrap();
        assert!(dequantize(&tiny).unwrap().iter().all(|v| v.abs() < 1e-7), "{format}");
        let empty = quantize("w", &[], [0, 40], format).unwrap();
        assert_eq!(dequantize(&empty).unwrap(), Vec::<f32>::new(), "{format}");
        let narrow = quantize("w", &[], [3, 0], format).unwrap();
        assert_eq!(dequantize(&narrow).unwrap(), Vec::<f32>::new(), "{format}");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 80];
            values[77] = bad;
            let result = quantize("model.norm.weight", &values, [2, 40], format);
            assert_refused(
                &format!("{format} {bad}"),
                result,
                &["model.norm.weight", "[1, 37]", "finite"],
            );
        }
        let mut values = vec![0.0; 80];
        values[1] = f32::MAX;
        assert_refused(
            &format!("{format} huge"),
            quantize("w", &values, [2, 40], format),
            &["`w`", "f16"],
        );
    }
    assert!(quantize("w", &[0.0; 5], [2, 3], Format::Q8).is_err());
}

/// Every kind of tensor that the rule tells apart.
fn model() -> Vec<u8> {
    let f32s = |n| f32_bytes(&weights(n as u64, n));
    safetensors(
        &[
            ("model.embed_tokens.weight", Dtype::F32, &[50, 64], f32s(50 * 64)),
            ("model.layers.0.mlp.up_proj.weight", Dtype::F32, &[43, 65], f32s(43 * 65)),
            ("model.layers.0.input_layernorm.weight", Dtype::F32, &[64], f32s(64)),
            ("model.conv.weight", Dtype::F32, &[16, 3, 5, 5], f32s(16 * 75)),
            ("item_embeddings.weight", Dtype::F32, &[40, 33], f32s(40 * 33)),
            ("position_embeddings.weight", Dtype::F32, &[50, 64], f32s(50 * 64)),
            ("token_type_embeddings.weight", Dtype::F32, &[2, 64], f32s(2 * 64)),
            ("lm_head.weight", Dtype::F32, &[50, 64], f32s(50 * 64)),
            ("almost_rec.transformation.weight", Dtype::F32, &[40, 64], f32s(40 * 64)),
            ("position_ids", Dtype::I64, &[1, 4], vec![1; 32]),
        ],
        &[("licence", "MIT")],
    )
}

#[test]
fn a_checkpoint_is_quantised_by_rule() {
    let original = Checkpoint::from_bytes("model.safetensors", model()).unwrap();
    use Format::{F16, F32, Q4, Q8};
    let expected = [
        ("almost_rec.transformation.weight", [F16, Q8, Q8]),
        ("item_embeddings.weight", [F16, Q8, Q8]),
        ("lm_head.weight", [F16, Q8, Q8]),
        ("model.conv.weight", [F16, Q8, Q4]),
        ("model.embed_tokens.weight", [F16, Q8, Q8]),
        ("model.layers.0.input_layernorm.weight", [F32, F32, F32]),
        ("model.layers.0.mlp.up_proj.weight", [F16, Q8, Q4]),
        ("position_embeddings.weight", [F16, F16, F16]),
        ("token_type_embeddings.weight", [F16, F16, F16]),
    ];
    for (column, format) in [F16, Q8, Q4].into_iter().enumerate() {
        for max_shard_bytes in [None, Some(4000)] {
            let mut sink = BTreeMap::new();
            let mut seen = Vec::new();
            let rule = |name: &str, shape: &[usize]| format_of(name, shape, format);
            let progress = &mut |done, total, name: &str| seen.push((done, total, name.to_owned()));
            quantize_checkpoint(&original, &rule, max_shard_bytes, &mut sink, progress).unwrap();
            assert_eq!(seen.len(), 10);
            assert!(seen.is_sorted() && seen[9].0 == seen[9].1, "{seen:?}");

            let index = "model.safetensors.index.json";
            let checkpoint = match max_shard_bytes {
                None => {
                    Checkpoint::from_bytes("model.safetensors", sink["model.safetensors"].clone())
                }
                Some(_) => {
                    let json = String::from_utf8(sink[index].clone()).unwrap();
                    Checkpoint::from_index(index, &json, |name| {
                        Ok(Box::new(bytes::Bytes::from(sink[name].clone())) as Box<_>)
                    })
                }
            }
            .unwrap();
            assert_eq!(checkpoint.metadata()["licence"], "MIT");
            assert_eq!(checkpoint.raw("position_ids").unwrap(), vec![1; 32]);
            for (name, formats) in expected {
                let info = checkpoint.info(name).unwrap();
                let coding = match formats[column] {
                    F32 => Coding::Plain(tributary_core::dtype::DType::F32),
                    F16 => Coding::Plain(tributary_core::dtype::DType::F16),
                    blocks => Coding::Blocks(blocks),
                };
                assert_eq!(info.coding, coding, "{name} in {format}");
                let (values, decoded) =
                    (original.values(name).unwrap(), checkpoint.values(name).unwrap());
                let power: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
                let nmse = squared_error(&values, &decoded) / power;
                assert!(nmse < 1e-2, "{name} in {format}: nmse {nmse}");
            }
        }
    }
}

#[test]
fn a_quantised_checkpoint_is_not_quantised_again() {
    let original = Checkpoint::from_bytes("model.safetensors", model()).unwrap();
    let rule = |name: &str, shape: &[usize]| format_of(name, shape, Format::Q8);
    let mut sink = BTreeMap::new();
    quantize_checkpoint(&original, &rule, None, &mut sink, &mut |_, _, _| {}).unwrap();
    let quantised =
        Checkpoint::from_bytes("model.safetensors", sink.remove("model.safetensors").unwrap())
            .unwrap();
    let again = quantize_checkpoint(&quantised, &rule, None, &mut sink, &mut |_, _, _| {});
    assert_refused(
        "twice",
        again,
        &["model.safetensors", "almost_rec.transformation.weight", "quantise from the original"],
    );
}

#[test]
fn a_nan_is_named_when_quantised() {
    let mut values = weights(1, 43 * 64);
    values[64] = f32::NAN;
    let bytes = safetensors(&[("up_proj.weight", Dtype::F32, &[43, 64], f32_bytes(&values))], &[]);
    let checkpoint = Checkpoint::from_bytes("model.safetensors", bytes).unwrap();
    for format in [Format::F16, Format::Q8, Format::Q4] {
        let rule = |name: &str, shape: &[usize]| format_of(name, shape, format);
        let result =
            quantize_checkpoint(&checkpoint, &rule, None, &mut BTreeMap::new(), &mut |_, _, _| {});
        assert_refused(format.name(), result, &["up_proj.weight", "[1, 0]", "finite", "NaN"]);
    }
}

#[test]
fn a_writer_keeps_its_plan() {
    let spec = |name: &str| tributary_core::weights::TensorSpec {
        name: name.into(),
        dtype: Dtype::F32,
        shape: vec![2],
    };
    let none = BTreeMap::new();
    let mut sink = BTreeMap::new();
    assert!(Writer::new(vec![spec("a"), spec("a")], &none, None, &mut sink).is_err());
    assert!(Writer::new(vec![spec("")], &none, None, &mut sink).is_err());
    let mut writer = Writer::new(vec![spec("a"), spec("b")], &none, None, &mut sink).unwrap();
    assert_refused("unplanned", writer.write("c", &[0; 8]), &["`name`", "c"]);
    assert_refused("short", writer.write("b", &[0; 7]), &["8 bytes", "`b`"]);
    writer.write("a", &[0; 8]).unwrap();
    assert_refused("twice", writer.write("a", &[0; 8]), &["not yet written"]);
    assert_refused("unfinished", writer.finish(), &["`b`"]);
}
