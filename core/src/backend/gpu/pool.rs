//! Buffers between two uses.
//!
//! Dispatches of one recording run in the order they were recorded, so a buffer freed in the middle
//! of a recording can be the output of a later dispatch of the same recording. Data written through
//! the queue, however, lands before the whole recording: [`Pool::take_unused`] therefore skips what
//! the current recording has touched.

use std::collections::HashMap;

/// Recordings a free buffer survives without being used.
const IDLE_RECORDINGS: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Free buffers by size.
    free: HashMap<u64, Vec<Free>>,
    /// Number of the recording under way.
    recording: u64,
    next_id: u64,
    /// Buffers were destroyed since the recorder last looked: cached bind groups would keep them.
    dropped: bool,
}

#[derive(Debug)]
struct Free {
    buffer: wgpu::Buffer,
    id: u64,
    recording: u64,
}

/// The size that is allocated for `bytes`: eighths of a power of two, so that near sizes share
/// buffers and no more than a quarter is wasted.
pub(super) fn bucket(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 8).max(256);
    bytes.div_ceil(step) * step
}

impl Pool {
    /// A free buffer of `size` (a [`bucket`]) whose old contents are finished by the time a
    /// dispatch recorded from now on runs.
    pub(super) fn take(&mut self, size: u64) -> Option<(wgpu::Buffer, u64)> {
        let free = self.free.get_mut(&size)?.pop()?;
        Some((free.buffer, free.id))
    }

    /// A free buffer that the recording under way has not touched: safe to write by the queue.
    pub(super) fn take_unused(&mut self, size: u64) -> Option<(wgpu::Buffer, u64)> {
        let recording = self.recording;
        let list = self.free.get_mut(&size)?;
        let i = list.iter().position(|free| free.recording < recording)?;
        let free = list.swap_remove(i);
        Some((free.buffer, free.id))
    }

    pub(super) fn take_back(&mut self, buffer: wgpu::Buffer, id: u64) {
        let free = Free { id, recording: self.recording, buffer };
        self.free.entry(free.buffer.size()).or_default().push(free);
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A recording was submitted: the next one begins.
    pub(super) fn submitted(&mut self) {
        self.recording += 1;
        let oldest = self.recording.saturating_sub(IDLE_RECORDINGS);
        for list in self.free.values_mut() {
            let before = list.len();
            list.retain(|free| free.recording >= oldest);
            self.dropped |= list.len() < before;
        }
    }

    /// A buffer that is not reused was dropped.
    pub(super) fn forget(&mut self) {
        self.dropped = true;
    }

    /// True once after buffers were destroyed.
    pub(super) fn take_dropped(&mut self) -> bool {
        std::mem::take(&mut self.dropped)
    }

    /// Frees every buffer that is not in use.
    pub(super) fn clear(&mut self) {
        self.free.clear();
        self.dropped = true;
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn buckets_hold_their_bytes_and_waste_at_most_a_quarter() {
        for bytes in [0, 1, 256, 257, 1000, 4096, 4097, 1 << 20, (1 << 20) + 4, (128 << 20) - 4] {
            let size = bucket(bytes);
            assert!(size >= bytes && size % 256 == 0, "{bytes} -> {size}");
            assert!(size <= (bytes + bytes / 4).max(512), "{bytes} -> {size}");
        }
    }
}
