//! The system's allocator, which remembers what it could not give: memory that cannot grow ends in
//! the same trap as a bug, and only this tells them apart afterwards.
#![expect(unsafe_code, reason = "an allocator; every call goes on to the system's own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wasm_bindgen::prelude::*;

struct Remembering;

/// Bytes of the last allocation that failed; 0 if none did.
static FAILED: AtomicUsize = AtomicUsize::new(0);

fn remember(address: *mut u8, bytes: usize) -> *mut u8 {
    if address.is_null() {
        FAILED.store(bytes, Ordering::Relaxed);
    }
    address
}

// SAFETY: the system's allocator keeps the contract; this only looks at what it returns.
unsafe impl GlobalAlloc for Remembering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        remember(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        remember(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's block, layout and size.
        remember(unsafe { System.realloc(address, layout, size) }, size)
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Remembering = Remembering;

/// Bytes of the last allocation that failed; 0 if none did. Reads one number: after a trap this alone
/// may still be called.
#[wasm_bindgen]
pub fn failed_allocation() -> usize {
    FAILED.load(Ordering::Relaxed)
}
