//! Backward passes of the operations that cost most in training, for whoever records a graph over
//! this backend's forward passes (the native package's burn backend does).
//!
//! Each takes the operands of a forward pass that went well and the gradient `dy` of the loss by
//! its result, and gives the gradients by the operands. Sums run in an order that does not depend
//! on the number of threads.

mod attention;

use super::super::{Attend, HeadShape, Segments};
use super::{Cpu, Tensor, linear_recurrence, math, threads};

/// Rows whose share of a weight's gradient is summed by one task.
const ROWS_PER_TASK: usize = 256;

impl Cpu {
    /// Of [`Backend::attention`](crate::backend::Backend::attention) without a prefix, by q, k and
    /// v. The weights are computed again, a tile at a time, so none are kept in between.
    pub fn attention_gradient(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        attend: &Attend<'_, Tensor>,
        heads: HeadShape,
        dy: &Tensor,
    ) -> [Tensor; 3] {
        attention::gradient(self.level, [q, k, v], attend, heads, dy)
    }

    /// Of [`Backend::rms_norm`](crate::backend::Backend::rms_norm), by x and by the weight, both
    /// (1, cols).
    pub fn rms_norm_gradient(
        &self,
        x: &Tensor,
        weight: &Tensor,
        eps: f32,
        dy: &Tensor,
    ) -> [Tensor; 2] {
        let [rows, cols] = x.shape;
        let mut dx = vec![0.0; rows * cols];
        let chunk = ROWS_PER_TASK * cols.max(1);
        let mut partial = vec![0.0; rows.div_ceil(ROWS_PER_TASK) * cols];
        let tasks: Vec<_> = (dx.chunks_mut(chunk).zip(partial.chunks_mut(cols.max(1))))
            .zip(x.data.chunks(chunk).zip(dy.data.chunks(chunk)))
            .collect();
        threads::each(tasks, |((dx, dw), (x, dy))| {
            let rows = dx.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
            self.level.run(
                #[inline(always)]
                || {
                    for ((dx, x), dy) in rows.zip(dy.chunks_exact(cols)) {
                        let mean = math::sum(x, |v| v * v) / cols as f32;
                        let scale = (mean + eps).sqrt().recip();
                        let weighted = dx.iter_mut().zip(dy).zip(weight.data());
                        weighted.for_each(|((dx, &dy), &w)| *dx = dy * w);
                        let along = math::dot(dx, x) * scale * scale / cols as f32;
                        let terms = dx.iter_mut().zip(dw.iter_mut()).zip(x).zip(dy);
                        for (((dx, dw), &x), &dy) in terms {
                            *dx = scale * (*dx - along * x);
                            *dw += dy * x * scale;
                        }
                    }
                },
            );
        });
        let mut dw = vec![0.0; cols];
        for partial in partial.chunks_exact(cols.max(1)) {
            dw.iter_mut().zip(partial).for_each(|(dw, p)| *dw += p);
        }
        [Tensor::new(dx, x.shape), Tensor::new(dw, [1, cols])]
    }

    /// Of [`Backend::linear_recurrence`](crate::backend::Backend::linear_recurrence) without a
    /// state, by x, nu_log, theta_log and gamma_log, the last three (1, channels) as they come.
    pub fn linear_recurrence_gradient(
        &self,
        x: &Tensor,
        parameters: [&Tensor; 3],
        segments: &Segments,
        dy: &Tensor,
    ) -> [Tensor; 4] {
        linear_recurrence::gradient(self.level, x, parameters, segments, dy)
    }

    /// Of silu(gate) * up, by gate and by up.
    pub fn silu_gated_gradient(&self, gate: &Tensor, up: &Tensor, dy: &Tensor) -> [Tensor; 2] {
        let (mut dgate, mut dup) = (vec![0.0; gate.data.len()], vec![0.0; gate.data.len()]);
        let chunk = threads::rows_per_task(gate.data.len(), 1);
        let tasks: Vec<_> = (dgate.chunks_mut(chunk).zip(dup.chunks_mut(chunk)))
            .zip(gate.data.chunks(chunk).zip(up.data.chunks(chunk)).zip(dy.data.chunks(chunk)))
            .collect();
        threads::each(tasks, |((dgate, dup), ((gate, up), dy))| {
            self.level.run(
                #[inline(always)]
                || {
                    let operands = gate.iter().zip(up).zip(dy);
                    for ((dgate, dup), ((&g, &u), &dy)) in
                        dgate.iter_mut().zip(dup.iter_mut()).zip(operands)
                    {
                        let s = math::sigmoid(g);
                        *dup = dy * g * s;
                        *dgate = dy * u * s * (1.0 + g * (1.0 - s));
                    }
                },
            );
        });
        [Tensor::new(dgate, gate.shape), Tensor::new(dup, gate.shape)]
    }
}
