//! Every operation of every backend against its f64 twin, at shapes nobody uses.

use tributary_tests::{gpu, suite};

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
