//! The k largest of each row with their columns.

use std::cmp::Ordering;

use super::super::check;
use super::{Tensor, threads};
use crate::error::Result;

/// Larger first, NaN last, equal values in column order.
fn order(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    let value = match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) => b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal),
        (nan_a, nan_b) => nan_a.cmp(&nan_b),
    };
    value.then(a.1.cmp(&b.1))
}

pub(super) fn top_k(x: &Tensor, k: usize) -> Result<Tensor> {
    check::top_k(x.shape, k)?;
    let rows = x.shape[0];
    let mut y = vec![0.0; rows * 2 * k];
    let shared = threads::Shared::new(&mut y);
    threads::parallel(rows, |row| {
        let mut pairs: Vec<(f32, u32)> = x.row(row).iter().copied().zip(0..).collect();
        if k < pairs.len() {
            pairs.select_nth_unstable_by(k - 1, order);
            pairs.truncate(k);
        }
        pairs.sort_unstable_by(order);
        let values = pairs.iter().map(|pair| pair.0);
        let columns = pairs.iter().map(|pair| pair.1 as f32);
        shared.write(row * 2 * k, &values.chain(columns).collect::<Vec<_>>());
    });
    Ok(Tensor::new(y, [rows, 2 * k]))
}
