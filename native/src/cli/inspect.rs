//! `inspect` and `devices`.

use std::path::Path;

use serde_json::{Value, json};
use tributary_core::Result;
use tributary_core::backend::Backend;
use tributary_core::backend::cpu::{Cpu, Level};
use tributary_core::recommend::BUNDLE_FILE;

use super::Report;
use super::arguments::InspectArguments;
use crate::bundle;
use crate::files;

pub(super) fn inspect(arguments: &InspectArguments) -> Result<Report> {
    let path = &arguments.path;
    let (mut json, mut text) = (json!({}), String::new());
    if path.join(BUNDLE_FILE).is_file() {
        let bundle = bundle::read(path)?;
        let manifest = bundle.manifest.to_json()?;
        text += &format!("bundle, every file verified:\n{manifest}\n");
        json["bundle"] = serde_json::from_str(&manifest).unwrap_or_default();
    }
    if let Some(config) = config(path)? {
        text += &format!("config.json:\n{config}\n");
        json["config"] = serde_json::from_str(&config).unwrap_or_default();
    }
    let checkpoint = files::open_checkpoint(path)?;
    let mut tensors = Vec::new();
    let mut values = 0u64;
    text += &format!("\n{:<60} {:>8}  shape\n", "tensor", "format");
    for name in checkpoint.names() {
        let Some(info) = checkpoint.info(name) else { continue };
        let coding = info.coding.to_string();
        text += &format!("{name:<60} {coding:>8}  {:?}\n", info.shape);
        values += info.shape.iter().product::<usize>() as u64;
        tensors.push(json!({
            "name": name, "format": coding, "shape": info.shape, "bytes": info.bytes,
        }));
    }
    let bytes = checkpoint.bytes();
    text += &format!("\n{} tensors, {values} values, {bytes} bytes\n", tensors.len());
    json["tensors"] = tensors.into();
    json["values"] = values.into();
    json["bytes"] = bytes.into();
    Ok(Report { json, text })
}

fn config(path: &Path) -> Result<Option<String>> {
    if !path.join("config.json").is_file() {
        return Ok(None);
    }
    files::open_model(path).map(|model| Some(model.config))
}

pub(super) fn devices() -> Result<Report> {
    let info = Cpu::new().info();
    let levels: Vec<String> = Level::available().iter().map(ToString::to_string).collect();
    let mut text = format!("cpu           {} (has {})\n", info.adapter, levels.join(", "));
    #[cfg(feature = "gpu")]
    let gpus = gpus(&mut text);
    #[cfg(not(feature = "gpu"))]
    let gpus: Vec<Value> = Vec::new();
    if gpus.is_empty() {
        text += "gpu           none\n";
    }
    text += if cfg!(feature = "train") {
        "burn          CPU (burn-flex), for training\n"
    } else {
        "burn          not in this build\n"
    };
    let json = json!({
        "cpu": {"adapter": info.adapter, "levels": levels},
        "gpus": gpus,
        "burn": cfg!(feature = "train"),
    });
    Ok(Report { json, text })
}

/// All adapters, each with its line of `text`.
#[cfg(feature = "gpu")]
fn gpus(text: &mut String) -> Vec<Value> {
    let mut gpus = Vec::new();
    for adapter in pollster::block_on(tributary_core::backend::gpu::adapters()) {
        let software = adapter.is_software();
        let note = if software { ", software: used only with --device gpu:software" } else { "" };
        *text += &format!(
            "gpu           {} ({}, {}, {}{note})\n              features {:?}, bindings up to {} MiB\n",
            adapter.name,
            adapter.kind,
            adapter.api,
            adapter.driver,
            adapter.features,
            adapter.max_binding_bytes >> 20,
        );
        gpus.push(json!({
            "name": adapter.name,
            "kind": adapter.kind,
            "api": adapter.api,
            "driver": adapter.driver,
            "features": format!("{:?}", adapter.features),
            "max_binding_bytes": adapter.max_binding_bytes,
            "software": software,
        }));
    }
    gpus
}
