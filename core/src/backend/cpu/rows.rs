//! Operations that move rows: embed, gather_rows, scatter_rows.

use super::super::check;
use super::{Matrix, Tensor, threads};
use crate::error::Result;

pub(super) fn embed(table: &Matrix, ids: &[u32]) -> Result<Tensor> {
    let [count, cols] = table.shape;
    check::indices("embed", "ids", ids, count)?;
    let mut y = vec![0.0; ids.len() * cols];
    threads::rows(&mut y, cols, |first, y| {
        for (row, y) in y.chunks_exact_mut(cols).enumerate() {
            table.values.row(ids[first + row] as usize, y);
        }
    });
    Ok(Tensor::new(y, [ids.len(), cols]))
}

pub(super) fn gather_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    check::indices("gather_rows", "rows", rows, x.shape[0])?;
    let mut y = Vec::with_capacity(rows.len() * x.shape[1]);
    for &row in rows {
        y.extend_from_slice(x.row(row as usize));
    }
    Ok(Tensor::new(y, [rows.len(), x.shape[1]]))
}

pub(super) fn scatter_rows(x: &mut Tensor, rows: &[u32], source: &Tensor) -> Result<()> {
    check::scatter_rows(x.shape, rows, source.shape)?;
    let cols = x.shape[1];
    // A cache has one holder and is written in place.
    let data = x.data_mut();
    for (i, &row) in rows.iter().enumerate() {
        data[row as usize * cols..][..cols].copy_from_slice(source.row(i));
    }
    Ok(())
}
