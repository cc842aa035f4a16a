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

/// Where a row stands in time, height and width; the three are equal for a token of a text.
pub type AxesPosition = [u32; 3];

/// The angles of one model.
#[derive(Clone, Debug)]
pub struct Rope {
    /// (head_dim / 2): radians per position.
    inv_freq: Vec<f32>,
    /// (head_dim / 2): which number of an [`AxesPosition`] each pair turns by.
    axes: Vec<usize>,
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
        let inv_freq: Vec<f32> = (0..head_dim / 2)
            .map(|i| 1.0 / rope_theta.powf((2 * i) as f32 / head_dim as f32))
            .map(|inv_freq| scaling.apply(inv_freq))
            .collect();
        let axes = vec![0; inv_freq.len()];
        Ok(Self { inv_freq, axes })
    }

    /// The same angles, of which the first `mrope_section[0]` pairs turn by time, the next by height,
    /// the last by width (Qwen2-VL, arXiv 2409.12191, figure 3).
    ///
    /// # Errors
    /// Sections that are not head_dim / 2 pairs together.
    pub fn with_sections(self, mrope_section: [usize; 3]) -> Result<Self> {
        let half = self.inv_freq.len();
        if mrope_section.iter().fold(0, |sum: usize, &n| sum.saturating_add(n)) != half {
            let expected = format!("three numbers of sum {half}");
            let found = format!("{mrope_section:?}");
            return Err(Error::argument("rope", "mrope_section", expected, found));
        }
        let axes = (0..3).flat_map(|axis| std::iter::repeat_n(axis, mrope_section[axis]));
        Ok(Self { axes: axes.collect(), ..self })
    }

    /// Angles of a vision transformer: the first half of the pairs turns by height and the other by
    /// width, both by theta^(-4i / head_dim). `head_dim` must be a multiple of 4.
    ///
    /// # Errors
    /// Another `head_dim`, a theta that is not positive.
    pub fn axial(head_dim: usize, rope_theta: f32) -> Result<Self> {
        if !head_dim.is_multiple_of(4) {
            return Err(Error::argument("rope", "head_dim", "a multiple of 4", head_dim));
        }
        let one = Self::new(head_dim / 2, rope_theta, RopeScaling::None)?.inv_freq;
        let axes = [vec![1; one.len()], vec![2; one.len()]].concat();
        Ok(Self { inv_freq: [one.as_slice(), &one].concat(), axes })
    }

    /// What [`Backend::rope`] turns by: (positions, head_dim), cosines then sines. Made once per
    /// pass and shared by all layers; sines of large angles are not to be had from every GPU.
    pub fn angles<B: Backend>(&self, b: &B, positions: &[u32]) -> Result<B::Tensor> {
        let positions: Vec<AxesPosition> = positions.iter().map(|&p| [p; 3]).collect();
        self.angles_of_axes(b, &positions)
    }

    /// [`Rope::angles`] of rows that stand in time, height and width.
    pub fn angles_of_axes<B: Backend>(
        &self,
        b: &B,
        positions: &[AxesPosition],
    ) -> Result<B::Tensor> {
        let half = self.inv_freq.len();
        let mut angles = Vec::with_capacity(positions.len() * 2 * half);
        for position in positions {
            let pairs = self.inv_freq.iter().zip(&self.axes);
            let at = pairs.map(|(f, &axis)| f64::from(position[axis] as f32 * f));
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
