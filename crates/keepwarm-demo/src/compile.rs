//! The work that the cache saves: WGSL to SPIR-V, by naga, for every shader that Vello carries.

use keepwarm::Fingerprint;
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::error::Error;
use std::fmt;
use vello_shaders::{SHADERS, Shaders};

/// How many shaders the locked version of `vello_shaders` is known to carry.
pub(crate) const EXPECTED_SHADERS: usize = 23;

/// The version of naga that this program is linked with, from `Cargo.lock` (see `build.rs`).
pub(crate) const NAGA_VERSION: &str = env!("NAGA_VERSION");

static ALL: Shaders<'static> = SHADERS;

/// One shader to compile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shader {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

/// Takes the crate's list apart field by field and without `..`, so that a version that carries
/// more shaders, or fewer, does not compile.
macro_rules! list {
    ($($name:ident)*) => {{
        let Shaders { $($name),* } = &ALL;
        vec![$(Shader { name: stringify!($name), source: &*$name.wgsl.code }),*]
    }};
}

/// Every shader of the crate, by name.
#[rustfmt::skip]
pub(crate) fn shaders() -> Vec<Shader> {
    list!(
        backdrop backdrop_dyn bbox_clear binning clip_leaf clip_reduce coarse draw_leaf
        draw_reduce fine_area fine_msaa16 fine_msaa8 flatten path_count path_count_setup
        path_tiling path_tiling_setup pathtag_reduce pathtag_reduce2 pathtag_scan1
        pathtag_scan_large pathtag_scan_small tile_alloc
    )
}

/// Compiles one shader to SPIR-V, as little-endian bytes.
pub(crate) fn compile(shader: Shader) -> Result<Vec<u8>, CompileError> {
    let failed = |stage, message| CompileError {
        shader: shader.name,
        stage,
        message,
    };
    let module = naga::front::wgsl::parse_str(shader.source)
        .map_err(|e| failed("parse", e.emit_to_string(shader.source)))?;
    let info = Validator::new(ValidationFlags::all(), CAPABILITIES)
        .validate(&module)
        .map_err(|e| failed("validate", e.emit_to_string(shader.source)))?;
    let words = spv::write_vec(&module, &info, &options(), None)
        .map_err(|e| failed("write", e.to_string()))?;
    Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
}

/// The key of one shader: everything its SPIR-V depends on.
///
/// The options go in as their whole `Debug` text, so that one which a newer naga adds, or one that
/// differs between debug and release builds, is part of the key without anybody thinking of it.
pub(crate) fn fingerprint(shader: Shader) -> Fingerprint {
    Fingerprint::builder("keepwarm-demo wgsl-to-spirv")
        .field("naga", NAGA_VERSION)
        .field("options", format!("{:?} {CAPABILITIES:?}", options()))
        .field("source", shader.source)
        .finish()
}

/// What the shaders may use beyond the plainest device: `unpack2x16float`, which `flatten` needs.
const CAPABILITIES: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

fn options() -> spv::Options<'static> {
    spv::Options::default()
}

/// A shader that does not compile.
#[derive(Debug)]
pub(crate) struct CompileError {
    shader: &'static str,
    stage: &'static str,
    message: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shader,
            stage,
            message,
        } = self;
        write!(f, "could not {stage} the shader {shader}: {message}")
    }
}

impl Error for CompileError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_crate_carries_as_many_shaders_as_the_demo_says() {
        assert_eq!(shaders().len(), EXPECTED_SHADERS);
    }

    #[test]
    fn every_shader_compiles_to_spirv_and_always_to_the_same() {
        for shader in shaders() {
            let spirv = compile(shader).unwrap();
            assert_eq!(spirv[..4], 0x0723_0203_u32.to_le_bytes(), "{}", shader.name);
            assert_eq!(spirv, compile(shader).unwrap(), "{}", shader.name);
        }
    }

    #[test]
    fn every_shader_has_a_key_of_its_own() {
        let keys: HashSet<_> = shaders().into_iter().map(fingerprint).collect();
        assert_eq!(keys.len(), EXPECTED_SHADERS);
    }

    #[test]
    fn a_shader_that_does_not_parse_says_where() {
        let broken = Shader {
            name: "broken",
            source: "fn main( {}",
        };
        let message = compile(broken).unwrap_err().to_string();
        assert!(message.contains("parse the shader broken"), "{message}");
    }
}
