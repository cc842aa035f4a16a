//! The only file that talks to wgpu's queue. Operations describe dispatches; the recorder keeps
//! them, encodes them into one pass and submits once, when somebody reads.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytemuck::Pod;

use super::fault::Faults;
use super::pipeline::Pipelines;
use super::pool::{Pool, bucket};
use super::shader::{Kind, Shader};
use super::tensor::{Storage, Tensor};
use crate::error::{Error, Result};

/// Bytes of one page of parameters; 256 dispatches on most adapters.
const PAGE: usize = 64 << 10;
/// Workgroups of one axis of a dispatch, as `grid.wgsl` counts them.
const AXIS: usize = 65_535;
/// Uploaded bytes after which the queue is flushed, so that staging memory stays bounded while a
/// model loads.
const FLUSH_BYTES: u64 = 64 << 20;
/// What a guard zone holds: a quiet NaN nobody computes.
const GUARD: u32 = 0x7fc0_dead;

/// What was asked of the device since it was opened. The adapter-independent cost of a forward is
/// the difference of two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Compute dispatches recorded.
    pub dispatches: u64,
    /// Command buffers submitted.
    pub submits: u64,
    /// Bind groups made; those found in the cache cost nothing.
    pub bind_groups: u64,
    /// Buffers made; those found in the pool cost nothing.
    pub buffers: u64,
    /// Bytes written to the device, parameters included.
    pub uploaded_bytes: u64,
    /// Bytes read back.
    pub read_bytes: u64,
}

#[derive(Debug, Default)]
struct Counts {
    dispatches: AtomicU64,
    submits: AtomicU64,
    bind_groups: AtomicU64,
    buffers: AtomicU64,
    uploaded_bytes: AtomicU64,
    read_bytes: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

enum Command {
    Dispatch {
        pipeline: wgpu::ComputePipeline,
        bind_group: wgpu::BindGroup,
        params: u32,
        groups: [u32; 2],
    },
    Copy {
        source: wgpu::Buffer,
        target: wgpu::Buffer,
        bytes: u64,
    },
    Clear {
        buffer: wgpu::Buffer,
        bytes: u64,
    },
}

/// The recording under way.
#[derive(Default)]
struct State {
    commands: Vec<Command>,
    pipelines: Pipelines,
    /// Parameters of all dispatches, whole pages of [`PAGE`] bytes but the last.
    params: Vec<u8>,
    pages: Vec<wgpu::Buffer>,
    /// Index lists uploaded for this recording, by content: every layer asks for the same ones.
    lists: HashMap<Vec<u32>, Arc<Storage>>,
    /// Buffers for reading back, unmapped.
    staging: Vec<wgpu::Buffer>,
    unflushed_bytes: u64,
}

/// Largest sizes a device takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) binding: u64,
    pub(super) buffer: u64,
    pub(super) params_alignment: u64,
}

pub(super) struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pub(super) limits: Limits,
    /// Words of pattern behind every buffer, verified by each read; 0 outside tests.
    guard_words: usize,
    faults: Faults,
    pool: Arc<Mutex<Pool>>,
    state: Mutex<State>,
    counts: Counts,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub(super) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        limits: Limits,
        guard_words: usize,
    ) -> Self {
        let faults = Faults::watch(&device);
        let (pool, state, counts) = Default::default();
        Self { device, queue, limits, guard_words, faults, pool, state, counts }
    }

    /// `Err` with what the device reported since the last call.
    pub(super) fn check(&self) -> Result<()> {
        self.faults.check()
    }

    pub(super) fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            dispatches: get(&self.counts.dispatches),
            submits: get(&self.counts.submits),
            bind_groups: get(&self.counts.bind_groups),
            buffers: get(&self.counts.buffers),
            uploaded_bytes: get(&self.counts.uploaded_bytes),
            read_bytes: get(&self.counts.read_bytes),
        }
    }

    pub(super) fn destroy(&self) {
        self.device.destroy();
        self.faults.lose("destroyed by its owner".into());
    }

    /// Frees what no tensor holds.
    pub(super) fn trim(&self) {
        let mut state = lock(&self.state);
        state.staging.clear();
        state.pipelines.clear_bind_groups();
        lock(&self.pool).clear();
    }

    // ---- memory ----

    /// Memory for the result `what` of dispatches, contents undefined.
    pub(super) fn output(&self, what: &str, words: usize) -> Result<Arc<Storage>> {
        let size = self.size(what, words)?;
        let found = lock(&self.pool).take(size);
        self.storage(what, words, size, found, true)
    }

    /// Memory holding `data`, which must be whole words.
    pub(super) fn upload(&self, what: &str, data: &[u8]) -> Result<Arc<Storage>> {
        let words = data.len() / 4;
        let size = self.size(what, words)?;
        let found = lock(&self.pool).take_unused(size);
        let storage = self.storage(what, words, size, found, true)?;
        self.write(&storage, data);
        Ok(storage)
    }

    /// As [`Recorder::upload`], for memory that lives as long as a model.
    pub(super) fn weight(&self, name: &str, data: &[u8]) -> Result<Arc<Storage>> {
        let words = data.len() / 4;
        let size = (data.len().max(16) as u64).next_multiple_of(16);
        let storage = self.storage(name, words, size, None, false)?;
        self.write(&storage, data);
        Ok(storage)
    }

    /// A list of indices on the device; the same list again costs nothing within a recording.
    pub(super) fn list(&self, what: &str, list: &[u32]) -> Result<Arc<Storage>> {
        if let Some(known) = lock(&self.state).lists.get(list) {
            return Ok(known.clone());
        }
        let storage = self.upload(what, bytemuck::cast_slice(list))?;
        lock(&self.state).lists.insert(list.to_vec(), storage.clone());
        Ok(storage)
    }

    /// Bytes to allocate for `words`, `Err` when one binding cannot hold them.
    fn size(&self, what: &str, words: usize) -> Result<u64> {
        let bytes = words as u64 * 4;
        if bytes > self.limits.binding {
            let what = format!("{what}: bytes of one tensor on this GPU");
            return Err(Error::Limit { what, limit: self.limits.binding, found: bytes });
        }
        Ok(bucket(bytes).min(self.limits.buffer))
    }

    fn storage(
        &self,
        what: &str,
        words: usize,
        size: u64,
        found: Option<(wgpu::Buffer, u64)>,
        reuse: bool,
    ) -> Result<Arc<Storage>> {
        self.check()?;
        let guarded = self.guard_words > 0;
        let bytes = (words.max(1) as u64 + self.guard_words as u64) * 4;
        let (buffer, id) = match found {
            Some(found) => found,
            None => {
                let usage = wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST;
                let size = if guarded { bytes.next_multiple_of(16) } else { size };
                let buffer = self.buffer(what, size, usage, guarded)?;
                if guarded && let Ok(mut view) = buffer.slice(..).get_mapped_range_mut() {
                    view.copy_from_slice(bytemuck::cast_slice(&vec![GUARD; size as usize / 4]));
                }
                if guarded {
                    buffer.unmap();
                }
                (buffer, lock(&self.pool).new_id())
            }
        };
        // A vec4 array must end with a whole vec4.
        let bytes = bytes.next_multiple_of(16).min(buffer.size());
        let home = Arc::downgrade(&self.pool);
        Ok(Arc::new(Storage { buffer, id, bytes, home, reuse: reuse && !guarded }))
    }

    fn buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer> {
        if size > self.limits.buffer {
            let what = format!("{what}: bytes of one buffer on this GPU");
            return Err(Error::Limit { what, limit: self.limits.buffer, found: size });
        }
        self.faults.allocating(what, size);
        let descriptor =
            wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation };
        let buffer = self.device.create_buffer(&descriptor);
        add(&self.counts.buffers, 1);
        self.check()?;
        Ok(buffer)
    }

    /// Lands before every command of the recording under way.
    fn write(&self, storage: &Storage, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.queue.write_buffer(&storage.buffer, 0, data);
        add(&self.counts.uploaded_bytes, data.len() as u64);
        let mut state = lock(&self.state);
        state.unflushed_bytes += data.len() as u64;
        if state.unflushed_bytes > FLUSH_BYTES {
            state.unflushed_bytes = 0;
            self.queue.submit([]);
            add(&self.counts.submits, 1);
        }
    }

    // ---- commands ----

    /// Records one dispatch of `groups` workgroups. `params` goes to binding 0, `storages` to the
    /// others in order, `constants` to the shader's overrides.
    pub(super) fn dispatch<P: Pod>(
        &self,
        shader: &'static Shader,
        constants: &[f64],
        params: &P,
        storages: &[&Storage],
        groups: usize,
    ) -> Result<()> {
        self.check()?;
        let expected = shader.bindings.first().map(|binding| binding.kind);
        if expected != Some(Kind::Uniform(size_of::<P>() as u32))
            || shader.bindings.len() != storages.len() + 1
            || shader.overrides.len() != constants.len()
        {
            let bindings = shader.bindings;
            return Err(Error::Internal(format!("{}: asks for {bindings:?}", shader.name)));
        }
        let y = groups.div_ceil(AXIS);
        if y > AXIS {
            let (limit, found) = ((AXIS * AXIS) as u64, groups as u64);
            return Err(Error::Limit {
                what: format!("{}: workgroups", shader.name),
                limit,
                found,
            });
        }
        let mut state = lock(&self.state);
        let state = &mut *state;
        if lock(&self.pool).take_dropped() {
            state.pipelines.clear_bind_groups();
        }
        let pipeline = state.pipelines.pipeline(&self.device, shader, constants);
        let (page, offset) = self.params(state, bytemuck::bytes_of(params))?;
        let Some(buffer) = state.pages.get(page) else {
            return Err(Error::Internal(format!("no parameter page {page}")));
        };
        let (bind_group, made) =
            state.pipelines.bind_group(&self.device, shader, &pipeline, (page, buffer), storages);
        add(&self.counts.bind_groups, u64::from(made));
        add(&self.counts.dispatches, 1);
        let groups = [groups.min(AXIS) as u32, y as u32];
        let pipeline = pipeline.pipeline;
        state.commands.push(Command::Dispatch { pipeline, bind_group, params: offset, groups });
        Ok(())
    }

    /// Puts `params` into the arena: its page and its offset there.
    fn params(&self, state: &mut State, params: &[u8]) -> Result<(usize, u32)> {
        let alignment = self.limits.params_alignment.max(4) as usize;
        let mut start = state.params.len().next_multiple_of(alignment);
        if start % PAGE + params.len() > PAGE {
            start = start.next_multiple_of(PAGE);
        }
        state.params.resize(start, 0);
        state.params.extend_from_slice(params);
        if state.pages.len() <= start / PAGE {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            state.pages.push(self.buffer("parameters", PAGE as u64, usage, false)?);
        }
        Ok((start / PAGE, (start % PAGE) as u32))
    }

    /// Records a copy of the first `words`.
    pub(super) fn copy(&self, what: &str, source: &Storage, words: usize) -> Result<Arc<Storage>> {
        let target = self.output(what, words)?;
        lock(&self.state).commands.push(Command::Copy {
            source: source.buffer.clone(),
            target: target.buffer.clone(),
            bytes: words as u64 * 4,
        });
        Ok(target)
    }

    /// Memory of zeros.
    pub(super) fn zeros(&self, what: &str, words: usize) -> Result<Arc<Storage>> {
        let storage = self.output(what, words)?;
        if words > 0 {
            let (buffer, bytes) = (storage.buffer.clone(), words as u64 * 4);
            lock(&self.state).commands.push(Command::Clear { buffer, bytes });
        }
        Ok(storage)
    }

    /// Encodes everything recorded, in order, in as few passes as copies allow, and submits once.
    fn submit(&self) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        for (page, params) in state.pages.iter().zip(state.params.chunks_mut(PAGE)) {
            self.queue.write_buffer(page, 0, params);
            add(&self.counts.uploaded_bytes, params.len() as u64);
        }
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass: Option<wgpu::ComputePass<'static>> = None;
        for command in state.commands.drain(..) {
            match command {
                Command::Dispatch { pipeline, bind_group, params, groups: [x, y] } => {
                    let pass = pass.get_or_insert_with(|| {
                        encoder.begin_compute_pass(&Default::default()).forget_lifetime()
                    });
                    pass.set_pipeline(&pipeline);
                    pass.set_bind_group(0, &bind_group, &[params]);
                    pass.dispatch_workgroups(x, y, 1);
                }
                Command::Copy { source, target, bytes } => {
                    pass = None;
                    encoder.copy_buffer_to_buffer(&source, 0, &target, 0, bytes);
                }
                Command::Clear { buffer, bytes } => {
                    pass = None;
                    encoder.clear_buffer(&buffer, 0, Some(bytes));
                }
            }
        }
        drop(pass);
        self.queue.submit([encoder.finish()]);
        add(&self.counts.submits, 1);
        state.params.clear();
        state.lists.clear();
        state.unflushed_bytes = 0;
        lock(&self.pool).submitted();
    }

    /// Submits, waits, and gives the values of `x`.
    pub(super) async fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.check()?;
        let words = x.shape[0] * x.shape[1];
        if words == 0 {
            return Ok(Vec::new());
        }
        let read_words = words + self.guard_words;
        let bytes = read_words as u64 * 4;
        let size = bucket(bytes);
        let spare = {
            let staging = &mut lock(&self.state).staging;
            staging.iter().position(|b| b.size() == size).map(|i| staging.swap_remove(i))
        };
        let staging = match spare {
            Some(staging) => staging,
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                self.buffer("read", size, usage, false)?
            }
        };
        let (source, target) = (x.storage.buffer.clone(), staging.clone());
        lock(&self.state).commands.push(Command::Copy { source, target, bytes });
        self.submit();

        let signal = Arc::new(Mutex::new((None, None::<Waker>)));
        let setter = signal.clone();
        staging.slice(..bytes).map_async(wgpu::MapMode::Read, move |mapped| {
            let mut signal = lock(&setter);
            signal.0 = Some(mapped.is_ok());
            if let Some(waker) = signal.1.take() {
                waker.wake();
            }
        });
        // On native this waits and runs the callback, unless another thread is just running it; in
        // a browser it does nothing and the page's loop calls back.
        if let Err(error) = self.device.poll(wgpu::PollType::wait_indefinitely()) {
            self.check()?;
            return Err(Error::Gpu(format!("waiting for a read: {error}")));
        }
        let mapped = poll_fn(|context| {
            let mut signal = lock(&signal);
            match signal.0 {
                Some(mapped) => Poll::Ready(mapped),
                None => {
                    signal.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        self.check()?;
        if !mapped {
            // No error was reported, so nothing was wrong with the call: the device died meanwhile, and
            // browsers say so afterwards.
            return Err(Error::DeviceLost("the result could not be mapped".into()));
        }
        let values = {
            let view = staging
                .slice(..bytes)
                .get_mapped_range()
                .map_err(|error| Error::Gpu(error.to_string()))?;
            bytemuck::pod_collect_to_vec::<u8, f32>(&view)
        };
        staging.unmap();
        lock(&self.state).staging.push(staging);
        add(&self.counts.read_bytes, bytes);
        self.unguarded(values, words)
    }

    /// Cuts the guard zone off, `Err` when a kernel wrote into it.
    fn unguarded(&self, mut values: Vec<f32>, words: usize) -> Result<Vec<f32>> {
        match values.iter().skip(words).position(|value| value.to_bits() != GUARD) {
            Some(i) => Err(Error::Internal(format!("guard word {i} behind a tensor was written"))),
            None => {
                values.truncate(words);
                Ok(values)
            }
        }
    }
}
