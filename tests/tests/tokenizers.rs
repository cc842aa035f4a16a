//! Tokenizers against published vectors, and files that must be refused.

use serde_json::{Value, json};
use tributary_core::tokenizer::Tokenizer;
use tributary_tests::shared;
use tributary_tests::tiny_tokenizer::words;

#[test]
fn the_117_published_vectors_are_equal() {
    let Some(folder) = shared().map(|shared| shared.join("weights/tokenizers")) else { return };
    let vectors = std::fs::read_to_string(folder.join("tests/vectors.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&vectors).unwrap();
    let files = [
        ("llama2", "Xenova/llama-tokenizer", "llama2/tokenizer.json", 37),
        ("gpt2", "Xenova/gpt2", "gpt2/tokenizer.json", 26),
        ("bert", "Xenova/bert-base-uncased", "bert-minilm/all-minilm-l6-v2-tokenizer.json", 29),
        ("clip", "Xenova/clip-vit-base-patch16", "clip/tokenizer.derived.json", 25),
    ];
    let mut all = 0;
    for (name, model, file, count) in files {
        let tokenizer =
            Tokenizer::from_bytes(file, &std::fs::read(folder.join(file)).unwrap()).unwrap();
        let mut found = 0;
        for vector in vectors.iter().filter(|v| v["tokenizer"] == name && v["model"] == model) {
            let text = vector["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(vector["ids"].clone()).unwrap();
            let case = &vector["case"];
            let mut found_ids = tokenizer.encode(text, true).unwrap();
            if name == "clip" {
                // This file lacks the post-processor that transformers adds when it loads one.
                let id = |token| tokenizer.token_id(token).unwrap();
                found_ids.insert(0, id("<|startoftext|>"));
                found_ids.push(id("<|endoftext|>"));
            }
            assert_eq!(found_ids, ids, "{name} {case}: {text:?}");
            found += 1;
        }
        assert_eq!(found, count, "vectors of {name}");
        all += found;
    }
    assert_eq!(all, 117);
}

fn good() -> Value {
    json!({
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "ab": 2},
            "merges": [["a", "b"]],
        },
        "added_tokens": [],
    })
}

fn load(file: &Value) -> tributary_core::Result<Tokenizer> {
    Tokenizer::from_bytes("tokenizer.json", file.to_string().as_bytes())
}

#[test]
fn a_small_file_loads_and_round_trips() {
    let tokenizer = load(&good()).unwrap();
    assert_eq!(tokenizer.encode("ab", false).unwrap(), [2]);
    assert_eq!(tokenizer.decode(&[2, 0], false).unwrap().replace(' ', ""), "aba");
    assert!(tokenizer.decode(&[9], false).is_err(), "an id outside the vocabulary");
    assert!(tokenizer.check_vocab_size(3).is_ok());
    let error = tokenizer.check_vocab_size(2).unwrap_err().to_string();
    assert!(error.contains("`ab`") && error.contains("vocab_size 2"), "{error}");
    assert_eq!(tokenizer.encode("", true).unwrap(), [0u32; 0]);
    assert!(tokenizer.encode(&"a".repeat(17 << 20), true).is_err(), "a text over the limit");
}

/// B6: each malformation is an error that names its field.
fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
}

#[test]
fn malformed_files_name_their_field() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change)] = &[
        ("model", |f| f["model"] = Value::Null),
        ("model.type", |f| f["model"]["type"] = "Telepathy".into()),
        ("model.vocab", |f| f["model"]["vocab"] = json!({})),
        ("model.vocab", |f| f["model"]["vocab"] = json!([1, 2])),
        ("model.vocab", |f| f["model"]["vocab"]["a"] = (-1).into()),
        ("model.vocab", |f| f["model"]["vocab"]["a"] = 4_000_000_000_u64.into()),
        ("model.merges[0]", |f| f["model"]["merges"] = json!([["a", "c"]])),
        ("model.merges[0]", |f| f["model"]["merges"] = json!(["a"])),
        ("model.merges[0]", |f| f["model"]["merges"] = json!([["b", "a"]])),
        ("model.merges", |f| f["model"]["merges"] = 3.into()),
        ("model.merges[0]", |f| {
            f["model"]["continuing_subword_prefix"] = "####".into();
        }),
        ("added_tokens[0].content", |f| f["added_tokens"] = json!([{"id": 3, "content": ""}])),
        ("added_tokens[0].id", |f| f["added_tokens"] = json!([{"content": "x"}])),
        ("added_tokens", |f| f["added_tokens"] = "none".into()),
        ("normalizer", |f| f["normalizer"] = 7.into()),
        ("normalizer", |f| f["normalizer"] = json!({"lower": true})),
        ("pre_tokenizer.pattern", |f| {
            f["pre_tokenizer"] = json!({
                "type": "Split", "pattern": {"Regex": "a".repeat(10_000)},
                "behavior": "Isolated", "invert": false,
            });
        }),
        ("post_processor.single", |f| {
            f["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
                "pair": [], "special_tokens": {},
            });
        }),
        ("post_processor.single", |f| {
            f["post_processor"] = json!({
                "type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}],
                "pair": [], "special_tokens": {},
            });
        }),
        ("normalizer.pattern", |f| f["normalizer"] = replace("", "y")),
        ("normalizer.normalizers[0].pattern", |f| {
            let part = json!({"type": "Replace", "pattern": {"Regex": "x?"}, "content": "y"});
            f["normalizer"] = json!({"type": "Sequence", "normalizers": [part]});
        }),
        ("normalizer.pattern", |f| {
            let pattern = json!({"Regex": "a(?=b)"});
            f["normalizer"] = json!({"type": "Replace", "pattern": pattern, "content": "y"});
        }),
        ("pre_tokenizer.length", |f| {
            f["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0});
        }),
        ("normalizer.type", |f| {
            let map = "AAAAAAAAAAAAAAAAAAAA";
            f["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": map});
        }),
        ("normalizer.content", |f| f["normalizer"] = replace("e", &"e".repeat(100))),
        ("normalizer.normalizers", |f| {
            let parts = vec![replace("e", "eeee"); 6];
            f["normalizer"] = json!({"type": "Sequence", "normalizers": parts});
        }),
        ("normalizer.prepend", |f| {
            f["normalizer"] = json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)});
        }),
        ("model.dropout", |f| f["model"]["dropout"] = json!(0.9)),
        ("model.vocab", |f| {
            for id in f["model"]["vocab"].as_object_mut().unwrap().values_mut() {
                *id = json!(0);
            }
        }),
        ("tokenizer", |f| f["decoder"] = json!({"type": "Telepathy"})),
        ("model.vocab", |f| f["model"] = json!({"type": "Unigram", "vocab": []})),
        ("model.vocab[0]", |f| f["model"] = json!({"type": "Unigram", "vocab": [["a"]]})),
        ("model.unk_id", |f| {
            f["model"] = json!({"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 5});
        }),
        ("model.unk_token", |f| {
            f["model"] = json!({
                "type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]",
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            });
        }),
    ];
    for (field, change) in cases {
        let mut file = good();
        change(&mut file);
        let error = load(&file).expect_err(field).to_string();
        assert!(
            error.contains("tokenizer.json") && error.contains(field),
            "`{error}` should name tokenizer.json and {field}"
        );
    }
    for bytes in [&b""[..], b"{", b"[]", b"\xff\xfe", b"{\"model\": \"\xc3\"}"] {
        assert!(Tokenizer::from_bytes("tokenizer.json", bytes).is_err(), "{bytes:?}");
    }
}

/// Padding and truncation inside a file would change prompts without a word, and a padding to
/// multiples of 0 divides by zero.
#[test]
fn padding_and_truncation_of_the_file_are_ignored() {
    let mut file = good();
    file["truncation"] = json!({
        "direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0,
    });
    file["padding"] = json!({
        "strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": 0,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
    });
    let tokenizer = load(&file).unwrap();
    assert_eq!(tokenizer.encode("abab", true).unwrap(), [2, 2]);
}

#[test]
fn special_tokens_that_are_words_of_the_vocabulary_are_left_out() {
    let tokenizer = words(&["red", "tent"]);
    assert_eq!(tokenizer.encode("red [SEP] tent", false).unwrap(), [2, 1, 3]);
    assert_eq!(tokenizer.encode_content("red [SEP] tent").unwrap(), [2, 3]);
    assert_eq!(tokenizer.encode_content("red sky").unwrap(), [2, 0], "unknown stays unknown");
    assert_eq!(tokenizer.encode_within(" red", true).unwrap(), [2]);
}

#[test]
fn real_tokenizers_keep_content_apart_and_read_it_alike() {
    let Some(folder) = shared().map(|shared| shared.join("weights/tokenizers")) else { return };
    for (file, specials) in [
        ("llama2/tokenizer.json", ["<s>", "</s>"]),
        ("gpt2/tokenizer.json", ["<|endoftext|>", "<|endoftext|>"]),
        ("bert-minilm/all-minilm-l6-v2-tokenizer.json", ["[CLS]", "[SEP]"]),
        ("smollm2/tokenizer.json", ["<|im_start|>", "<|endoftext|>"]),
    ] {
        let tokenizer =
            Tokenizer::from_bytes(file, &std::fs::read(folder.join(file)).unwrap()).unwrap();
        for special in specials {
            let id = tokenizer.token_id(special).unwrap();
            let text = format!("a red{special} tent {special}");
            assert!(tokenizer.encode(&text, false).unwrap().contains(&id), "{file} {special}");
            assert!(!tokenizer.encode_content(&text).unwrap().contains(&id), "{file} {special}");
            assert!(!tokenizer.encode_within(&text, true).unwrap().contains(&id), "{file}");
        }
        for text in ["A red tent, 2 m", " naïve  café 北京 🏕", "x", "", " "] {
            let (content, plain) = (tokenizer.encode_content(text), tokenizer.encode(text, false));
            assert_eq!(content.unwrap(), plain.unwrap(), "{file} {text:?}");
        }
        // A piece behind a word is what the whole text holds there.
        let whole = tokenizer.encode("The red tent", false).unwrap();
        let first = tokenizer.encode("The", false).unwrap();
        let behind = tokenizer.encode_within(" red tent", true).unwrap();
        assert_eq!([first, behind].concat(), whole, "{file}");
    }
}
