//! The parameters of a linear recurrence.

/// A diagonal complex recurrence, the core of a linear recurrent unit (Orvieto et al., arXiv
/// 2303.06349): h_t = lambda * h_(t-1) + gamma * x_t, by channel, where
/// lambda = exp(-exp(nu_log) + i exp(theta_log)) and gamma = exp(gamma_log).
///
/// As written |lambda| < 1 whatever the parameters are, so no sequence is too long.
#[derive(Debug)]
pub struct Recurrence<'a, V> {
    /// Of each channel how fast it forgets: (channels).
    pub nu_log: &'a V,
    /// Of each channel how fast it turns: (channels).
    pub theta_log: &'a V,
    /// Of each channel how loud its input is: (channels).
    pub gamma_log: &'a V,
}

impl<V> Clone for Recurrence<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Recurrence<'_, V> {}
