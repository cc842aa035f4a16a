//! Files that are wrong by accident or on purpose: each ends in an error that names file, field,
//! expected and found, and none panics, leaves its folder, or takes much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use safetensors::Dtype;
use tributary::files;
use tributary_core::Result;
use tributary_core::backend::cpu::Cpu;
use tributary_core::weights::{
    Adapter, Checkpoint, ConfigReader, MAX_CONFIG_BYTES, MAX_HEADER_BYTES, MAX_NAME_BYTES,
    MAX_TENSORS, Storage, Weights,
};
use tributary_tests::files::{assert_refused, f32_bytes, fixtures, safetensors, with_header};
use tributary_tests::folder::Folder;
use tributary_tests::uniform;

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn open(bytes: impl Into<bytes::Bytes>) -> Result<Checkpoint> {
    Checkpoint::from_bytes(FILE, bytes)
}

fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

#[test]
fn b1_broken_headers_are_refused() {
    let e = entry;
    let f = |shape: &str, offsets: &str| e("F32", shape, offsets);
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    let deep = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
    let huge = "18446744073709551615";
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("no JSON", "nonsense".into(), &["header"]),
        ("a list", "[]".into(), &["header"]),
        ("text after the end", "{}x".into(), &["header"]),
        ("deep", deep, &["header"]),
        ("twice", format!(r#"{{"a":{0},"a":{0}}}"#, f("[2]", "[0,8]")), &["`a` twice"]),
        ("metadata twice", r#"{"__metadata__":{},"__metadata__":{}}"#.into(), &["__metadata__"]),
        ("metadata key twice", r#"{"__metadata__":{"k":"1","k":"2"}}"#.into(), &["twice"]),
        ("metadata number", r#"{"__metadata__":{"k":1}}"#.into(), &["header", "string"]),
        ("long name", format!(r#"{{"{long}":{}}}"#, f("[2]", "[0,8]")), &["513 bytes", "512"]),
        ("dtype", format!(r#"{{"a":{}}}"#, e("F33", "[2]", "[0,8]")), &["F33"]),
        ("no dtype", r#"{"a":{"shape":[2],"data_offsets":[0,8]}}"#.into(), &["dtype"]),
        ("negative axis", format!(r#"{{"a":{}}}"#, f("[-2]", "[0,8]")), &["header"]),
        ("float axis", format!(r#"{{"a":{}}}"#, f("[2.5]", "[0,8]")), &["header"]),
        ("shape", format!(r#"{{"a":{}}}"#, f("[3]", "[0,8]")), &["`a`", "12 bytes", "[0, 8]"]),
        (
            "overflow",
            format!(r#"{{"a":{}}}"#, f(&format!("[{huge},{huge}]"), "[0,8]")),
            &["`a`", "counted"],
        ),
        (
            "many axes",
            format!(r#"{{"a":{}}}"#, f("[1,1,1,1,1,1,1,1,2]", "[0,8]")),
            &["9 axes", "at most 8"],
        ),
        ("half a byte", format!(r#"{{"a":{}}}"#, e("F4", "[3]", "[0,1]")), &["`a`", "whole bytes"]),
        ("reversed", format!(r#"{{"a":{}}}"#, f("[2]", "[8,0]")), &["`a`", "data_offsets"]),
        (
            "past the end",
            format!(r#"{{"a":{}}}"#, f("[4]", "[0,16]")),
            &["`a`", "8 data bytes", "[0, 16]"],
        ),
        ("far past the end", format!(r#"{{"a":{}}}"#, f("[2]", &format!("[0,{huge}]"))), &["`a`"]),
        ("gap", format!(r#"{{"a":{}}}"#, f("[1]", "[4,8]")), &["`a`", "from 0"]),
        (
            "overlap",
            format!(r#"{{"a":{},"b":{}}}"#, f("[2]", "[0,8]"), f("[1]", "[4,8]")),
            &["`b`", "from 8"],
        ),
        ("data left over", format!(r#"{{"a":{}}}"#, f("[1]", "[0,4]")), &["length", "8 bytes"]),
        ("no tensors but data", "{}".into(), &["length"]),
    ];
    for (case, header, words) in cases {
        let words = [&[FILE, "expected", "found"], words].concat();
        assert_refused(case, open(with_header(&header, &[0; 8])), &words);
    }
    for len in 0..8 {
        assert_refused("too short", open(vec![0; len]), &[FILE, "length", "at least 8"]);
    }
    let sized = |size: u64| [&size.to_le_bytes()[..], b"{}"].concat();
    assert_refused("header past the end", open(sized(3)), &["header", "3 bytes"]);
    assert_refused("huge header", open(sized(u64::MAX)), &["header bytes", "limit"]);
    assert_refused("header limit", open(sized(MAX_HEADER_BYTES + 1)), &["header bytes", "limit"]);
    assert!(open(sized(2)).unwrap().names().next().is_none());
}

#[test]
fn b1_too_many_tensors_are_refused_early() {
    let tensors: Vec<String> =
        (0..=MAX_TENSORS).map(|i| format!(r#""{i}":{}"#, entry("U8", "[0]", "[0,0]"))).collect();
    let header = format!("{{{}}}", tensors.join(","));
    assert_refused("one too many", open(with_header(&header, &[])), &["65536", FILE]);
    let header = format!("{{{}}}", tensors[1..].join(","));
    let file = bytes::Bytes::from(with_header(&header, &[]));
    let (checkpoint, peak) = measured(|| open(file.clone()));
    assert_eq!(checkpoint.unwrap().names().count(), MAX_TENSORS);
    assert!(peak <= 8 * file.as_ref().len(), "{peak} bytes for a header of {}", header.len());
}

#[test]
fn b1_quantised_tensors_must_be_what_their_metadata_says() {
    let scales = |cols| ("w.scales", Dtype::F16, [3, cols], vec![0; 6 * cols]);
    let values = |dtype, cols| ("w", dtype, [3, cols], vec![8; 3 * cols]);
    let cases = [
        ("q8 3x40", values(Dtype::I8, 40), Some(scales(2)), &[][..]),
        ("q4 3x40", values(Dtype::U8, 32), Some(scales(2)), &[]),
        ("q4 3x40", values(Dtype::U8, 40), Some(scales(2)), &["`w`", "U8 [3, 32]", "U8 [3, 40]"]),
        ("q8 3x40", values(Dtype::U8, 40), Some(scales(2)), &["`w`", "I8 [3, 40]", "U8"]),
        ("q8 3x41", values(Dtype::I8, 40), Some(scales(2)), &["`w`", "[3, 41]", "[3, 40]"]),
        ("q8 3x40", values(Dtype::I8, 40), Some(scales(1)), &["`w.scales`", "[3, 2]", "[3, 1]"]),
        ("q8 3x40", values(Dtype::I8, 40), None, &["`w.scales`", "no such tensor"]),
        ("q5 3x40", values(Dtype::I8, 40), Some(scales(2)), &["quantized:w", "`q5 3x40`"]),
        ("f16 3x40", values(Dtype::I8, 40), Some(scales(2)), &["quantized:w"]),
        ("q8 3", values(Dtype::I8, 40), Some(scales(2)), &["quantized:w"]),
        ("q8 99999999999999999999x2", values(Dtype::I8, 40), Some(scales(2)), &["quantized:w"]),
        ("q8 4294967295x4294967295", values(Dtype::I8, 40), Some(scales(2)), &["`w`"]),
    ];
    for (text, values, scales, words) in cases {
        let tensors: Vec<_> = std::iter::once(&values)
            .chain(&scales)
            .map(|(name, dtype, shape, bytes)| (*name, *dtype, &shape[..], bytes.clone()))
            .collect();
        let result = open(safetensors(&tensors, &[("quantized:w", text)]));
        match words {
            [] => assert_eq!(result.unwrap().values("w").unwrap().len(), 120, "{text}"),
            words => assert_refused(text, result, &[&[FILE, "expected", "found"], words].concat()),
        }
    }
}

#[test]
fn b2_strange_values_load_as_they_are() {
    let values = [f32::NAN, f32::INFINITY, 0.0, -0.0];
    let file = safetensors(&[("w", Dtype::F32, &[2, 2], f32_bytes(&values))], &[]);
    let loaded = open(file).unwrap().values("w").unwrap();
    assert_eq!(loaded.map_bits(), values.to_vec().map_bits());
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}

impl MapBits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

#[test]
fn b3_tensors_that_do_not_fit_are_named() {
    let file = safetensors(
        &[
            ("model.layers.3.mlp.up_proj.weight", Dtype::F32, &[4, 5], f32_bytes(&[0.0; 20])),
            ("model.norm.weight", Dtype::F32, &[4], f32_bytes(&[0.0; 4])),
            ("ids.weight", Dtype::I64, &[4, 5], vec![0; 160]),
            ("quants.weight", Dtype::I8, &[4, 5], vec![0; 20]),
            ("extra.weight", Dtype::F32, &[1], vec![0; 4]),
        ],
        &[],
    );
    let checkpoint = open(file).unwrap();
    let cpu = Cpu::default();
    let weights = Weights::new(&cpu, &checkpoint);
    let up = "model.layers.3.mlp.up_proj.weight";
    let matrix = |name, shape| weights.matrix(name, shape);
    assert_refused("wide", matrix(up, [4, 6]), &[FILE, up, "[4, 6]", "[4, 5]"]);
    assert_refused("turned", matrix(up, [5, 4]), &[FILE, up, "[5, 4]", "[4, 5]"]);
    assert_refused("int64", matrix("ids.weight", [4, 5]), &[FILE, "ids.weight", "I64", "f32"]);
    assert_refused("int8 alone", matrix("quants.weight", [4, 5]), &[FILE, "quants.weight", "I8"]);
    let missing = matrix("model.layers.3.mlp.up_prj.weight", [4, 5]);
    let hint = "did you mean `model.layers.3.mlp.up_proj.weight`";
    assert_refused("missing", missing, &[FILE, "up_prj", hint]);
    assert_refused("missing prefix", weights.vector("norm.weight", 4), &["`model.norm.weight`"]);
    assert_refused("short", weights.vector("model.norm.weight", 5), &[FILE, "[5]", "[4]"]);
    assert!(weights.unused().contains(&"extra.weight".to_owned()));
}

fn shard(names: &[&str]) -> Vec<u8> {
    let tensors: Vec<_> =
        names.iter().map(|n| (*n, Dtype::F32, &[2usize][..], f32_bytes(&uniform(3, 2)))).collect();
    safetensors(&tensors, &[])
}

#[test]
fn b4_an_index_names_files_of_its_folder_only() {
    let outside = Folder::new("bad-files-1");
    let target = outside.write("outside.safetensors", shard(&["a"]));
    let absolute = target.to_str().unwrap();
    let name = |file: &str| {
        format!(r#"{{"weight_map":{{"a":{}}}}}"#, serde_json::to_string(file).unwrap())
    };
    let bad_names = [
        "../outside.safetensors",
        absolute,
        "..\\x",
        "sub/x",
        "x\0y",
        "https://example.org/x",
        "",
        ".",
        "..",
        "C:x",
        "line\nbreak",
    ];
    for bad in bad_names {
        let folder = Folder::new("bad-files-2");
        folder.write(INDEX, name(bad));
        let result = files::open_checkpoint(folder.path());
        assert_refused(bad, result, &[INDEX, "weight_map `a`", "same folder"]);
    }
    let cases: [(&str, String, &[&str]); 10] = [
        ("missing shard", name("gone.safetensors"), &[INDEX, "gone.safetensors", "none"]),
        ("long name", name(&"n".repeat(300)), &["weight_map `a`"]),
        (
            "absent tensor",
            r#"{"weight_map":{"a":"1.safetensors","z":"1.safetensors"}}"#.into(),
            &["`z`", "1.safetensors"],
        ),
        (
            "tensor in two shards",
            r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#.into(),
            &["2.safetensors", "`a`"],
        ),
        (
            "twice in the map",
            r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}"#.into(),
            &["`a` twice"],
        ),
        ("no map", "{}".into(), &["weight_map"]),
        ("empty map", r#"{"weight_map":{}}"#.into(), &["weight_map", "none"]),
        ("map of numbers", r#"{"weight_map":{"a":1}}"#.into(), &["content"]),
        ("no JSON", "x".into(), &["content"]),
        ("a folder as shard", name("folder.safetensors"), &["regular file"]),
    ];
    for (case, json, words) in cases {
        let folder = Folder::new("bad-files-3");
        folder.write(INDEX, json);
        folder.write("1.safetensors", shard(&["a"]));
        folder.write("2.safetensors", shard(&["a", "b"]));
        std::fs::create_dir(folder.path().join("folder.safetensors")).unwrap();
        assert_refused(case, files::open_checkpoint(folder.path()), words);
    }
}

#[cfg(unix)]
#[test]
fn b4_links_stay_in_the_folder_or_in_the_hub_cache() {
    use std::os::unix::fs::symlink;
    let outside = Folder::new("bad-files-4");
    let target = outside.write("weights", shard(&["a"]));
    let index = r#"{"weight_map":{"a":"1.safetensors"}}"#;

    let folder = Folder::new("bad-files-5");
    folder.write(INDEX, index);
    symlink(&target, folder.path().join("1.safetensors")).unwrap();
    assert_refused("outside", files::open_checkpoint(folder.path()), &["1.safetensors", "leaves"]);

    let folder = Folder::new("bad-files-6");
    symlink(&target, folder.path().join(FILE)).unwrap();
    assert_refused("one file", files::open_checkpoint(folder.path()), &[FILE, "leaves"]);

    let folder = Folder::new("bad-files-7");
    folder.write(INDEX, index);
    folder.write("real", shard(&["a"]));
    symlink("real", folder.path().join("1.safetensors")).unwrap();
    assert!(files::open_checkpoint(folder.path()).is_ok(), "a link inside");

    let repository = Folder::new("bad-files-8");
    let snapshot = repository.path().join("snapshots/abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir(repository.path().join("blobs")).unwrap();
    repository.write("blobs/123", shard(&["a"]));
    symlink("../../blobs/123", snapshot.join(FILE)).unwrap();
    assert!(files::open_checkpoint(&snapshot).is_ok(), "the hub's cache");
}

#[test]
fn b5_configurations_are_read_with_ranges() {
    let read = |json: &str| ConfigReader::new("config.json", json);
    let usize = |json: &str| read(json)?.usize("hidden_size", 1..=65536);
    for bad in
        ["0", "-1", "65537", "1e99", "64.5", "\"64\"", "[64]", "true", "18446744073709551616"]
    {
        let json = format!(r#"{{"hidden_size": {bad}}}"#);
        let words = ["config.json", "hidden_size", "from 1 to 65536", "found"];
        assert_refused(bad, usize(&json), &words);
    }
    for absent in ["{}", r#"{"hidden_size": null}"#] {
        assert_refused(absent, usize(absent), &["config.json", "hidden_size", "found nothing"]);
    }
    assert_eq!(usize(r#"{"hidden_size": 64}"#).unwrap(), 64);
    let theta = |json: &str| read(json)?.f32_or("rope_theta", 1e4, 1.0..=1e9);
    for bad in ["0", "-1", "1e10", "1e300", "\"x\"", "{}"] {
        let json = format!(r#"{{"rope_theta": {bad}}}"#);
        assert_refused(bad, theta(&json), &["config.json", "rope_theta", "from 1 to", "found"]);
    }
    assert_eq!((theta("{}").unwrap(), theta(r#"{"rope_theta": 500000}"#).unwrap()), (1e4, 5e5));

    let config = read(
        r#"{"tie": 1, "act": 3, "text_config": {"layers": -3}, "list": [1, -1], "ids": 7, "wide": {"a":1,"b":1,"c":1,"d":1,"e":1}}"#,
    )
    .unwrap();
    assert_refused("bool", config.bool_or("tie", false), &["tie", "true or false", "1"]);
    assert_refused("text", config.str("act").map(drop), &["act", "a text", "3"]);
    let inner = config.object("text_config").unwrap().unwrap();
    assert_refused("nested", inner.usize("layers", 1..=9), &["text_config.layers", "-3"]);
    assert_refused("object", config.object("act").map(drop), &["act", "an object"]);
    assert_refused("list", config.usizes("list", 0..=9), &["list", "whole numbers", "[1,-1]"]);
    assert_refused("big", config.str("wide").map(drop), &["an object of 5 fields"]);
    assert_eq!(config.usizes("ids", 0..=9).unwrap(), [7]);

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bad in ["", "[]", "nul", "{", "{\"a\":1}x", &deep, &format!(r#"{{"a":{deep}}}"#)] {
        assert_refused("not an object", read(bad).map(drop), &["config.json", "a JSON object"]);
    }
    let big = " ".repeat(MAX_CONFIG_BYTES + 1);
    assert_refused("big", read(&big).map(drop), &["config.json", "bytes", "limit"]);
    let folder = Folder::new("bad-files-9");
    folder.write("config.json", big);
    assert_refused("big file", files::open_model(folder.path()), &["config.json", "limit"]);
    folder.write("config.json", b"\xff\xfe");
    assert_refused("UTF-8", files::open_model(folder.path()), &["config.json", "UTF-8"]);
    folder.write("config.json", "{}");
    assert_refused("no weights", files::open_model(folder.path()), &["weights", FILE, "neither"]);
}

/// Calls `check` with the file cut, and with each bit of one byte flipped, at every 1/64 of its
/// length and at every 1/64 of its first `head` bytes.
fn damaged(file: &[u8], head: usize, mut check: impl FnMut(&str, Vec<u8>)) {
    for (part, len) in [("file", file.len()), ("header", head.min(file.len()))] {
        for i in 0..64 {
            let at = len * i / 64;
            check(&format!("{part} cut at {at}"), file[..at].to_vec());
            for bit in 0..8 {
                let mut flipped = file.to_vec();
                flipped[at] ^= 1 << bit;
                check(&format!("{part} bit {bit} of {at}"), flipped);
            }
        }
    }
}

fn header_len(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

#[test]
fn b10_damaged_checkpoints_err_or_load() {
    let file = std::fs::read(fixtures().join("llama-gqa/model.safetensors")).unwrap();
    let head = header_len(&file);
    damaged(&file, head, |case, bytes| {
        let (result, peak) = measured(|| open(bytes));
        assert!(peak <= 8 * head + 4096, "{case}: {peak} bytes at once");
        let Ok(checkpoint) = result else { return };
        assert!(!case.contains("cut"), "{case} loads");
        for name in checkpoint.names() {
            // Whatever the values are now: an error or as many as the shape says.
            let Ok(values) = checkpoint.values(name) else { continue };
            let shape = &checkpoint.info(name).unwrap().shape;
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{case} {name}");
        }
    });
}

#[test]
fn b10_damaged_indices_err_or_load() {
    let folder = fixtures().join("qwen2-bf16-sharded");
    let index = std::fs::read(folder.join(INDEX)).unwrap();
    let names: Vec<String> =
        files::open_checkpoint(&folder).unwrap().names().map(str::to_owned).collect();
    damaged(&index, index.len(), |case, bytes| {
        let Ok(json) = String::from_utf8(bytes) else { return };
        let result = Checkpoint::from_index(INDEX, &json, |shard| {
            let path = folder.join(shard);
            assert_eq!(path.parent(), Some(&*folder), "{case}: {shard}");
            Ok(Box::new(files::map(&path)?) as Box<dyn Storage>)
        });
        if let Ok(checkpoint) = result {
            assert_eq!(checkpoint.names().collect::<Vec<_>>(), names, "{case}");
        }
    });
}

#[test]
fn b10_damaged_adapters_err_or_load() {
    let base = files::open_checkpoint(&fixtures().join("llama-gqa")).unwrap();
    let folder = fixtures().join("adapter-rslora");
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let file = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let load = |config: &str, file: Vec<u8>| {
        let tensors = Checkpoint::from_bytes("adapter_model.safetensors", file)?;
        Adapter::load(config, &tensors, &base)
    };
    damaged(&file, header_len(&file), |case, bytes| {
        if let Ok(adapter) = load(&config, bytes) {
            assert_eq!(adapter.modules().count(), 8, "{case}");
        }
    });
    damaged(config.as_bytes(), config.len(), |case, bytes| {
        let Ok(config) = String::from_utf8(bytes) else { return };
        if let Ok(adapter) = load(&config, file.clone()) {
            assert_eq!(adapter.modules().count(), 8, "{case}");
        }
    });
}

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes of each thread by themselves, since tests run beside each other.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size() as isize);
        PEAK.set(PEAK.get().max(LIVE.get()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as isize);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result of `work` and the most bytes that it held at once.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}
