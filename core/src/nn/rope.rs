//! Rotary positions: which angle each pair of a head turns by, at each position.

use std::f32::consts::PI;

use crate::backend::Backend;
use crate::error::{Error, Result};

/// How a model stretches its angles past the context it was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Angles as they are.
    None,
    /// Every angle divided by `factor`.
    Linear {
        /// How many times longer the context becomes.
        factor: f32,
    },
    /// Llama 3.1: slow angles divided by `factor`, fast ones kept, a ramp between.
    Llama3 {
        /// How many times longer the context becomes.
        factor: f32,
        /// Wavelengths above original / this are divided.
        low_freq_factor: f32,
        /// Wavelengths below original / this are kept.
        high_freq_factor: f32,
        /// Positions the model was first trained on.
        original_max_position_embeddings: usize,
    },
}

/// The angles of one model.
#[derive(Clone, Debug)]
pub struct Rope {
    /// (head_dim / 2): radians per position.
    inv_freq: Vec<f32>,
}

impl Rope {
    /// Angles theta^(-2i / head_dim), scaled. `head_dim` must be even and `rope_theta` positive.
    pub fn new(head_dim: usize, rope_theta: f32, scaling: RopeScaling) -> Result<Self> {
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(Error::argument("rope", "head_dim", "an even number above 0", head_dim));
        }
        if !(rope_theta.is_finite() && rope_theta > 0.0) {
            return Err(Error::argument("rope", "rope_theta", "a number above 0", rope_theta));
        }
        // f32 throughout, as the original library computes them: at position 1,000 a difference
        // in the last bit of an angle is one of 1e-4 radians.
        let inv_freq = (0..head_dim / 2)
            .map(|i| 1.0 / rope_theta.powf((2 * i) as f32 / head_dim as f32))
            .map(|inv_freq| scaling.apply(inv_freq))
            .collect();
        Ok(Self { inv_freq })
    }

    /// What [`Backend::rope`] turns by: (positions, head_dim), cosines then sines. Made once per
    /// pass and shared by all layers; sines of large angles are not to be had from every GPU.
    pub fn angles<B: Backend>(&self, b: &B, positions: &[u32]) -> Result<B::Tensor> {
        let half = self.inv_freq.len();
        let mut angles = Vec::with_capacity(positions.len() * 2 * half);
        for &position in positions {
            let at = self.inv_freq.iter().map(|f| f64::from(position as f32 * f));
            angles.extend(at.clone().map(|angle| angle.cos() as f32));
            angles.extend(at.map(|angle| angle.sin() as f32));
        }
        b.upload(&angles, [positions.len(), 2 * half])
    }
}

impl RopeScaling {
    fn apply(self, inv_freq: f32) -> f32 {
        match self {
            Self::None => inv_freq,
            Self::Linear { factor } => inv_freq / factor,
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            } => {
                let original = original_max_position_embeddings as f32;
                let wavelength = 2.0 * PI / inv_freq;
                if wavelength < original / high {
                    inv_freq
                } else if wavelength > original / low {
                    inv_freq / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * inv_freq / factor + smooth * inv_freq
                }
            }
        }
    }
}
