//! What build.rs found in the WGSL files: every shader with its bindings, every parameter block.

/// One linked shader. [`super::shaders`] lists them all.
#[derive(Debug)]
pub struct Shader {
    /// Its name in `shaders/variants.txt`.
    pub name: &'static str,
    /// `enable` and `requires` lines the text needs in front, as the WGSL specification has them.
    pub directives: &'static str,
    /// The linked text.
    pub source: &'static str,
    /// Its one entry point.
    pub entry_point: &'static str,
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// In the order of their numbers, all in group 0.
    pub bindings: &'static [Binding],
    /// Names of its override constants.
    pub overrides: &'static [&'static str],
    /// What a device must offer to run it.
    pub needs: Needs,
}

/// Optional features of a device that a shader cannot run without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// 16-bit floats in shaders.
    pub f16: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// dot4I8Packed and its family.
    pub dot4: bool,
}

/// One binding of a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its number in group 0.
    pub number: u32,
    /// Its name in WGSL.
    pub name: &'static str,
    /// What is bound.
    pub kind: Kind,
}

/// What a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A parameter block of so many bytes.
    Uniform(u32),
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written.
    ReadWrite,
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
