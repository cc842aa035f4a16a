//! Rows of a table, by `embed.wgsl`. A low-rank update belongs to the product, not to the values,
//! so a lookup does not see it.

use super::shader::{EMBED_F16, EMBED_F32, EMBED_Q4, EMBED_Q8, EmbedParams};
use super::{Gpu, Matrix, Tensor};
use crate::backend::check;
use crate::dtype::Format;
use crate::error::Result;

pub(super) fn embed(gpu: &Gpu, table: &Matrix, ids: &[u32]) -> Result<Tensor> {
    let [limit, cols] = table.base.shape;
    check::indices("embed", "ids", ids, limit)?;
    let y = gpu.output("embed", [ids.len(), cols])?;
    if y.is_empty() {
        return Ok(y);
    }
    let shader = match table.base.format {
        Format::F32 => &EMBED_F32,
        Format::F16 => &EMBED_F16,
        Format::Q8 => &EMBED_Q8,
        Format::Q4 => &EMBED_Q4,
    };
    let list = gpu.recorder.list("embed: ids", ids)?;
    let layout = table.base.layout;
    for chunk in table.base.chunks.iter() {
        let params = EmbedParams {
            ids: ids.len() as u32,
            cols: cols as u32,
            in4: layout.in4 as u32,
            scale_words: layout.scale_words as u32,
            first: chunk.first as u32,
            count: chunk.count as u32,
        };
        let mut storages = vec![&*y.storage, &list, &chunk.values];
        if layout.scale_words > 0 {
            storages.push(&chunk.scales);
        }
        let groups = (ids.len() * layout.in4).div_ceil(shader.lanes as usize);
        gpu.recorder.dispatch(shader, &[], &params, &storages, groups)?;
    }
    Ok(y)
}
