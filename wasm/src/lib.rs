//! Tributary in WebAssembly: what the npm package's worker calls.
//!
//! The page sees `js/index.js`; nothing here is public there. Files stream into a `bundle::Bundle`,
//! which becomes an `engine::Engine` on the CPU (SIMD) or on WebGPU. Whatever fails is a JavaScript
//! `Error` with the stable `code` of `ErrorKind`.

pub mod self_check;

#[cfg(target_arch = "wasm32")]
mod bundle;
#[cfg(target_arch = "wasm32")]
mod engine;
#[cfg(target_arch = "wasm32")]
mod memory;
#[cfg(target_arch = "wasm32")]
mod values;

#[cfg(target_arch = "wasm32")]
mod exports {
    use serde::Serialize;
    use tributary_core::Error;
    use tributary_core::backend::Backend;
    use tributary_core::backend::cpu::Cpu;
    use tributary_core::backend::gpu::{Gpu, GpuOptions};
    use wasm_bindgen::prelude::*;

    use crate::self_check::{CPU_BOUND, GPU_BOUND, worst};
    use crate::values::{self, Failure};

    /// A panic says where it was before the instance traps.
    #[wasm_bindgen(start)]
    fn start() {
        console_error_panic_hook::set_once();
    }

    #[derive(Serialize)]
    struct Checked {
        adapter: String,
        nmse: f64,
    }

    fn within(nmse: f64, bound: f64, adapter: String) -> Result<Checked, Failure> {
        match nmse <= bound {
            true => Ok(Checked { adapter, nmse }),
            false => {
                let text = format!("{adapter}: kernels differ from plain loops, nmse {nmse:.1e}");
                Err(Error::Internal(text).into())
            }
        }
    }

    /// The SIMD kernels against plain loops: the worst nmse.
    #[wasm_bindgen]
    pub async fn self_check() -> Result<f64, Failure> {
        let cpu = Cpu::new();
        let nmse = worst(&cpu).await?;
        within(nmse, CPU_BOUND, cpu.info().adapter).map(|checked| checked.nmse)
    }

    /// The GPU's kernels against plain loops.
    #[wasm_bindgen]
    pub async fn gpu_self_check(allow_software: bool) -> Result<JsValue, Failure> {
        let options = GpuOptions { allow_software, ..GpuOptions::default() };
        let gpu = Gpu::request(options).await?;
        let nmse = worst(&gpu).await?;
        values::to_js(&within(nmse, GPU_BOUND, gpu.info().adapter)?)
    }
}
