//! Bundles: the same answers wherever the files come from, and no file that is not the measured one.

use bytes::Bytes;
use tributary::bundle::{self, Bundle, BundleText, write_bundle};
use tributary_core::ErrorKind;
use tributary_core::backend::cpu::Cpu;
use tributary_core::recommend::{BundleFile, BundleManifest, COMPONENT_FILES, Kind, Request};
use tributary_core::weights::NamedTensor;
use tributary_tests::folder::Folder;
use tributary_tests::tiny_sasrec::{catalogue, config, history, ids_of, save};

/// A bundle folder of a tiny model, with its recommender's answer to one request.
fn bundle(folder: &Folder) -> (BundleManifest, Vec<String>) {
    let config = config(6);
    let (h, i, n) = (config.hidden_size, config.intermediate_size, config.items.num_items);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let len: usize = shape.iter().product();
        let values: Vec<f32> =
            (0..len).map(|x| ((x * 37 + name.len() * 11) % 23) as f32 / 23.0 - 0.4).collect();
        tensors.push(NamedTensor::f32(name, shape, &values));
    };
    add("item_embeddings.weight".into(), &[n, h]);
    add("position_embeddings.weight".into(), &[config.items.max_seq_len, h]);
    let layer = "item_encoder.layer.0";
    for name in ["query", "key", "value", "dense"] {
        add(format!("{layer}.attention.{name}.weight"), &[h, h]);
        add(format!("{layer}.attention.{name}.bias"), &[h]);
    }
    for norm in [
        "LayerNorm".into(),
        format!("{layer}.attention.LayerNorm"),
        format!("{layer}.intermediate.LayerNorm"),
    ] {
        add(format!("{norm}.weight"), &[h]);
        add(format!("{norm}.bias"), &[h]);
    }
    add(format!("{layer}.intermediate.dense_1.weight"), &[i, h]);
    add(format!("{layer}.intermediate.dense_1.bias"), &[i]);
    add(format!("{layer}.intermediate.dense_2.weight"), &[h, i]);
    add(format!("{layer}.intermediate.dense_2.bias"), &[h]);
    folder.write("config.json", config.to_json());
    folder.write("model.safetensors", save(&tensors));
    let text = BundleText {
        recommender: "sasrec".into(),
        licence: "CC0".into(),
        provenance: "a test".into(),
        quality: [("hit_rate@10".to_string(), 0.5.into())].into(),
    };
    let manifest = write_bundle(folder.path(), folder.path(), &catalogue(6), text).unwrap();
    (manifest, answers(&bundle::read(folder.path()).unwrap()))
}

fn answers(bundle: &Bundle) -> Vec<String> {
    let model = bundle.sequence_recommender(&Cpu::new()).unwrap();
    ids_of(&model, Request { history: history(&["i4", "i2"]), ..Request::default() })
}

#[test]
fn a_manifest_over_its_limit_is_not_read() {
    let folder = Folder::new("bundle-large-manifest");
    bundle(&folder);
    let manifest = std::fs::File::options().write(true).open(folder.path().join("bundle.json"));
    manifest.unwrap().set_len(1 << 40).unwrap();
    let error = bundle::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("bundle.json") && error.contains("at most 1048576 bytes"), "{error}");
}

#[test]
fn a_bundle_answers_the_same_from_a_folder_and_from_the_program() {
    let folder = Folder::new("bundle");
    let (manifest, expected) = bundle(&folder);
    assert_eq!(expected.len(), 4);
    let read = bundle::open(folder.path()).unwrap();
    assert_eq!(read.manifest, manifest);
    assert_eq!(read.manifest.quality["hit_rate@10"], 0.5);
    let file = |name: &str| -> &'static [u8] {
        Box::leak(std::fs::read(folder.path().join(name)).unwrap().into_boxed_slice())
    };
    let names = ["bundle.json", "config.json", "model.safetensors", "catalogue.jsonl"];
    let embedded = Bundle::embedded(&names.map(|name| (name, file(name)))).unwrap();
    assert_eq!(answers(&embedded), expected);
    assert!(Bundle::embedded(&[("bundle.json", file("bundle.json"))]).is_err());
    // Without its manifest it is a model folder.
    std::fs::remove_file(folder.path().join("bundle.json")).unwrap();
    assert_eq!(answers(&bundle::open(folder.path()).unwrap()), expected);
}

#[test]
fn a_changed_byte_is_found_and_both_hashes_are_named() {
    let folder = Folder::new("tampered");
    let (manifest, _) = bundle(&folder);
    for component in &manifest.components {
        let BundleFile { name, sha256, .. } = &component.files[0];
        let path = folder.path().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let error = bundle::read(folder.path()).unwrap_err().to_string();
        let found = BundleFile::new(name, &bad).unwrap().sha256;
        assert!(error.contains(name) && error.contains(sha256), "{error}");
        assert!(error.contains(&found), "{error}");
        std::fs::write(&path, &good[1..]).unwrap();
        let error = bundle::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("bytes"), "{error}");
        std::fs::write(&path, &good).unwrap();
    }
    assert!(bundle::read(folder.path()).is_ok());
}

#[test]
fn a_manifest_cannot_name_what_is_not_in_its_folder() {
    let folder = Folder::new("manifest");
    let (manifest, _) = bundle(&folder);
    let parse = |manifest: &BundleManifest| {
        BundleManifest::parse("bundle.json", manifest.to_json().unwrap().as_bytes())
    };
    assert_eq!(parse(&manifest).unwrap(), manifest);
    for name in ["../config.json", "/etc/passwd", "a\\b", "", ".", "..", "a/b", "c:d", "a\0b"] {
        let mut bad = manifest.clone();
        bad.components[0].files[0].name = name.into();
        let error = parse(&bad).unwrap_err().to_string();
        assert!(error.contains("files.name"), "{name:?}: {error}");
    }
    let mut bad = manifest.clone();
    bad.components[0].files[0].sha256 = "12".into();
    assert!(parse(&bad).unwrap_err().to_string().contains("64"));
    let mut bad = manifest.clone();
    bad.components.push(manifest.components[0].clone());
    assert!(parse(&bad).unwrap_err().to_string().contains("each file once"));
    let newer =
        manifest.to_json().unwrap().replace("\"format_version\": 1", "\"format_version\": 2");
    let error = BundleManifest::parse("bundle.json", newer.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedModel);
    assert!(manifest.component("tower").unwrap_err().to_string().contains("config, model"));
    assert!(BundleManifest::parse("bundle.json", &vec![b' '; 2 << 20]).is_err());
    #[cfg(unix)]
    {
        let path = folder.path().join("config.json");
        std::fs::rename(&path, folder.path().join("elsewhere.json")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere.json"), &path).unwrap();
        let error = bundle::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("a plain file"), "{error}");
    }
}

/// Products of 8 bits swallow a NaN: it is refused where it is read.
#[test]
fn a_weight_that_is_not_finite_is_refused_by_name() {
    let good = tributary::bundle::demo().unwrap();
    for (component, tensor) in [
        ("model", "model.layers.0.input_layernorm.weight"),
        ("fusion", "item_adaptor.up.bias"),
        ("graph", "behaviour_embedding.weight"),
    ] {
        let files: Vec<_> = COMPONENT_FILES
            .iter()
            .filter_map(|(name, ..)| {
                let (file, bytes) = good.single(name).ok()?;
                let bytes = if *name == component { spoiled(&bytes, tensor) } else { bytes };
                Some((*name, file, bytes))
            })
            .collect();
        let bad = Bundle::of_files(files).unwrap();
        let error = bad.tmf_recommender(&Cpu::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelInvalid);
        assert!(error.to_string().contains(tensor), "{error}");
    }
}

/// Each with one component replaced: the error names what is wrong with the bundle, as the bundle's fault.
#[test]
fn parts_that_do_not_fit_are_the_bundles_fault() {
    let good = tributary::bundle::demo().unwrap();
    let with = |component: &str, change: &dyn Fn(&str) -> String| {
        let files = COMPONENT_FILES.iter().filter_map(|(name, ..)| {
            let (file, bytes) = good.single(name).ok()?;
            let text = (*name == component).then(|| change(std::str::from_utf8(&bytes).unwrap()));
            Some((*name, file, text.map_or(bytes, Bytes::from)))
        });
        Bundle::of_files(files.collect()).unwrap()
    };
    let shorter =
        with("catalogue", &|text| text.lines().skip(1).map(|l| format!("{l}\n")).collect());
    let narrow = with("config", &|text| {
        let mut config: serde_json::Value = serde_json::from_str(text).unwrap();
        config["max_position_embeddings"] = 5.into();
        config.to_string()
    });
    let files = COMPONENT_FILES.iter().filter(|(name, ..)| *name != "image");
    let blind = files.filter_map(|(name, ..)| {
        let (file, bytes) = good.single(name).ok()?;
        Some((*name, file, bytes))
    });
    let blind = blind.collect();
    let blind = Bundle::of_files(blind).unwrap();
    for (bad, expected) in
        [(shorter, "embeddings"), (narrow, "max_prompt_tokens"), (blind, "component image")]
    {
        let error = Kind::load(&bad, &Cpu::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ModelInvalid, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (component, file) in
        [("encoder_config", "encoder.json"), ("encoder_tokenizer", "encoder_tokenizer.json")]
    {
        let error = with(component, &|_| String::new()).encoder(&Cpu::new()).unwrap_err();
        assert_eq!(error.place().unwrap().0, file, "{error}");
    }
}

/// A safetensors file with a NaN in `tensor`, of f32.
fn spoiled(file: &[u8], tensor: &str) -> Bytes {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 8 + length;
    let mut bytes = file.to_vec();
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    bytes.into()
}
