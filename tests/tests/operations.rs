//! Every operation of every backend against its f64 twin, at shapes nobody uses.

use tributary::train::burn_backend::{Burn, BurnDevice, BurnOptions};
use tributary_tests::suite::Subject;
use tributary_tests::{gpu, suite};

/// One test per line.
macro_rules! cases {
    ($on_backend:ident) => {
        $on_backend! {
            reads_what_was_uploaded => suite::rows::upload,
            zeros_are_zeros => suite::rows::zeros,
            embed_matches_its_twin => suite::rows::embed,
            gather_rows_matches_its_twin => suite::rows::gather_rows,
            scatter_rows_matches_its_twin => suite::rows::scatter_rows,
            linear_matches_its_twin => suite::products::linear,
            quantised_linear_is_near_the_float_product
                => suite::products::quantised_linear_is_near_the_float_product,
            quantised_linear_survives_odd_blocks
                => suite::products::quantised_linear_survives_odd_blocks,
            lora_matches_its_twin => suite::products::lora,
            linear_rows_matches_its_twin => suite::products::linear_rows,
            attention_matches_its_twin => suite::attention::attention,
            attention_survives_extreme_scores => suite::attention::extreme_scores,
            attention_takes_more_rows_than_an_axis => suite::attention::many_rows,
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

mod on_gpu {
    use super::*;
    cases!(on_gpu);
}

mod on_burn {
    use super::*;
    cases!(on_burn);
}
