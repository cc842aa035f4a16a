//! Which modules an adapter belongs to: `target_modules`, `exclude_modules`, `layers_to_transform`
//! as `peft.tuners.tuners_utils.check_target_module_exists` reads them.

use std::collections::BTreeSet;
use std::fmt;

use regex::Regex;

use super::refusal::{CONFIG_FILE, adapter_error, short};
use crate::error::Result;

/// Most bytes of one regular expression in an adapter's configuration.
pub const MAX_PATTERN_BYTES: usize = 4096;
/// Most bytes of a regular expression once compiled; one is in memory at a time.
pub const MAX_PATTERN_PROGRAM_BYTES: usize = 1 << 18;

/// `target_modules` and what narrows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    pub target: Names,
    pub exclude: Option<Names>,
    /// Layer numbers, and the names that stand before a layer's number (any when empty).
    pub layers: Option<(Vec<usize>, Vec<String>)>,
}

/// A list of names or one regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Equal to one, or ending with a dot and one.
    List(Vec<String>),
    /// Matching as a whole.
    Pattern(String),
}

impl Names {
    /// For each module, whether this names it. `key` is the configuration's, for messages.
    fn matches(&self, key: &str, modules: &[&str]) -> Result<Vec<bool>> {
        Ok(match self {
            Self::List(names) => {
                modules.iter().map(|module| names.iter().any(|n| named(module, n))).collect()
            }
            // PEFT's word for every linear layer but the language head.
            Self::Pattern(word) if word.eq_ignore_ascii_case("all-linear") => modules
                .iter()
                .map(|module| {
                    let last = module.rsplit('.').next().unwrap_or(module);
                    last != "lm_head" && !last.contains("embed")
                })
                .collect(),
            Self::Pattern(pattern) => {
                let pattern = compile(key, pattern, |p| format!(r"\A(?:{p})\z"))?;
                modules.iter().map(|module| pattern.is_match(module)).collect()
            }
        })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(names) if names.len() > 8 => write!(f, "a list of {} names", names.len()),
            Self::List(names) => write!(f, "{names:?}"),
            Self::Pattern(pattern) => write!(f, "`{}`", short(pattern)),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

/// Equal to `name`, or ending with a dot and `name`.
fn named(module: &str, name: &str) -> bool {
    match module.strip_suffix(name) {
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}

impl Targets {
    /// The modules, of these, that the adapter belongs to.
    pub fn hits(&self, modules: &[&str]) -> Result<BTreeSet<String>> {
        let mut hits = self.target.matches("target_modules", modules)?;
        if let Some(exclude) = &self.exclude {
            let excluded = exclude.matches("exclude_modules", modules)?;
            hits.iter_mut().zip(excluded).for_each(|(hit, excluded)| *hit &= !excluded);
        }
        if let (Some((layers, before)), Names::List(names)) = (&self.layers, &self.target) {
            let numbers = layer_numbers(before, modules)?;
            for ((hit, module), number) in hits.iter_mut().zip(modules).zip(numbers) {
                // A module named in full is hit whatever its layer.
                *hit &= names.iter().any(|name| name == module)
                    || number.is_some_and(|number| layers.contains(&number));
            }
        }
        let hits = modules.iter().zip(hits).filter(|(_, hit)| *hit);
        Ok(hits.map(|(module, _)| (*module).to_owned()).collect())
    }
}

/// The layer of each module: the first number that stands between dots, after a name of `before`
/// where there are any.
fn layer_numbers(before: &[String], modules: &[&str]) -> Result<Vec<Option<usize>>> {
    let key = "layers_pattern";
    let mut numbers = vec![None; modules.len()];
    let any = [r"[^.]*".to_owned()];
    let patterns: &[String] = if before.is_empty() { &any } else { before };
    for pattern in patterns {
        // PEFT's own expressions: without `layers_pattern` a name must precede the numbered one.
        let pattern = compile(key, pattern, |p| match before.is_empty() {
            true => format!(r"\A.*?\.{p}\.(?P<layer>[0-9]+)\."),
            false => format!(r"\A(?:.*?\.)?(?:{p})\.(?P<layer>[0-9]+)\."),
        })?;
        for (number, module) in numbers.iter_mut().zip(modules) {
            let found = || pattern.captures(module)?.name("layer")?.as_str().parse().ok();
            *number = number.or_else(found);
        }
    }
    Ok(numbers)
}

/// `pattern` inside `frame`, by a matcher that is linear in the text. `Err` for syntax that it
/// lacks (look-around, back-references) and for patterns over the limits.
pub(super) fn compile(key: &str, pattern: &str, frame: impl Fn(&str) -> String) -> Result<Regex> {
    let refused = |found: String| {
        let expected = format!(
            "a regular expression without look-around and back-references, \
             at most {MAX_PATTERN_BYTES} bytes"
        );
        adapter_error(CONFIG_FILE, key, expected, found)
    };
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(refused(format!("one of {} bytes", pattern.len())));
    }
    // Alone first: `a)|(b` must not become valid by the frame around it.
    let build = |text: &str| {
        regex::RegexBuilder::new(text)
            .size_limit(MAX_PATTERN_PROGRAM_BYTES)
            .dfa_size_limit(MAX_PATTERN_PROGRAM_BYTES)
            .nest_limit(64)
            .build()
    };
    build(pattern).and_then(|_| build(&frame(pattern))).map_err(|e| {
        // The last line says what is wrong; those before it draw the pattern.
        let reason = e.to_string();
        let reason = reason.lines().last().unwrap_or_default().to_owned();
        refused(format!("`{}`: {reason}", short(pattern)))
    })
}
