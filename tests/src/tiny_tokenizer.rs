//! Tokenizers so small that tests can say what they must give.

use serde_json::{Map, Value, json};
use tributary_core::tokenizer::Tokenizer;

/// Special tokens of [`bytes`], by id.
pub const SPECIAL: [&str; 4] = ["<s>", "</s>", "<unk>", "<|soft|>"];
/// Ids of [`bytes`]: the special tokens, 256 bytes, two merged words.
pub const VOCABULARY: usize = 4 + 256 + 4;

/// Byte-level BPE: every byte is a token, and a few merges.
pub fn bytes() -> Tokenizer {
    // GPT-2's printable stand-ins of the bytes.
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    let stand_in = |byte: u32| {
        let code = match printable(byte) {
            true => byte,
            false => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).expect("a character").to_string()
    };
    let alphabet: Vec<String> = (0..256).map(stand_in).collect();
    let words = SPECIAL.map(str::to_owned).into_iter().chain(alphabet);
    let words = words.chain(["re", "red", "Ġb", "Ġre"].map(str::to_owned));
    let vocab: Map<String, Value> = words.zip(0..).map(|(w, id)| (w, json!(id))).collect();
    let special = SPECIAL.into_iter().zip(0..).map(|(content, id)| {
        json!({
            "id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    load(&json!({
        "added_tokens": special.collect::<Vec<_>>(),
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [["r", "e"], ["re", "d"], ["Ġ", "b"], ["Ġ", "re"]],
        },
    }))
}

/// Whole words between blanks; its special tokens are words of the vocabulary, too.
pub fn words(known: &[&str]) -> Tokenizer {
    let all = ["[UNK]", "[SEP]"].into_iter().chain(known.iter().copied());
    let vocab: Map<String, Value> = all.zip(0..).map(|(w, id)| (w.to_owned(), json!(id))).collect();
    let special = ["[UNK]", "[SEP]"].into_iter().zip(0..).map(|(content, id)| {
        json!({
            "id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    });
    load(&json!({
        "added_tokens": special.collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    }))
}

fn load(file: &Value) -> Tokenizer {
    Tokenizer::from_bytes("tokenizer.json", file.to_string().as_bytes()).expect("a tiny tokenizer")
}
