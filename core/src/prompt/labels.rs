//! Answers of one token: what a prompt ends with, and which token each answer is behind it.

use crate::error::{Error, Result};
use crate::models::llama::TokenId;
use crate::tokenizer::Tokenizer;

/// The tokens of `closing` that no answer behind it changes, and the first token of each answer behind
/// them: a tokenizer may join the last character of a prompt with its answer, and writes a word
/// otherwise at the beginning of a text, of a word and of a line.
///
/// # Errors
/// Two answers that begin with one token.
pub(super) fn labels<A: AsRef<str>>(
    tokenizer: &Tokenizer,
    closing: &str,
    answers: &[A],
) -> Result<(Vec<TokenId>, Vec<TokenId>)> {
    let behind = |answer: &A| {
        let text = format!("{closing}{}", answer.as_ref());
        tokenizer.encode_within(&text, false)
    };
    let encoded: Vec<Vec<TokenId>> = answers.iter().map(behind).collect::<Result<_>>()?;
    let mut common = tokenizer.encode_within(closing, false)?;
    for tokens in &encoded {
        let same = common.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    let first = |tokens: &Vec<TokenId>| tokens.get(common.len()).copied();
    let labels: Vec<TokenId> = encoded.iter().filter_map(first).collect();
    distinct(&labels, answers)?;
    Ok((common, labels))
}

/// The first token of each answer by itself.
///
/// # Errors
/// As for [`labels`].
pub(super) fn alone<A: AsRef<str>>(tokenizer: &Tokenizer, answers: &[A]) -> Result<Vec<TokenId>> {
    let mut labels = Vec::with_capacity(answers.len());
    for answer in answers {
        labels.extend(tokenizer.encode(answer.as_ref(), false)?.first());
    }
    distinct(&labels, answers)?;
    Ok(labels)
}

fn distinct<A: AsRef<str>>(labels: &[TokenId], answers: &[A]) -> Result<()> {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() == answers.len() {
        return Ok(());
    }
    let names: Vec<_> = answers.iter().map(AsRef::as_ref).collect();
    let expected = format!("a token for each of {}", names.join(", "));
    let found = format!("{} different tokens: {labels:?}", sorted.len());
    Err(Error::argument("prompt", "tokenizer", expected, found))
}
