//! A LoRA that training starts from.

use std::collections::BTreeMap;

use super::{Adapter, AdapterConfig, targeted};
use crate::backend::LoraData;
use crate::error::Result;
use crate::random::Random;
use crate::weights::Checkpoint;

impl Adapter {
    /// An adapter for `base` that changes nothing yet: B is zero, and A uniform in
    /// +-1 / sqrt(in), as PEFT begins (Kaiming with a = sqrt(5)), the same for the same seed and
    /// module. `Err` as for [`Adapter::load`].
    pub fn fresh(config_json: &str, base: &Checkpoint, seed: u64) -> Result<Self> {
        let config = AdapterConfig::parse(config_json)?;
        let modules: Vec<String> = targeted(&config, base)?.into_iter().collect();
        let names: Vec<&str> = modules.iter().map(String::as_str).collect();
        let ranks = config.rank_pattern.resolve(&names, "rank_pattern")?;
        let alphas = config.alpha_pattern.resolve(&names, "alpha_pattern")?;
        let mut fresh = BTreeMap::new();
        for (i, module) in modules.iter().enumerate() {
            let shape = base.info(&format!("{module}.weight")).map(|info| info.shape.as_slice());
            let Some(&[out, input]) = shape else { continue };
            let r = ranks.get(i).copied().flatten().map_or(config.r, |r| r as usize);
            let alpha = alphas.get(i).copied().flatten().unwrap_or(config.lora_alpha);
            let mut random = Random::named(seed, module);
            let bound = (input.max(1) as f64).sqrt().recip();
            let a = (0..r * input).map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32).collect();
            let lora = LoraData { r, a, b: vec![0.0; out * r], scale: config.scale(alpha, r) };
            fresh.insert(module.clone(), lora);
        }
        Ok(Self { config, modules: fresh })
    }
}
