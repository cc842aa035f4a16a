//! Pipelines and bind groups: made on first use, then kept.

use std::collections::HashMap;

use super::shader::{Kind, Shader};
use super::tensor::Storage;

/// Bind groups that are kept at most; a forward of a large model needs a few hundred.
const MAX_BIND_GROUPS: usize = 4096;

/// A shader ready to run, under one set of override constants.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Shader, page of the parameter arena, then (id, bytes) of each storage in binding order.
type BindKey = (&'static str, usize, Vec<(u64, u64)>);

#[derive(Debug, Default)]
pub(super) struct Pipelines {
    /// By the shader's name and the bits of its constants.
    pipelines: HashMap<(&'static str, Vec<u64>), Pipeline>,
    bind_groups: HashMap<BindKey, wgpu::BindGroup>,
}

impl Pipelines {
    /// The pipeline of `shader` with `constants` for its overrides, in their order.
    pub(super) fn pipeline(
        &mut self,
        device: &wgpu::Device,
        shader: &'static Shader,
        constants: &[f64],
    ) -> Pipeline {
        let key = (shader.name, constants.iter().map(|c| c.to_bits()).collect());
        self.pipelines.entry(key).or_insert_with(|| build(device, shader, constants)).clone()
    }

    /// The bind group of `shader` over one page of parameters and these storages; true when it had
    /// to be made.
    pub(super) fn bind_group(
        &mut self,
        device: &wgpu::Device,
        shader: &'static Shader,
        pipeline: &Pipeline,
        page: (usize, &wgpu::Buffer),
        storages: &[&Storage],
    ) -> (wgpu::BindGroup, bool) {
        let key = (shader.name, page.0, storages.iter().map(|s| (s.id, s.bytes)).collect());
        if let Some(group) = self.bind_groups.get(&key) {
            return (group.clone(), false);
        }
        let params = shader.bindings.first().map_or(0, |binding| match binding.kind {
            Kind::Uniform(bytes) => u64::from(bytes),
            Kind::Read | Kind::ReadWrite => 0,
        });
        let parts =
            std::iter::once((page.1, params)).chain(storages.iter().map(|s| (&s.buffer, s.bytes)));
        let entries: Vec<_> = parts
            .zip(shader.bindings)
            .map(|((buffer, bytes), binding)| wgpu::BindGroupEntry {
                binding: binding.number,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: std::num::NonZeroU64::new(bytes),
                }),
            })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &pipeline.layout,
            entries: &entries,
        });
        if self.bind_groups.len() >= MAX_BIND_GROUPS {
            self.bind_groups.clear();
        }
        self.bind_groups.insert(key, group.clone());
        (group, true)
    }

    /// Lets go of all bind groups, and with them of buffers nobody else holds.
    pub(super) fn clear_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}

/// The layout comes from the shader's table, never from the driver: an automatic one drops bindings
/// that a variant does not read.
fn build(device: &wgpu::Device, shader: &'static Shader, constants: &[f64]) -> Pipeline {
    let entries: Vec<_> = shader
        .bindings
        .iter()
        .map(|binding| {
            let (ty, has_dynamic_offset, bytes) = match binding.kind {
                Kind::Uniform(bytes) => (wgpu::BufferBindingType::Uniform, true, u64::from(bytes)),
                Kind::Read => (wgpu::BufferBindingType::Storage { read_only: true }, false, 0),
                Kind::ReadWrite => {
                    (wgpu::BufferBindingType::Storage { read_only: false }, false, 0)
                }
            };
            wgpu::BindGroupLayoutEntry {
                binding: binding.number,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset,
                    min_binding_size: std::num::NonZeroU64::new(bytes),
                },
                count: None,
            }
        })
        .collect();
    let label = Some(shader.name);
    let layout = device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    // naga takes subgroup operations without the directive and refuses the directive; browsers want
    // it.
    let directives = if cfg!(target_arch = "wasm32") {
        shader.directives.to_owned()
    } else {
        shader.directives.replace("enable subgroups;\n", "")
    };
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(format!("{directives}{}", shader.source).into()),
    });
    let constants: Vec<_> =
        shader.overrides.iter().copied().zip(constants.iter().copied()).collect();
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(shader.entry_point),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            // Every kernel writes its workgroup memory before it reads it.
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    Pipeline { pipeline, layout }
}
