//! Which GPU: what there is, what may be used, what it can do.

use super::recorder::Limits;
use super::shader::Needs;
use crate::error::{Error, Result};

/// How [`super::Gpu::request`] chooses and limits a device.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Accept an adapter that computes on the CPU. They are 20 to 100 times slower than the CPU
    /// backend: for tests only.
    pub allow_software: bool,
    /// Optional features that may be used where the adapter has them; all by default.
    pub features: Needs,
    /// A smaller limit for one binding than the adapter's, in bytes: splits weights into more
    /// chunks.
    pub max_binding_bytes: Option<u64>,
    /// Words of a known pattern behind every buffer; each read verifies that no kernel wrote there.
    /// Buffers start as NaN and are not reused: for tests.
    pub guard_words: usize,
}

impl Default for GpuOptions {
    fn default() -> Self {
        let features = Needs { f16: true, subgroups: true, dot4: true };
        Self { allow_software: false, features, max_binding_bytes: None, guard_words: 0 }
    }
}

/// One adapter of this machine.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Product name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Driver and its version; empty in browsers.
    pub driver: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub api: String,
    /// Optional features we have shaders for.
    pub features: Needs,
    /// Largest binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Smallest and largest subgroup, lanes.
    pub subgroup_sizes: [u32; 2],
}

impl Adapter {
    /// True when it computes on the CPU.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }
}

/// The adapters of this machine, best first. A browser shows one at most.
pub async fn adapters() -> Vec<Adapter> {
    let instance = instance();
    let dot4 = dot4(&instance);
    found(&instance).await.iter().map(|adapter| describe(adapter, dot4)).collect()
}

/// An opened device, and what was opened.
pub(super) struct Opened {
    pub(super) adapter: Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// What both the adapter and the options allow.
    pub(super) features: Needs,
    pub(super) limits: Limits,
}

/// The best adapter the options allow, opened.
pub(super) async fn open(options: &GpuOptions) -> Result<Opened> {
    let instance = instance();
    let dot4 = dot4(&instance);
    let found = found(&instance).await;
    let allowed =
        |adapter: &&wgpu::Adapter| options.allow_software || !describe(adapter, dot4).is_software();
    let Some(chosen) = found.iter().find(allowed) else {
        return Err(Error::NoAdapter(match found.first() {
            None => "no driver offers one; use the CPU backend".into(),
            Some(refused) => format!(
                "`{}` computes on the CPU, more slowly than the CPU backend: use that one, or allow \
                 software adapters",
                describe(refused, dot4).name
            ),
        }));
    };
    let adapter = describe(chosen, dot4);
    let features = Needs {
        f16: options.features.f16 && adapter.features.f16,
        subgroups: options.features.subgroups && adapter.features.subgroups,
        dot4: options.features.dot4 && adapter.features.dot4,
    };
    let mut required_features = wgpu::Features::empty();
    required_features.set(wgpu::Features::SHADER_F16, features.f16);
    required_features.set(wgpu::Features::SUBGROUP, features.subgroups);
    // Everything but sizes stays at WebGPU's defaults, so that a kernel that works on one adapter
    // works on all.
    let offered = chosen.limits();
    let required_limits = wgpu::Limits {
        max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
        max_buffer_size: offered.max_buffer_size,
        ..Default::default()
    };
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("tributary"),
        required_features,
        required_limits,
        ..Default::default()
    };
    let (device, queue) = chosen
        .request_device(&descriptor)
        .await
        .map_err(|error| Error::NoAdapter(format!("`{}`: {error}", adapter.name)))?;
    let binding = adapter.max_binding_bytes.min(options.max_binding_bytes.unwrap_or(u64::MAX));
    let limits = Limits {
        // Whole vec4s, so that a chunk never ends inside one.
        binding: binding / 16 * 16,
        buffer: adapter.max_buffer_bytes,
        params_alignment: u64::from(device.limits().min_uniform_buffer_offset_alignment),
    };
    Ok(Opened { adapter, device, queue, features, limits })
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

fn dot4(instance: &wgpu::Instance) -> bool {
    let features = instance.wgsl_language_features();
    features.contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct)
}

/// Discrete adapters first, software adapters last; the driver's order among equals.
async fn found(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    if cfg!(target_arch = "wasm32") {
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        return instance.request_adapter(&options).await.into_iter().collect();
    }
    let mut found = instance.enumerate_adapters(wgpu::Backends::all()).await;
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

fn describe(adapter: &wgpu::Adapter, dot4: bool) -> Adapter {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let driver = [info.driver.as_str(), info.driver_info.as_str()];
    Adapter {
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Other => "other",
            wgpu::DeviceType::Cpu => "software",
        },
        driver: driver.join(" ").trim().to_owned(),
        api: format!("{:?}", info.backend),
        features: Needs {
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            dot4,
        },
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        // Browsers keep it to themselves.
        name: match info.name.is_empty() {
            true => "an adapter without a name".into(),
            false => info.name,
        },
    }
}
