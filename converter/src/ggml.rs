//! ggml through the bindings of `llama-cpp-sys-2`: reads the block types that this crate does not implement, and serves
//! as the test oracle for the others. The converter's only unsafe code, behind the feature `ggml`.

use crate::read::BlockType;
use llama_cpp_sys_2 as sys;

/// ggml's number of a type, which [`BlockType`] shares.
fn number(kind: BlockType) -> sys::ggml_type {
    kind as sys::ggml_type
}

/// Whether ggml has the type with the same number, block length and block size.
fn agrees(kind: BlockType) -> bool {
    // SAFETY: the type is one of ggml's, below its count: a lookup in a static table.
    let length = unsafe { sys::ggml_blck_size(number(kind)) };
    // SAFETY: as above.
    let bytes = unsafe { sys::ggml_type_size(number(kind)) };
    usize::try_from(length) == Ok(kind.block_len()) && bytes == kind.block_bytes()
}

/// Dequantizes whole blocks to `out`; writes NaN if this build of ggml does not know the type.
pub(crate) fn dequantize(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    let blocks = (bytes.len() / kind.block_bytes()).min(out.len() / kind.block_len());
    let (bytes, out) = (&bytes[..blocks * kind.block_bytes()], &mut out[..blocks * kind.block_len()]);
    // SAFETY: the type is one of ggml's, below its count; what comes back points into a static table.
    let traits = unsafe { sys::ggml_get_type_traits(number(kind)) };
    // SAFETY: null, or valid for the life of the program and never written.
    let convert = unsafe { traits.as_ref() }.and_then(|traits| traits.to_float).filter(|_| agrees(kind));
    let Some(convert) = convert else { return out.fill(f32::NAN) };
    // ggml reads structs with two-byte fields: blocks need an even address.
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    };
    let aligned: Vec<u64> = bytes.chunks(8).map(word).collect();
    // SAFETY: `aligned` holds `blocks` whole blocks of a size that ggml agrees on, and `out` has room for exactly
    // their numbers, a multiple of the block's length, as ggml asserts; the function keeps neither.
    unsafe { convert(aligned.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) }
}

/// Quantizes whole blocks as `llama-quantize` does without an importance matrix; `None` for partial blocks and types
/// that ggml does not know.
pub fn quantize(kind: BlockType, values: &[f32]) -> Option<Vec<u8>> {
    let bytes = kind.row_bytes(values.len()).filter(|&bytes| bytes > 0 && agrees(kind))?;
    let mut aligned = vec![0_u64; bytes.div_ceil(8)];
    let columns = values.len() as i64;
    // SAFETY: `values` is one row of whole blocks, `aligned` has room for them at an even address, and no type that
    // this crate knows and writes needs the importance matrix, which is null.
    let written = unsafe {
        sys::ggml_quantize_chunk(
            number(kind),
            values.as_ptr(),
            aligned.as_mut_ptr().cast(),
            0,
            1,
            columns,
            std::ptr::null(),
        )
    };
    let mut out: Vec<u8> = aligned.iter().flat_map(|word| word.to_ne_bytes()).collect();
    out.truncate(bytes);
    (written == bytes).then_some(out)
}

#[cfg(test)]
#[path = "ggml_tests.rs"]
mod tests;
