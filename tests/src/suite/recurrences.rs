//! linear_recurrence: segments of any length, with a state and without.

use tributary_core::backend::{Backend, Recurrence, Segments};

use super::{Subject, read};
use crate::{assert_parity, twin, uniform};

/// Empty segments, single rows, more rows than a scan has runs, more channels than a workgroup has.
pub fn linear_recurrence<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    for (channels, lengths) in [
        (1, vec![1]),
        (3, vec![5]),
        (16, vec![16, 17]),
        (33, vec![0, 1, 257, 0, 31, 2]),
        (5, vec![]),
        (1, vec![1; 70_000]),
    ] {
        let segments = Segments::new(&lengths).unwrap();
        let width = 2 * channels;
        let x = uniform(1, segments.rows() * width);
        // |lambda| from 0.37 to 0.97, angles over more than a whole turn.
        let [nu, theta, gamma] = [2, 3, 4].map(|seed| uniform(seed, channels));
        let nu: Vec<f32> = nu.iter().map(|v| 1.75 * v - 1.75).collect();
        let theta: Vec<f32> = theta.iter().map(|v| 2.0 * v).collect();
        let before = uniform(5, segments.len() * width);
        let parameters = [&nu, &theta, &gamma].map(|v| b.vector("parameter", v).unwrap());
        let [nu_log, theta_log, gamma_log] = &parameters;
        let recurrence = Recurrence { nu_log, theta_log, gamma_log };
        let wide = [&nu, &theta, &gamma].map(|v| twin::wide(v));
        let wide = wide.each_ref().map(|v| &v[..]);
        let uploaded = b.upload(&x, [segments.rows(), width]).unwrap();
        let state = b.upload(&before, [segments.len(), width]).unwrap();
        for with_state in [false, true] {
            let carried = if with_state { twin::wide(&before) } else { Vec::new() };
            let truth = twin::linear_recurrence(&twin::wide(&x), wide, &segments, &carried);
            let state = with_state.then_some(&state);
            let y = b.linear_recurrence(&uploaded, recurrence, &segments, state).unwrap();
            let label = format!(
                "{} linear_recurrence {channels} channels, {} segments, state {with_state}",
                subject.name,
                lengths.len()
            );
            assert_eq!(b.shape(&y), [segments.rows(), width], "{label}");
            assert_parity(&label, &read(b, &y), &truth, 1e-11);
        }
    }
}

/// A long sequence at once, and the same in pieces that hand their last row on.
pub fn continued_recurrence<B: Backend>(subject: &Subject<B>) {
    let b = &subject.backend;
    let (channels, rows) = (7, 300);
    let x = uniform(1, rows * 2 * channels);
    let parameters = [(2, -3.0), (3, 1.0), (4, -1.0)].map(|(seed, shift)| {
        let values: Vec<f32> = uniform(seed, channels).iter().map(|v| v + shift).collect();
        b.vector("parameter", &values).unwrap()
    });
    let [nu_log, theta_log, gamma_log] = &parameters;
    let recurrence = Recurrence { nu_log, theta_log, gamma_log };
    let whole = b.upload(&x, [rows, 2 * channels]).unwrap();
    let whole = b.linear_recurrence(&whole, recurrence, &Segments::one(rows).unwrap(), None);
    let whole = twin::wide(&read(b, &whole.unwrap()));
    let mut pieces = Vec::new();
    let mut state = b.zeros([1, 2 * channels]).unwrap();
    for piece in x.chunks(2 * channels * 37) {
        let rows = piece.len() / (2 * channels);
        let piece = b.upload(piece, [rows, 2 * channels]).unwrap();
        let segments = Segments::one(rows).unwrap();
        let y = b.linear_recurrence(&piece, recurrence, &segments, Some(&state)).unwrap();
        state = b.gather_rows(&y, &segments.last_rows()).unwrap();
        pieces.extend(read(b, &y));
    }
    assert_parity(&format!("{} recurrence in pieces", subject.name), &pieces, &whole, 1e-11);
}
