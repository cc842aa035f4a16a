//! The linear recurrence: a node of the CPU backend's kernels, or a scan of burn's operations.

use burn::tensor::{Tensor, TensorData};
use tributary_core::Result;
use tributary_core::backend::cpu::{self, Cpu};
use tributary_core::backend::{Backend, Recurrence, Segments, check};

use super::fused::{self, Operation};
use super::{Burn, Vector};

pub(super) fn linear_recurrence(
    b: &Burn,
    x: &Tensor<2>,
    recurrence: Recurrence<'_, Vector>,
    segments: &Segments,
    state: Option<&Tensor<2>>,
) -> Result<Tensor<2>> {
    let Recurrence { nu_log, theta_log, gamma_log } = recurrence;
    let lens = [nu_log.len(), theta_log.len(), gamma_log.len()];
    let channels = check::linear_recurrence(x.dims(), lens, segments, state.map(|s| s.dims()))?;
    if segments.rows() == 0 || channels == 0 {
        return b.zeros(x.dims());
    }
    let [nu, theta, gamma] = [nu_log, theta_log, gamma_log].map(|v| b.value(&v.weight));
    if state.is_none()
        && b.fused()
        && let Some(y) = fused::apply(Scan { segments: segments.clone() }, [x, &nu, &theta, &gamma])
    {
        return y;
    }
    let (size, angle, gamma) = (nu.exp().neg().exp(), theta.exp(), gamma.exp());
    let mut lambda = Complex { re: size.clone() * angle.clone().cos(), im: size * angle.sin() };
    let mut h = Complex::split(x, channels).map(|part| part * gamma.clone());
    if let Some(state) = state {
        // What came before is one more input of the first row.
        let with_rows: Vec<(u32, u32)> = (0..).zip(segments.iter()).filter_map(first_row).collect();
        let (segment, row): (Vec<u32>, Vec<u32>) = with_rows.into_iter().unzip();
        let carried = Complex::split(state, channels).times(&lambda);
        let mut joined = b.zeros(x.dims())?;
        let rows = b.gather_rows(&carried.join(), &segment)?;
        b.scatter_rows(&mut joined, &row, &rows)?;
        let joined = Complex::split(&joined, channels);
        h = Complex { re: h.re + joined.re, im: h.im + joined.im };
    }
    // Hillis and Steele: after a pass each row holds the sum over twice as many rows before it.
    let longest = segments.iter().map(|rows| rows.len()).max().unwrap_or(0);
    let mut shift = 1;
    while shift < longest {
        let (earlier, is_there) = shifted(segments, shift);
        let is_there = TensorData::new(is_there, [segments.rows(), 1]);
        let is_there: Tensor<2> = Tensor::from_data(is_there, &b.shared.device);
        let earlier = b.indices(&earlier);
        let before = h.clone().map(|part| part.select(0, earlier.clone()) * is_there.clone());
        let before = before.times(&lambda);
        h = Complex { re: h.re + before.re, im: h.im + before.im };
        lambda = lambda.clone().times(&lambda);
        shift *= 2;
    }
    Ok(h.join())
}

fn first_row((segment, rows): (u32, std::ops::Range<usize>)) -> Option<(u32, u32)> {
    (!rows.is_empty()).then_some((segment, rows.start as u32))
}

/// For each row the row `shift` before it, and 1 where that is of its own segment, else 0.
fn shifted(segments: &Segments, shift: usize) -> (Vec<u32>, Vec<f32>) {
    let rows = segments.iter().flat_map(|rows| {
        let first = rows.start;
        rows.map(move |row| match row.checked_sub(shift).filter(|&row| row >= first) {
            Some(earlier) => (earlier as u32, 1.0),
            None => (row as u32, 0.0),
        })
    });
    rows.unzip()
}

#[derive(Clone)]
struct Complex {
    re: Tensor<2>,
    im: Tensor<2>,
}

impl Complex {
    fn split(x: &Tensor<2>, channels: usize) -> Self {
        Self { re: x.clone().narrow(1, 0, channels), im: x.clone().narrow(1, channels, channels) }
    }

    fn join(self) -> Tensor<2> {
        Tensor::cat(vec![self.re, self.im], 1)
    }

    fn map(self, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        Self { re: f(self.re), im: f(self.im) }
    }

    fn times(self, other: &Self) -> Self {
        let Self { re, im } = other;
        Self {
            re: self.re.clone() * re.clone() - self.im.clone() * im.clone(),
            im: self.re * im.clone() + self.im * re.clone(),
        }
    }
}

/// The CPU backend's recurrence, by x and the three parameters, (1, channels) each.
#[derive(Debug)]
struct Scan {
    segments: Segments,
}

impl Operation<4> for Scan {
    fn forward(&self, cpu: &Cpu, [x, nu, theta, gamma]: &[cpu::Tensor; 4]) -> Result<cpu::Tensor> {
        let vector = |x: &cpu::Tensor| cpu.vector("linear_recurrence", x.data());
        let (nu_log, theta_log, gamma_log) = (&vector(nu)?, &vector(theta)?, &vector(gamma)?);
        let recurrence = Recurrence { nu_log, theta_log, gamma_log };
        cpu.linear_recurrence(x, recurrence, &self.segments, None)
    }

    fn backward(
        &self,
        cpu: &Cpu,
        [x, nu, theta, gamma]: &[cpu::Tensor; 4],
        dy: &cpu::Tensor,
    ) -> Result<[cpu::Tensor; 4]> {
        Ok(cpu.linear_recurrence_gradient(x, [nu, theta, gamma], &self.segments, dy))
    }
}
