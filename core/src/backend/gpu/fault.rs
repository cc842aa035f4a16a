//! What the device reports behind our back, kept until the next call can return it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

#[derive(Debug, Default)]
struct Reports {
    /// Why the device is gone. Stays.
    lost: Option<String>,
    /// The first error since the last call; later ones follow from it.
    error: Option<Error>,
    /// What was being allocated last, for an out-of-memory report.
    allocating: (String, u64),
}

/// Shared with the device's callbacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Reports>>);

impl Faults {
    /// Installs the callbacks. Without them wgpu panics, which in a browser ends the page's module.
    pub(super) fn watch(device: &wgpu::Device) -> Self {
        let faults = Self::default();
        let watcher = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| watcher.report(error)));
        let watcher = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            watcher.lose(format!("{reason:?}: {message}"));
        });
        faults
    }

    /// `Err` with what was reported since the last call. A lost device stays lost.
    pub(super) fn check(&self) -> Result<()> {
        let mut reports = self.lock();
        if let Some(reason) = &reports.lost {
            return Err(Error::DeviceLost(reason.clone()));
        }
        match reports.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The device is gone.
    pub(super) fn lose(&self, reason: String) {
        self.lock().lost.get_or_insert(reason);
    }

    /// Names the allocation that comes next.
    pub(super) fn allocating(&self, what: &str, bytes: u64) {
        let mut reports = self.lock();
        reports.allocating.0.clear();
        reports.allocating.0.push_str(what);
        reports.allocating.1 = bytes;
    }

    fn report(&self, error: wgpu::Error) {
        let mut reports = self.lock();
        let (what, bytes) = reports.allocating.clone();
        reports.error.get_or_insert(match error {
            wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory { what, bytes },
            other => Error::Gpu(other.to_string()),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
