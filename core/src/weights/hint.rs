//! The name a caller may have meant: most wrong names are a prefix or a letter away from a right one.

/// ` (did you mean ...)`, or nothing without a near name: one that ends alike or differs in few
/// letters.
pub(super) fn near_name<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    // Names far longer than the asked one are no typing errors; this also bounds the work.
    let candidates = names.filter(|other| other.len().abs_diff(name.len()) <= 24).take(4096);
    let near = candidates
        .map(|other| (distance(name, other), other))
        .filter(|(distance, other)| {
            *distance <= 3.max(name.len() / 5)
                || other.ends_with(&format!(".{name}"))
                || name.ends_with(&format!(".{other}"))
        })
        .min();
    near.map_or(String::new(), |(_, other)| format!("; did you mean `{other}`?"))
}

/// Letters of the middle that differ, once the common start and end are taken away.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (a.get(start..).unwrap_or_default(), b.get(start..).unwrap_or_default());
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().max(b.len()) - end
}
