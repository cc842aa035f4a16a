//! A complex diagonal recurrence as a scan, by `linear_recurrence.wgsl`.

use super::shader::{LINEAR_RECURRENCE, RecurrenceParams};
use super::{Gpu, Tensor, Vector};
use crate::backend::{Recurrence, Segments, check};
use crate::error::Result;

/// Channels of one workgroup, as the shader has it.
const CHANNELS: usize = 16;

pub(super) fn linear_recurrence(
    gpu: &Gpu,
    x: &Tensor,
    recurrence: Recurrence<'_, Vector>,
    segments: &Segments,
    state: Option<&Tensor>,
) -> Result<Tensor> {
    let Recurrence { nu_log, theta_log, gamma_log } = recurrence;
    let lens = [nu_log.len, theta_log.len, gamma_log.len];
    let channels = check::linear_recurrence(x.shape, lens, segments, state.map(|s| s.shape))?;
    let y = gpu.output("linear_recurrence", x.shape)?;
    if y.is_empty() {
        return Ok(y);
    }
    let starts = gpu.recorder.list("linear_recurrence: segments", segments.starts())?;
    let params = RecurrenceParams {
        segments: segments.len() as u32,
        channels: channels as u32,
        has_state: u32::from(state.is_some()),
    };
    // Without a state nothing is read through its binding.
    let state = state.unwrap_or(x);
    let storages = [
        &*y.storage,
        &x.storage,
        &nu_log.storage,
        &theta_log.storage,
        &gamma_log.storage,
        &starts,
        &state.storage,
    ];
    let groups = segments.len() * channels.div_ceil(CHANNELS);
    gpu.recorder.dispatch(&LINEAR_RECURRENCE, &[], &params, &storages, groups)?;
    Ok(y)
}
