//! No import goes in a circle: of the modules that lie side by side, some can be read first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module's place from the crate's root.
type Module = Vec<String>;

/// The modules of a folder of sources, each with its text, comments left out.
fn modules(folder: &Path, place: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = [place.as_slice(), &[name.to_owned()]].concat();
        if path.is_dir() {
            modules(&path, &module, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") && name != "main" {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().map(|line| line.split("//").next().unwrap());
            let module = if name == "lib" { place.clone() } else { module };
            found.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The paths at the beginning of `text`, after `prefix`, and what follows them: `a::{b, c::d}` is
/// `a::b` and `a::c::d`.
fn paths<'a>(text: &'a str, prefix: &Module, found: &mut Vec<Module>) -> &'a str {
    let mut rest = text.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group;
        while !rest.is_empty() && !rest.starts_with('}') {
            rest = paths(rest, prefix, found).trim_start_matches(|c| c != ',' && c != '}');
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let path = [prefix.as_slice(), &[rest[..end].to_owned()]].concat();
    match rest[end..].strip_prefix("::") {
        Some(further) => paths(further, &path, found),
        None => {
            found.push(path);
            &rest[end..]
        }
    }
}

/// The modules that `text`, which is `module`, names by `crate::` or `super::`.
fn used(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut written = Vec::new();
    for word in ["crate::", "super::"] {
        for (at, _) in text.match_indices(word) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if !before.is_alphanumeric() && !matches!(before, '_' | ':') {
                paths(&text[at..], &Module::new(), &mut written);
            }
        }
    }
    let place = |path: Module| {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let from = if ups > 0 { &module[..module.len() - ups] } else { &[][..] };
        let whole = [from, &path[ups.max(1)..]].concat();
        (0..=whole.len()).rev().map(|n| whole[..n].to_vec()).find(|part| all.contains_key(part))
    };
    written.into_iter().filter_map(place).collect()
}

/// Those of `uses` that are left when all that use none of the others have gone, again and again.
fn circle(mut uses: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.values_mut().for_each(|used| used.retain(|other| left.contains(other)));
        uses.retain(|_, used| !used.is_empty());
        if uses.len() == left.len() {
            return uses;
        }
    }
}

#[test]
fn no_import_goes_in_a_circle() {
    for sources in ["core/src", "native/src", "wasm/src"] {
        let mut all = BTreeMap::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(sources);
        modules(&root, &Module::new(), &mut all);
        // By the module around them: which of its children use which.
        let mut siblings: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        let mut count = 0;
        for (module, text) in &all {
            for other in used(module, text, &all) {
                let common = module.iter().zip(&other).take_while(|(a, b)| a == b).count();
                if let (Some(a), Some(b)) = (module.get(common), other.get(common)) {
                    let inside = siblings.entry(module[..common].to_vec()).or_default();
                    inside.entry(a.clone()).or_default().insert(b.clone());
                    count += 1;
                }
            }
        }
        assert!(count >= all.len() / 2, "{sources}: {count} uses; the test does not read them");
        for (place, uses) in siblings {
            let circle = circle(uses);
            assert!(circle.is_empty(), "{sources}/{}: {circle:?}", place.join("/"));
        }
    }
}

#[test]
fn a_circle_is_found() {
    let texts = [
        ("a", "use crate::{b::{self, Thing}, c};"),
        ("b", "fn f() -> super::c::Thing {}"),
        ("c", "use super::\n{d as e, a::Other};"),
        ("d", ""),
    ];
    let all: BTreeMap<Module, String> =
        texts.iter().map(|(name, text)| (vec![name.to_string()], text.to_string())).collect();
    let uses = all.iter().map(|(module, text)| {
        let used = used(module, text, &all).into_iter().map(|other| other[0].clone());
        (module[0].clone(), used.collect::<BTreeSet<_>>())
    });
    let uses: BTreeMap<_, _> = uses.collect();
    assert_eq!(uses["a"].iter().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(circle(uses).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}
