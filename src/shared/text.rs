//! Texts in shared memory.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A text in shared memory, cut to `N` bytes. Under a lock.
pub struct Text<const N: usize>([AtomicU8; N]);

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text([const { AtomicU8::new(0) }; N])
    }
}

impl<const N: usize> Text<N> {
    pub fn set(&self, text: &str) {
        let bytes = text.bytes().take(N - 1).chain([0]);
        self.0.iter().zip(bytes).for_each(|(place, byte)| place.store(byte, Relaxed));
    }

    pub fn get(&self) -> Option<String> {
        let bytes: Vec<u8> = self.0.iter().map(|byte| byte.load(Relaxed)).take_while(|byte| *byte != 0).collect();
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}
