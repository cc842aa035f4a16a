//! h_t = lambda * h_(t-1) + gamma * x_t by channel, complex, and its backward pass: plain loops over
//! the rows of a segment, all channels of a row side by side.

use super::super::{Recurrence, Segments, check};
use super::threads::{self, Shared};
use super::{Level, Tensor, Vector};
use crate::error::Result;

/// What the parameters say, by channel.
struct Factors {
    re: Vec<f32>,
    im: Vec<f32>,
    gamma: Vec<f32>,
}

impl Factors {
    /// In f64: an angle near 2 pi keeps its last bits.
    fn new([nu_log, theta_log, gamma_log]: [&[f32]; 3]) -> Self {
        let lambda = |(&nu, &theta): (&f32, &f32)| {
            let (size, angle) = ((-f64::from(nu).exp()).exp(), f64::from(theta).exp());
            ((size * angle.cos()) as f32, (size * angle.sin()) as f32)
        };
        let (re, im) = nu_log.iter().zip(theta_log).map(lambda).unzip();
        Self { re, im, gamma: gamma_log.iter().map(|gamma| gamma.exp()).collect() }
    }

    /// One step: `h` becomes lambda * h + gamma * x. All (2 * channels).
    #[inline(always)]
    fn step(&self, h: &mut [f32], x: &[f32]) {
        let n = self.re.len();
        let ((h_re, h_im), (x_re, x_im)) = (h.split_at_mut(n), x.split_at(n));
        let factors = self.re.iter().zip(&self.im).zip(&self.gamma);
        for ((((a, b), g), (h_re, h_im)), (x_re, x_im)) in
            factors.zip(h_re.iter_mut().zip(h_im)).zip(x_re.iter().zip(x_im))
        {
            let re = a * *h_re - b * *h_im + g * x_re;
            *h_im = a * *h_im + b * *h_re + g * x_im;
            *h_re = re;
        }
    }
}

pub(super) fn linear_recurrence(
    level: Level,
    x: &Tensor,
    recurrence: Recurrence<'_, Vector>,
    segments: &Segments,
    state: Option<&Tensor>,
) -> Result<Tensor> {
    let Recurrence { nu_log, theta_log, gamma_log } = recurrence;
    let lens = [nu_log.0.len(), theta_log.0.len(), gamma_log.0.len()];
    check::linear_recurrence(x.shape, lens, segments, state.map(|state| state.shape))?;
    let factors = Factors::new([&nu_log.0, &theta_log.0, &gamma_log.0]);
    let width = x.shape[1];
    let mut y = vec![0.0; x.data.len()];
    let out = Shared::new(&mut y);
    in_tasks(segments, width, |segment, rows, h| {
        if let Some(state) = state {
            h.copy_from_slice(state.row(segment));
        }
        level.run(
            #[inline(always)]
            || {
                for row in rows {
                    factors.step(h, x.row(row));
                    out.write(row * width, h);
                }
            },
        );
    });
    Ok(Tensor::new(y, x.shape))
}

/// `f(segment, its rows, zeros of `width`)` for every segment, several per task.
fn in_tasks(
    segments: &Segments,
    width: usize,
    f: impl Fn(usize, std::ops::Range<usize>, &mut [f32]) + Sync,
) {
    let all: Vec<_> = segments.iter().collect();
    let per_task = all.len().div_ceil(threads::count() * 8).max(1);
    threads::parallel(all.len().div_ceil(per_task), |task| {
        let mut h = vec![0.0; width];
        for (segment, rows) in all.iter().enumerate().skip(task * per_task).take(per_task) {
            h.fill(0.0);
            f(segment, rows.clone(), &mut h);
        }
    });
}

/// By x, nu_log, theta_log and gamma_log, the last three (1, channels). With G_t the gradient by
/// h_t, written as re + i im: G_t = dy_t + conj(lambda) G_(t+1), so one walk from the end gives
/// dx = gamma G, and lambda's gradient is the sum of G_t conj(h_(t-1)).
pub(super) fn gradient(
    level: Level,
    x: &Tensor,
    parameters: [&Tensor; 3],
    segments: &Segments,
    dy: &Tensor,
) -> [Tensor; 4] {
    let factors = Factors::new(parameters.map(|p| &p.data[..]));
    let (n, width) = (factors.re.len(), x.shape[1]);
    let back = Factors {
        re: factors.re.clone(),
        im: factors.im.iter().map(|im| -im).collect(),
        gamma: vec![1.0; n],
    };
    let mut dx = vec![0.0; x.data.len()];
    // (segments, 3 * channels): lambda's real part, its imaginary part, gamma.
    let mut partial = vec![0.0; segments.len() * 3 * n];
    let (out, sums) = (Shared::new(&mut dx), Shared::new(&mut partial));
    in_tasks(segments, width, |segment, rows, g| {
        let mut states = vec![0.0; (rows.len() + 1) * width]; // what came before each row
        let mut sum = vec![0.0; 3 * n];
        let mut scaled = vec![0.0; width];
        let first = rows.start;
        level.run(
            #[inline(always)]
            || {
                for row in rows.clone() {
                    let (before, after) = states.split_at_mut((row - first + 1) * width);
                    after[..width].copy_from_slice(&before[(row - first) * width..]);
                    factors.step(&mut after[..width], x.row(row));
                }
                for row in rows.rev() {
                    back.step(g, dy.row(row));
                    let (g_re, g_im) = g.split_at(n);
                    let (h_re, h_im) = states[(row - first) * width..][..width].split_at(n);
                    let (x_re, x_im) = x.row(row).split_at(n);
                    let (d_re, rest) = sum.split_at_mut(n);
                    let (d_im, d_gamma) = rest.split_at_mut(n);
                    let (s_re, s_im) = scaled.split_at_mut(n);
                    for c in 0..n {
                        d_re[c] += g_re[c] * h_re[c] + g_im[c] * h_im[c];
                        d_im[c] += g_im[c] * h_re[c] - g_re[c] * h_im[c];
                        d_gamma[c] += g_re[c] * x_re[c] + g_im[c] * x_im[c];
                        s_re[c] = factors.gamma[c] * g_re[c];
                        s_im[c] = factors.gamma[c] * g_im[c];
                    }
                    out.write(row * width, &scaled);
                }
            },
        );
        sums.write(segment * 3 * n, &sum);
    });
    let mut total = vec![0.0; 3 * n];
    for sum in partial.chunks_exact((3 * n).max(1)) {
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
    let mut by = [vec![0.0; n], vec![0.0; n], vec![0.0; n]];
    for c in 0..n {
        let (d_re, d_im) = (total[c], total[n + c]);
        let (re, im) = (factors.re[c], factors.im[c]);
        // |lambda| = exp(-exp(nu_log)); its angle is exp(theta_log).
        by[0][c] = -(d_re * re + d_im * im) * parameters[0].data[c].exp();
        by[1][c] = (d_im * re - d_re * im) * parameters[1].data[c].exp();
        by[2][c] = total[2 * n + c] * factors.gamma[c];
    }
    let [nu_log, theta_log, gamma_log] = by.map(|values| Tensor::new(values, [1, n]));
    [Tensor::new(dx, x.shape), nu_log, theta_log, gamma_log]
}
