//! A bundle that arrives piece by piece, hashed on its way into memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tributary_core::backend::gpu::{Gpu, GpuOptions};
use tributary_core::digest::hex;
use tributary_core::recommend::{BUNDLE_FILE, Bundle as Verified, BundleFile, BundleManifest};
use tributary_core::{Error, Result};
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::values::{self, Failure};

/// Taken before a file's first byte; more is taken as it comes, so a manifest's claim costs nothing.
const RESERVED_BYTES: u64 = 64 << 20;

/// `Bundle` of the contract with `worker.js`.
#[wasm_bindgen]
pub struct Bundle {
    manifest: BundleManifest,
    arriving: BTreeMap<String, Arriving>,
    files: BTreeMap<String, Bytes>,
}

#[derive(Default)]
struct Arriving {
    bytes: Vec<u8>,
    hash: Sha256,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    bytes: u64,
    component: &'a str,
    sha256: &'a str,
}

#[wasm_bindgen]
impl Bundle {
    /// The bundle that the bytes of a `bundle.json` announce.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8]) -> Result<Bundle, Failure> {
        let manifest = BundleManifest::parse(BUNDLE_FILE, manifest)?;
        Ok(Self { manifest, arriving: BTreeMap::new(), files: BTreeMap::new() })
    }

    /// What is to come.
    pub fn files(&self) -> Result<JsValue, Failure> {
        let listed = self.manifest.components.iter().flat_map(|component| {
            component.files.iter().map(|file| Listed {
                name: &file.name,
                bytes: file.bytes,
                component: &component.name,
                sha256: &file.sha256,
            })
        });
        values::to_js(&listed.collect::<Vec<_>>())
    }

    /// The next bytes of a file.
    pub fn append(&mut self, name: &str, chunk: &[u8]) -> Result<(), Failure> {
        let expected = self.file(name)?.bytes;
        let file = self.arriving.entry(name.into()).or_default();
        let found = file.bytes.len() as u64 + chunk.len() as u64;
        if found > expected {
            self.discard(name);
            let expected = expected.to_string();
            let (file, field) = (name.into(), "bytes".into());
            let found = format!("{found} or more");
            return Err(Error::Integrity { file, field, expected, found }.into());
        }
        let room = match file.bytes.is_empty() {
            true => file.bytes.try_reserve_exact(expected.min(RESERVED_BYTES) as usize),
            false => file.bytes.try_reserve(chunk.len()),
        };
        room.map_err(|_| Error::OutOfMemory { what: name.into(), bytes: expected })?;
        file.bytes.extend_from_slice(chunk);
        file.hash.update(chunk);
        Ok(())
    }

    /// All of a file came: compares size and sha256 with the manifest.
    pub fn finish(&mut self, name: &str) -> Result<(), Failure> {
        let file = self.arriving.remove(name).unwrap_or_default();
        let sha256 = hex(&file.hash.finalize());
        self.file(name)?.compare(file.bytes.len() as u64, &sha256)?;
        self.files.insert(name.into(), file.bytes.into());
        Ok(())
    }

    /// Forgets what came of a file, so that it can come again.
    pub fn discard(&mut self, name: &str) {
        self.arriving.remove(name);
        self.files.remove(name);
    }

    /// The bundle's recommender on `cpu` or `gpu`. The files stay, so another engine costs no
    /// download.
    pub async fn open(&self, device: &str, allow_software: bool) -> Result<Engine, Failure> {
        let bundle = Verified::verified(self.manifest.clone(), self.files.clone())?;
        match device {
            "cpu" => Ok(Engine::on_cpu(&bundle).await?),
            "gpu" => {
                let options = GpuOptions { allow_software, ..GpuOptions::default() };
                Ok(Engine::on_gpu(&bundle, Gpu::request(options).await?).await?)
            }
            _ => Err(Error::argument("open", "device", "`cpu` or `gpu`", device).into()),
        }
    }

    fn file(&self, name: &str) -> Result<&BundleFile> {
        let file = self.manifest.files().find(|file| file.name == name);
        file.ok_or_else(|| Error::argument("bundle", "name", "a file of the manifest", name))
    }
}
