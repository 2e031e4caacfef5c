//! Memory for a model file, and for inference.

use crate::error::{Code, WebError};
use wasm_bindgen::prelude::wasm_bindgen;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// 64 bytes, aligned as a model file and the inference memory have to be.
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// At least `bytes` zero bytes.
///
/// # Errors
/// The page has no more memory.
fn lines(bytes: usize) -> Result<Vec<Line>, WebError> {
    Line::new_vec_zeroed(bytes.div_ceil(size_of::<Line>())).map_err(|_| {
        let message =
            format!("{bytes} bytes of memory were refused: use a smaller model or a shorter context");
        WebError::new(Code::TooLarge, message)
    })
}

/// Inference memory, for as long as the module lives.
///
/// # Errors
/// The page has no more memory.
pub(crate) fn inference_memory(bytes: usize) -> Result<&'static mut [u8], WebError> {
    let memory = lines(bytes)?.leak().as_mut_bytes();
    Ok(&mut memory[..bytes])
}

/// The place of a model file in the module's memory. The worker writes the file there as it arrives, so that there is no
/// second copy.
#[wasm_bindgen]
pub struct FileMemory {
    lines: Vec<Line>,
    bytes: usize,
}

#[wasm_bindgen]
impl FileMemory {
    /// Reserves `bytes` bytes.
    ///
    /// # Errors
    /// `TooLarge`: the page has no more memory.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: usize) -> Result<FileMemory, WebError> {
        Ok(FileMemory { lines: lines(bytes)?, bytes })
    }

    /// The address of the first byte in the module's memory.
    pub fn address(&mut self) -> *mut u8 {
        self.lines.as_mut_bytes().as_mut_ptr()
    }
}

impl FileMemory {
    /// The bytes, for as long as the module lives.
    pub(crate) fn leak(self) -> &'static [u8] {
        &self.lines.leak().as_bytes()[..self.bytes]
    }
}
