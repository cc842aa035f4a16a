//! What is particular to the GPU backend: adapters, limits, chunks, counters, memory between uses,
//! and a device that goes away.

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use tributary_core::backend::cpu::Cpu;
use tributary_core::backend::gpu::{Counters, Gpu, GpuOptions, Needs, Tensor, adapters};
use tributary_core::backend::{Activation, Attend, Backend, HeadShape, Mask, Segments};
use tributary_core::dtype::Format;
use tributary_core::error::{Error, ErrorKind, Result};
use tributary_core::models::llama::{Llama, LlamaConfig};
use tributary_core::session::{Sampler, Sampling, Session, StopRules};
use tributary_core::weights::{Checkpoint, Weights};
use tributary_tests::gpu::open;
use tributary_tests::suite::{read, stored};
use tributary_tests::{assert_parity, indices, shared, twin, uniform};

fn default() -> Option<Gpu> {
    open(GpuOptions::default())
}

#[test]
fn a_software_adapter_is_refused_by_name_unless_allowed() {
    let found = pollster::block_on(adapters());
    let opened = pollster::block_on(Gpu::request(GpuOptions::default()));
    match (found.iter().find(|adapter| !adapter.is_software()), opened) {
        (Some(real), opened) => assert_eq!(opened.unwrap().adapter().name, real.name),
        (None, Err(Error::NoAdapter(reason))) => {
            let name = found.first().map_or("no driver", |software| software.name.as_str());
            assert!(reason.contains(name), "{reason}");
            assert!(reason.contains("CPU backend"), "{reason}");
        }
        (None, other) => panic!("expected NoAdapter, found {other:?}"),
    }
}

#[test]
fn real_adapters_are_listed_before_software_ones() {
    let found = pollster::block_on(adapters());
    assert!(found.is_sorted_by_key(|adapter| adapter.is_software()), "{found:?}");
    for adapter in found {
        assert!(!adapter.name.is_empty() && adapter.max_binding_bytes > 0, "{adapter:?}");
    }
}

/// Two layers of a small transformer, to the logits of its last row.
fn forward(gpu: &Gpu, rows: usize) -> Result<Tensor> {
    let (size, heads) =
        (64, HeadShape { num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16 });
    let weight = |seed, out, input| gpu.matrix(stored(seed, [out, input], Format::Q8));
    let norm = gpu.vector("norm", &uniform(1, size))?;
    let table = weight(2, 100, size)?;
    let segments = Segments::one(rows)?;
    let angles = gpu.upload(&uniform(3, rows * 16), [rows, 16])?;
    let mut hidden = gpu.embed(&table, &indices(4, rows, 100))?;
    for layer in 0..2 {
        let x = gpu.rms_norm(&hidden, &norm, 1e-5)?;
        let q = gpu.linear(&x, &weight(layer + 10, 64, size)?, None)?;
        let k = gpu.linear(&x, &weight(layer + 20, 32, size)?, None)?;
        let v = gpu.linear(&x, &weight(layer + 30, 32, size)?, None)?;
        let (q, k) = (gpu.rope(&q, &angles, 16)?, gpu.rope(&k, &angles, 16)?);
        let attend = Attend::new(&segments, Mask::Causal);
        let context = gpu.attention(&q, &k, &v, &attend, heads)?;
        hidden = gpu.add(&hidden, &gpu.linear(&context, &weight(layer + 40, size, 64)?, None)?)?;
        let x = gpu.rms_norm(&hidden, &norm, 1e-5)?;
        let gate = gpu.linear(&x, &weight(layer + 50, 96, size)?, None)?;
        let up = gpu.linear(&x, &weight(layer + 60, 96, size)?, None)?;
        let x = gpu.gated(&gate, &up, Activation::Silu)?;
        hidden = gpu.add(&hidden, &gpu.linear(&x, &weight(layer + 70, size, 96)?, None)?)?;
    }
    let last = gpu.gather_rows(&hidden, &segments.last_rows())?;
    gpu.linear_rows(&last, &table, &[5, 17, 99])
}

#[test]
fn a_forward_is_one_submit_and_reads_only_what_was_asked() {
    let Some(gpu) = default() else { return };
    let before = gpu.counters();
    let logits = forward(&gpu, 37).unwrap();
    let recorded = gpu.counters();
    assert_eq!(recorded.submits, before.submits, "nothing runs before a read");
    assert_eq!(read(&gpu, &logits).len(), 3);
    let after = gpu.counters();
    println!("one forward of two layers: {:?}", difference(before, after));
    assert_eq!(after.submits, before.submits + 1);
    assert_eq!(after.read_bytes - before.read_bytes, 3 * 4);
}

fn difference(before: Counters, after: Counters) -> Counters {
    Counters {
        dispatches: after.dispatches - before.dispatches,
        submits: after.submits - before.submits,
        bind_groups: after.bind_groups - before.bind_groups,
        buffers: after.buffers - before.buffers,
        uploaded_bytes: after.uploaded_bytes - before.uploaded_bytes,
        read_bytes: after.read_bytes - before.read_bytes,
    }
}

#[test]
fn the_second_forward_allocates_nothing() {
    let Some(gpu) = default() else { return };
    let norm = gpu.vector("norm", &uniform(1, 64)).unwrap();
    let weight = gpu.matrix(stored(2, [64, 64], Format::F32)).unwrap();
    let run = || {
        let mut x = gpu.upload(&uniform(3, 5 * 64), [5, 64]).unwrap();
        for _ in 0..6 {
            let y = gpu.rms_norm(&x, &norm, 1e-5).unwrap();
            x = gpu.linear(&y, &weight, None).unwrap();
        }
        read(&gpu, &x)
    };
    let first = run();
    let second = run();
    let warm = gpu.counters();
    let third = run();
    let cost = difference(warm, gpu.counters());
    assert_eq!((cost.buffers, cost.submits, cost.dispatches), (0, 1, 12));
    assert_eq!(first, second);
    assert_eq!(first, third);
}

#[test]
fn quantised_activations_are_made_once_for_all_products_that_share_them() {
    let Some(gpu) = default().filter(|gpu| gpu.features().dot4) else { return };
    let weight = gpu.matrix(stored(2, [8, 544], Format::Q4)).unwrap();
    let mut x = gpu.upload(&uniform(3, 544), [1, 544]).unwrap();
    let before = gpu.counters();
    for _ in 0..3 {
        gpu.linear(&x, &weight, None).unwrap();
    }
    assert_eq!(difference(before, gpu.counters()).dispatches, 1 + 3);

    // Writing into the activation makes them again.
    let other = uniform(4, 544);
    let source = gpu.upload(&other, [1, 544]).unwrap();
    gpu.scatter_rows(&mut x, &[0], &source).unwrap();
    let y = gpu.linear(&x, &weight, None).unwrap();
    let data = stored(2, [8, 544], Format::Q4);
    let seen = twin::int8_activations(&other, 544);
    let truth = twin::linear(&seen, &twin::dequantize(&data), None, 544, 8);
    assert_parity("linear after scatter_rows", &read(&gpu, &y), &truth, 1e-6);
}

/// Memory freed in the middle of a recording is reused at once; what is uploaded later in the same
/// recording lands before it and must take other memory.
#[test]
fn uploads_never_land_in_memory_the_recording_still_uses() {
    let Some(gpu) = default() else { return };
    let shape = [7, 9];
    let data: Vec<Vec<f32>> = (0..20).map(|seed| uniform(seed, 63)).collect();
    let mut sum = gpu.zeros(shape).unwrap();
    for data in &data {
        // Each upload is dropped right after its use is recorded.
        sum = gpu.add(&sum, &gpu.upload(data, shape).unwrap()).unwrap();
    }
    let truth: Vec<f64> =
        (0..63).map(|i| data.iter().map(|data| f64::from(data[i])).sum()).collect();
    assert_parity("a sum of uploads", &read(&gpu, &sum), &truth, 1e-12);
}

/// Weights over the limit of one binding are split by rows, in every format and on every path.
#[test]
fn large_weights_are_split_into_chunks() {
    for features in [Needs::default(), GpuOptions::default().features] {
        let options =
            GpuOptions { max_binding_bytes: Some(16 << 10), features, ..Default::default() };
        let Some(gpu) = open(options) else { return };
        for format in [Format::F32, Format::F16, Format::Q8, Format::Q4] {
            let (out, input) = (1001, 550);
            let data = stored(1, [out, input], format);
            let values = twin::dequantize(&data);
            let table = gpu.matrix(data).unwrap();
            let ids = indices(2, 7, out);
            let y = gpu.embed(&table, &ids).unwrap();
            let label = format!("chunked {format}, {features:?}");
            let truth = twin::rows(&values, input, &ids);
            assert_parity(&format!("{label}: embed"), &read(&gpu, &y), &truth, 1e-13);

            let (x, bias) = (uniform(3, 2 * input), uniform(4, out));
            let int8 = gpu.features().dot4 && matches!(format, Format::Q8 | Format::Q4);
            let seen = if int8 { twin::int8_activations(&x, input) } else { twin::wide(&x) };
            let bound = if int8 { 1e-6 } else { 1e-12 };
            let truth = twin::linear(&seen, &values, Some(&bias), input, out);
            let x = gpu.upload(&x, [2, input]).unwrap();
            let bias = gpu.vector("bias", &bias).unwrap();
            let y = gpu.linear(&x, &table, Some(&bias)).unwrap();
            assert_parity(&format!("{label}: linear"), &read(&gpu, &y), &truth, bound);

            let y = gpu.linear_rows(&x, &table, &ids).unwrap();
            let truth = twin::linear(&seen, &twin::rows(&values, input, &ids), None, input, 7);
            assert_parity(&format!("{label}: linear_rows"), &read(&gpu, &y), &truth, bound);
        }
        // A tile's path over chunks: more rows, fewer columns.
        let data = stored(1, [200, 96], Format::F32);
        let x = uniform(3, 20 * 96);
        let truth = twin::linear(&twin::wide(&x), &twin::dequantize(&data), None, 96, 200);
        let weight = gpu.matrix(data).unwrap();
        let y = gpu.linear(&gpu.upload(&x, [20, 96]).unwrap(), &weight, None).unwrap();
        assert_parity("chunked tiles", &read(&gpu, &y), &truth, 1e-12);
    }
}

#[test]
fn an_activation_over_the_limit_is_an_error() {
    let options = GpuOptions { max_binding_bytes: Some(4096), ..Default::default() };
    let Some(gpu) = open(options) else { return };
    let error = gpu.zeros([1025, 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("4100 is over the limit of 4096"), "{error}");
    // A weight whose single row is over it cannot be split.
    let error = gpu.matrix(stored(1, [1, 1025], Format::F32)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    // The device still works.
    assert_eq!(read(&gpu, &gpu.zeros([2, 2]).unwrap()), vec![0.0; 4]);
}

#[test]
fn heads_wider_than_the_kernel_are_an_error() {
    let Some(gpu) = default() else { return };
    let x = gpu.zeros([1, 2050]).unwrap();
    let segments = Segments::one(1).unwrap();
    let heads = HeadShape { num_attention_heads: 1, num_key_value_heads: 1, head_dim: 2050 };
    let attend = Attend::new(&segments, Mask::Causal);
    let error = gpu.attention(&x, &x, &x, &attend, heads).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
}

#[test]
fn a_lost_device_is_an_error_of_every_later_call() {
    let Some(gpu) = default() else { return };
    let x = gpu.upload(&uniform(1, 12), [3, 4]).unwrap();
    let y = gpu.activate(&x, Activation::Relu).unwrap();
    gpu.destroy();
    let lost = |result: Result<()>| {
        let error = result.expect_err("the device is gone");
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    };
    lost(pollster::block_on(gpu.read(&y)).map(|_| ()));
    lost(gpu.upload(&[1.0], [1, 1]).map(|_| ()));
    lost(gpu.add(&x, &y).map(|_| ()));
    lost(gpu.matrix(stored(1, [2, 2], Format::F32)).map(|_| ()));
    lost(gpu.vector("weight", &[1.0]).map(|_| ()));
    lost(pollster::block_on(gpu.read(&x)).map(|_| ()));
}

#[test]
fn two_threads_can_share_a_device() {
    let Some(gpu) = default() else { return };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let gpu = &gpu;
            scope.spawn(move || {
                for round in 0..10 {
                    let data = uniform(seed * 100 + round, 33);
                    let x = gpu.upload(&data, [3, 11]).unwrap();
                    let y = gpu.add(&gpu.add(&x, &x).unwrap(), &x).unwrap();
                    let truth: Vec<f64> = data.iter().map(|&x| 3.0 * f64::from(x)).collect();
                    assert_parity("three times", &read(gpu, &y), &truth, 1e-13);
                }
            });
        }
    });
}

#[test]
fn trimmed_memory_comes_back() {
    let Some(gpu) = default() else { return };
    let first = read(&gpu, &forward(&gpu, 5).unwrap());
    gpu.trim();
    assert_eq!(read(&gpu, &forward(&gpu, 5).unwrap()), first);
}

/// Logits after a prompt, and a greedy continuation.
fn continued<B: Backend>(backend: &B) -> Option<(Vec<f32>, Vec<u32>)> {
    let folder = shared()?.join("weights/stories260k");
    let text = fs::read_to_string(folder.join("config.json")).unwrap();
    let config = LlamaConfig::parse("config.json", &text).unwrap();
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::from_bytes("model.safetensors", bytes).unwrap();
    let model = Llama::load(&Weights::new(backend, &checkpoint), config).unwrap();
    let mut session = Session::new(backend.clone(), Arc::new(model), 256).unwrap();
    session.prefill(&[1, 403, 407, 261, 378, 300, 417, 310, 285, 379]).unwrap();
    let logits = pollster::block_on(session.logits(None)).unwrap();
    let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
    let stop =
        StopRules { max_new_tokens: 24, stop_token_ids: Vec::new(), stop_sequences: Vec::new() };
    let all = |_| ControlFlow::Continue(());
    let generated = pollster::block_on(session.generate(&mut sampler, &stop, all)).unwrap();
    Some((logits, generated.token_ids))
}

#[test]
fn a_real_language_model_continues_as_on_the_cpu() {
    let Some(gpu) = default() else { return };
    let Some((logits, tokens)) = continued(&Cpu::new()) else { return };
    let before = gpu.counters();
    let (found, continued) = continued(&gpu).unwrap();
    println!("load, prefill, 24 decode steps: {:?}", difference(before, gpu.counters()));
    assert_parity("stories260k on the GPU against the CPU", &found, &twin::wide(&logits), 1e-9);
    assert_eq!(continued, tokens);
}
