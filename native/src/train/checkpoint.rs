//! A run's state in one safetensors file, from which it continues exactly.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tributary_core::backend::Backend;
use tributary_core::weights::{NamedTensor, save_safetensors};
use tributary_core::{Error, Result};

use super::config;
use super::curve::CurvePoint;
use super::optimizer::Optimizer;
use crate::burn_backend::{Burn, Parameter};
use crate::files::write_atomically;

/// File name of the state inside a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// Key of the state in the file's metadata; TOML, because it gives every f64 back exactly.
const STATE: &str = "state";
/// Prefixes of the tensors' names.
const WEIGHT: &str = "weight";
const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];

/// Where a run stands, besides its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Steps done.
    pub step: u64,
    /// Epoch of the next step.
    pub epoch: u64,
    /// Batches of that epoch already done.
    pub position: u64,
    /// Best validation so far.
    pub best: Option<Best>,
    /// Validations since then.
    pub stale: u64,
    /// Sum and number of the losses since the last point of the curve.
    pub open: (f64, u64),
    /// Rows (positions with a loss) trained on.
    pub rows: u64,
    /// Seconds spent in steps, over all parts of the run.
    pub seconds: f64,
    /// The curve so far.
    pub curve: Vec<CurvePoint>,
    /// The configuration the run was started with, and what its data are.
    pub identity: toml::Table,
}

/// A validation that no earlier one has reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The metric's value.
    pub metric: f64,
    /// Steps done when it was measured.
    pub step: u64,
}

/// Weights, moments and state, written so that a crash leaves the old file or the new one.
pub(super) fn save(
    folder: &Path,
    b: &Burn,
    parameters: &[Arc<Parameter>],
    optimizer: &Optimizer,
    state: &RunState,
) -> Result<()> {
    let mut tensors = Vec::with_capacity(parameters.len() * 3);
    for parameter in parameters {
        let name = parameter.name();
        let stored_name = format!("{WEIGHT}/{name}");
        tensors.push(stored(b, stored_name, parameter.axes(), &parameter.constant())?);
        if let Some(moments) = optimizer.moments().get(name) {
            for (kind, moment) in MOMENTS.iter().zip(moments) {
                let name = format!("{kind}/{name}");
                tensors.push(stored(b, name, parameter.axes(), moment)?);
            }
        }
    }
    let text = toml::to_string(state).map_err(|e| Error::Internal(format!("checkpoint: {e}")))?;
    write(&folder.join(CHECKPOINT), &tensors, BTreeMap::from([(STATE.to_owned(), text)]))
}

/// The weights alone, as every backend loads them.
pub(super) fn save_weights(path: &Path, b: &Burn, parameters: &[Arc<Parameter>]) -> Result<()> {
    let tensors = parameters
        .iter()
        .map(|p| stored(b, p.name().to_owned(), p.axes(), &p.constant()))
        .collect::<Result<Vec<_>>>()?;
    write(path, &tensors, BTreeMap::from([("format".to_owned(), "pt".to_owned())]))
}

/// The state of the run in `folder`; `None` when there is none. Weights and moments are restored.
/// `Err` when the checkpoint belongs to another configuration, data set or model.
pub(super) fn restore(
    folder: &Path,
    b: &Burn,
    parameters: &[Arc<Parameter>],
    optimizer: &mut Optimizer,
    identity: &toml::Table,
) -> Result<Option<RunState>> {
    let path = folder.join(CHECKPOINT);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path.display(), error)),
    };
    let broken = |found: String| Error::file(CHECKPOINT, "header", "a training checkpoint", found);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE));
    let text = text.ok_or_else(|| broken(format!("a file without `{STATE}`")))?;
    let state: RunState = config::parse(CHECKPOINT, text)?;
    if let Some((key, theirs, ours)) = config::difference(&state.identity, identity) {
        return Err(Error::file(CHECKPOINT, key, ours, theirs));
    }

    let read = |name: String, parameter: &Parameter| -> Result<Option<Tensor<2>>> {
        let Ok(view) = file.tensor(&name) else { return Ok(None) };
        if view.dtype() != Dtype::F32 || view.shape() != parameter.axes() {
            let expected = format!("F32 {:?}", parameter.axes());
            let found = format!("{:?} {:?}", view.dtype(), view.shape());
            return Err(Error::file(CHECKPOINT, name, expected, found));
        }
        let values: Vec<f32> =
            view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        b.upload(&values, parameter.constant().dims()).map(Some)
    };
    let mut moments = BTreeMap::new();
    for parameter in parameters {
        let name = parameter.name();
        let Some(value) = read(format!("{WEIGHT}/{name}"), parameter)? else {
            let name = format!("{WEIGHT}/{name}");
            return Err(Error::MissingTensor {
                file: CHECKPOINT.into(),
                name,
                hint: String::new(),
            });
        };
        parameter.set(value);
        let [first, second] = MOMENTS.map(|moment| read(format!("{moment}/{name}"), parameter));
        if let (Some(first), Some(second)) = (first?, second?) {
            moments.insert(name.to_owned(), [first, second]);
        }
    }
    optimizer.restore(moments);
    Ok(Some(state))
}

fn stored(b: &Burn, name: String, axes: &[usize], value: &Tensor<2>) -> Result<NamedTensor> {
    Ok(NamedTensor::f32(name, axes, &pollster::block_on(b.read(value))?))
}

/// One safetensors file, written atomically.
pub(super) fn write(
    path: &Path,
    tensors: &[NamedTensor],
    metadata: BTreeMap<String, String>,
) -> Result<()> {
    // In memory first: what is renamed into place must be whole.
    let mut files = BTreeMap::new();
    save_safetensors(tensors, &metadata, None, &mut files)?;
    files.values().try_for_each(|bytes: &Vec<u8>| write_atomically(path, bytes))
}
