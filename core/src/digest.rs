//! Digests as text.

/// Bytes as lower-case hexadecimal digits, as sha256 sums are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
