//! NumPy's `.npz`: a zip of `.npy` arrays, enough of both for fixtures that NumPy wrote.

use std::collections::BTreeMap;
use std::path::Path;

/// An array, row-major, whatever its type was.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f64>,
}

impl Array {
    /// Row `row` of a matrix.
    pub fn row(&self, row: usize) -> &[f64] {
        let cols: usize = self.shape[1..].iter().product();
        &self.values[row * cols..][..cols]
    }
}

/// The arrays of a file by name. Panics on anything that NumPy does not write.
pub fn read(path: &Path) -> BTreeMap<String, Array> {
    let zip = std::fs::read(path).expect("a readable file");
    let u16_at = |at: usize| u16::from_le_bytes([zip[at], zip[at + 1]]) as usize;
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let end = zip.windows(4).rposition(|w| w == b"PK\x05\x06").expect("a zip's end record");
    let mut entry = u32_at(end + 16);
    let mut arrays = BTreeMap::new();
    for _ in 0..u16_at(end + 10) {
        assert_eq!(&zip[entry..entry + 4], b"PK\x01\x02", "central directory of {path:?}");
        let (method, packed, local) = (u16_at(entry + 10), u32_at(entry + 20), u32_at(entry + 42));
        let (name_len, extra, comment) =
            (u16_at(entry + 28), u16_at(entry + 30), u16_at(entry + 32));
        let name = String::from_utf8_lossy(&zip[entry + 46..][..name_len]).into_owned();
        let data = &zip[local + 30 + u16_at(local + 26) + u16_at(local + 28)..][..packed];
        let bytes = match method {
            0 => data.to_vec(),
            8 => miniz_oxide::inflate::decompress_to_vec(data).expect("deflated bytes"),
            other => panic!("{name}: zip method {other}"),
        };
        arrays.insert(name.trim_end_matches(".npy").to_owned(), npy(&name, &bytes));
        entry += 46 + name_len + extra + comment;
    }
    arrays
}

fn npy(name: &str, bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{name}: npy version 1");
    let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + len]).expect("an ASCII header");
    assert!(header.contains("'fortran_order': False"), "{name}: {header}");
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
    let shape: Vec<usize> = shape
        .map(|(axes, _)| axes.split(',').filter_map(|n| n.trim().parse().ok()).collect())
        .expect("a shape");
    let data = &bytes[10 + len..];
    let eight = |bytes: &[u8]| -> [u8; 8] { bytes.try_into().expect("8 bytes") };
    let four = |bytes: &[u8]| -> [u8; 4] { bytes.try_into().expect("4 bytes") };
    let values: Vec<f64> = if header.contains("'<i8'") {
        data.chunks_exact(8).map(|b| i64::from_le_bytes(eight(b)) as f64).collect()
    } else if header.contains("'<f8'") {
        data.chunks_exact(8).map(|b| f64::from_le_bytes(eight(b))).collect()
    } else if header.contains("'<f4'") {
        data.chunks_exact(4).map(|b| f32::from_le_bytes(four(b)).into()).collect()
    } else {
        panic!("{name}: element type of {header}");
    };
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: values of {header}");
    Array { shape, values }
}
