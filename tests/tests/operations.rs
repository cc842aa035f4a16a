//! Every operation of every backend against its f64 twin, at shapes nobody uses.

use tributary_core::backend::Backend;
use tributary_core::dtype::Format;
use tributary_tests::{assert_parity, cpu, gpu, suite, twin, uniform};

/// One test per line, over all levels of instructions.
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

/// One test per line, over all GPU devices of this program. Without an adapter the reason is
/// printed and nothing runs.
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

on_cpu! {
    cpu_reads_what_was_uploaded => suite::rows::upload,
    cpu_zeros_are_zeros => suite::rows::zeros,
    cpu_embed_matches_its_twin => suite::rows::embed,
    cpu_gather_rows_matches_its_twin => suite::rows::gather_rows,
    cpu_scatter_rows_matches_its_twin => suite::rows::scatter_rows,
    cpu_linear_matches_its_twin => suite::products::linear,
    cpu_quantised_linear_is_near_the_float_product
        => suite::products::quantised_linear_is_near_the_float_product,
    cpu_quantised_linear_survives_odd_blocks
        => suite::products::quantised_linear_survives_odd_blocks,
    cpu_lora_matches_its_twin => suite::products::lora,
    cpu_linear_rows_matches_its_twin => suite::products::linear_rows,
    cpu_attention_matches_its_twin => suite::attention::attention,
    cpu_attention_survives_extreme_scores => suite::attention::extreme_scores,
    cpu_attention_takes_more_rows_than_an_axis => suite::attention::many_rows,
    cpu_rms_norm_matches_its_twin => suite::norms::rms_norm,
    cpu_layer_norm_matches_its_twin => suite::norms::layer_norm,
    cpu_rope_matches_its_twin => suite::norms::rope,
    cpu_cross_entropy_matches_its_twin => suite::norms::cross_entropy,
    cpu_top_k_matches_its_twin => suite::norms::top_k,
    cpu_add_matches_its_twin => suite::elements::add,
    cpu_activate_matches_its_twin => suite::elements::activate,
    cpu_gelu_keeps_its_negative_side => suite::elements::gelu_keeps_its_negative_side,
    cpu_gated_matches_its_twin => suite::elements::gated,
    cpu_dropout_changes_nothing => suite::elements::dropout,
    cpu_refuses_wrong_arguments => suite::errors::wrong_arguments,
    cpu_refuses_wrong_matrices => suite::errors::wrong_matrices,
}

on_gpu! {
    gpu_reads_what_was_uploaded => suite::rows::upload,
    gpu_zeros_are_zeros => suite::rows::zeros,
    gpu_embed_matches_its_twin => suite::rows::embed,
    gpu_gather_rows_matches_its_twin => suite::rows::gather_rows,
    gpu_scatter_rows_matches_its_twin => suite::rows::scatter_rows,
    gpu_linear_matches_its_twin => suite::products::linear,
    gpu_quantised_linear_is_near_the_float_product
        => suite::products::quantised_linear_is_near_the_float_product,
    gpu_quantised_linear_survives_odd_blocks
        => suite::products::quantised_linear_survives_odd_blocks,
    gpu_lora_matches_its_twin => suite::products::lora,
    gpu_linear_rows_matches_its_twin => suite::products::linear_rows,
    gpu_attention_matches_its_twin => suite::attention::attention,
    gpu_attention_survives_extreme_scores => suite::attention::extreme_scores,
    gpu_attention_takes_more_rows_than_an_axis => suite::attention::many_rows,
    gpu_rms_norm_matches_its_twin => suite::norms::rms_norm,
    gpu_layer_norm_matches_its_twin => suite::norms::layer_norm,
    gpu_rope_matches_its_twin => suite::norms::rope,
    gpu_cross_entropy_matches_its_twin => suite::norms::cross_entropy,
    gpu_top_k_matches_its_twin => suite::norms::top_k,
    gpu_add_matches_its_twin => suite::elements::add,
    gpu_activate_matches_its_twin => suite::elements::activate,
    gpu_gelu_keeps_its_negative_side => suite::elements::gelu_keeps_its_negative_side,
    gpu_gated_matches_its_twin => suite::elements::gated,
    gpu_dropout_changes_nothing => suite::elements::dropout,
    gpu_refuses_wrong_arguments => suite::errors::wrong_arguments,
    gpu_refuses_wrong_matrices => suite::errors::wrong_matrices,
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
