//! Every operation of every backend against its f64 twin, at shapes nobody uses.

use tributary::burn_backend::{Burn, BurnDevice, BurnOptions};
use tributary_core::backend::Backend;
use tributary_core::dtype::Format;
use tributary_tests::suite::Subject;
use tributary_tests::{assert_parity, cpu, gpu, suite, twin, uniform};

/// One test per line.
macro_rules! cases {
    ($on_backend:ident) => {
        $on_backend! {
            reads_what_was_uploaded => suite::rows::upload,
            zeros_are_zeros => suite::rows::zeros,
            embed_matches_its_twin => suite::rows::embed,
            gather_rows_matches_its_twin => suite::rows::gather_rows,
            scatter_rows_matches_its_twin => suite::rows::scatter_rows,
            concat_matches_its_twin => suite::mixes::concat,
            transpose_matches_its_twin => suite::mixes::transpose,
            mix_rows_matches_its_twin => suite::mixes::mix_rows,
            similarity_matches_its_twin => suite::mixes::similarity,
            l2_normalize_matches_its_twin => suite::mixes::l2_normalize,
            linear_matches_its_twin => suite::products::linear,
            linears_are_each_linear => suite::products::linears,
            quantised_linear_is_near_the_float_product
                => suite::products::quantised_linear_is_near_the_float_product,
            quantised_linear_survives_odd_blocks
                => suite::products::quantised_linear_survives_odd_blocks,
            lora_matches_its_twin => suite::products::lora,
            linear_rows_matches_its_twin => suite::products::linear_rows,
            attention_matches_its_twin => suite::attention::attention,
            attention_matches_its_twin_on_other_rows => suite::attention::other_rows,
            attention_survives_extreme_scores => suite::attention::extreme_scores,
            attention_takes_more_rows_than_an_axis => suite::attention::many_rows,
            linear_recurrence_matches_its_twin => suite::recurrences::linear_recurrence,
            linear_recurrence_continues => suite::recurrences::continued_recurrence,
            rms_norm_matches_its_twin => suite::norms::rms_norm,
            layer_norm_matches_its_twin => suite::norms::layer_norm,
            rope_matches_its_twin => suite::norms::rope,
            cross_entropy_matches_its_twin => suite::norms::cross_entropy,
            top_k_matches_its_twin => suite::norms::top_k,
            add_matches_its_twin => suite::elements::add,
            activate_matches_its_twin => suite::elements::activate,
            gelu_keeps_its_negative_side => suite::elements::gelu_keeps_its_negative_side,
            gated_matches_its_twin => suite::elements::gated,
            dropout_changes_nothing => suite::elements::dropout,
            refuses_wrong_arguments => suite::errors::wrong_arguments,
            refuses_wrong_matrices => suite::errors::wrong_matrices,
        }
    };
}

/// Over all GPU devices of this program. Without an adapter the reason is printed and nothing runs.
macro_rules! on_gpu {
    ($($test:ident => $case:path,)*) => {$(
        #[test]
        fn $test() {
            for subject in gpu::subjects() {
                $case(subject);
            }
        }
    )*};
}

/// Over all levels of instructions.
macro_rules! on_cpu {
    ($($test:ident => $case:path,)*) => {$(
        #[test]
        fn $test() {
            for subject in cpu::subjects() {
                $case(&subject);
            }
        }
    )*};
}

macro_rules! on_burn {
    ($($test:ident => $case:path,)*) => {$(
        #[test]
        fn $test() {
            let backend = Burn::new(BurnDevice::Cpu, BurnOptions::default()).expect("burn-flex");
            // Quantised weights are dequantised when they are loaded.
            $case(&Subject { name: "burn", backend, int8_activations: false });
        }
    )*};
}

mod on_cpu {
    use super::*;
    cases!(on_cpu);
}

mod on_gpu {
    use super::*;
    cases!(on_gpu);
}

mod on_burn {
    use super::*;
    cases!(on_burn);
}

/// Both round activations by the same rule, so they agree far more closely than either does with
/// the unrounded product.
#[test]
fn cpu_and_gpu_agree_on_the_same_quantised_weights() {
    for gpu in gpu::subjects().iter().filter(|subject| subject.int8_activations) {
        for cpu in cpu::subjects() {
            for format in [Format::Q8, Format::Q4] {
                for rows in [1, 7, 80] {
                    let (input, out) = (576, 131);
                    let x = uniform(1, rows * input);
                    let data = suite::stored(2, [out, input], format);
                    let on_cpu = {
                        let weight = cpu.backend.matrix(data.clone()).unwrap();
                        let x = cpu.backend.upload(&x, [rows, input]).unwrap();
                        suite::read(&cpu.backend, &cpu.backend.linear(&x, &weight, None).unwrap())
                    };
                    let weight = gpu.backend.matrix(data).unwrap();
                    let x = gpu.backend.upload(&x, [rows, input]).unwrap();
                    let y = gpu.backend.linear(&x, &weight, None).unwrap();
                    let label = format!("{} against {} {format} {rows} rows", gpu.name, cpu.name);
                    assert_parity(
                        &label,
                        &suite::read(&gpu.backend, &y),
                        &twin::wide(&on_cpu),
                        1e-6,
                    );
                }
            }
        }
    }
}
