//! Lazy archives: static stand-ins for CUDA's libraries, whose functions open the real library on their first call, so
//! that a program linked with them starts where the libraries are not. `lazy.S` and `lazy.c` beside this file are the
//! archive's source; here is what differs from library to library.

use std::fmt::Write as _;

/// A library that a lazy archive stands in for.
pub(crate) struct Library {
    /// The linker's name for it: `cublas` of `-lcublas`.
    pub(crate) name: &'static str,
    /// The files to try at run time, best first.
    pub(crate) files: Vec<String>,
    /// The status that its functions return where no file opens.
    pub(crate) absent: u32,
    /// The status that a function returns where the library opens and does not have it.
    pub(crate) lacking: u32,
}

impl Library {
    /// The libraries that candle-core links under its feature `cuda`, as toolkit version `major` names them. The
    /// statuses are ones that cudarc's enums have (another value would be undefined behaviour in Rust).
    #[allow(dead_code)] // the tests have libraries of their own
    pub(crate) fn all(major: u32) -> Vec<Library> {
        let versioned = |name: &str| vec![format!("lib{name}.so.{major}")];
        // Since CUDA 11.3 nvrtc's number stays at 11.2 for the rest of CUDA 11.
        let nvrtc = if major == 11 { vec!["libnvrtc.so.11.2".to_owned()] } else { versioned("nvrtc") };
        vec![
            // CUDA_ERROR_STUB_LIBRARY tells "no driver" from the driver's own CUDA_ERROR_NO_DEVICE;
            // CUDA_ERROR_NOT_FOUND.
            Library { name: "cuda", files: vec!["libcuda.so.1".into()], absent: 34, lacking: 500 },
            // CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_NOT_SUPPORTED.
            Library { name: "cublas", files: versioned("cublas"), absent: 1, lacking: 15 },
            Library { name: "cublasLt", files: versioned("cublasLt"), absent: 1, lacking: 15 },
            // CURAND_STATUS_INITIALIZATION_FAILED, CURAND_STATUS_VERSION_MISMATCH. curand counts by itself: 10 since
            // CUDA 10.
            Library { name: "curand", files: vec!["libcurand.so.10".into()], absent: 203, lacking: 100 },
            // NVRTC_ERROR_INTERNAL_ERROR.
            Library { name: "nvrtc", files: nvrtc, absent: 11, lacking: 11 },
        ]
    }

    /// The preprocessor definitions under which `lazy.S` and `lazy.c` become this library's archive.
    pub(crate) fn definitions(&self) -> Vec<(&'static str, String)> {
        let files: Vec<String> = self.files.iter().map(|file| format!("{file:?}")).collect();
        vec![
            ("LAZY", format!("thimble_lazy_{}", self.name)),
            ("FILES", files.join(",")),
            ("ABSENT", self.absent.to_string()),
            ("LACKING", self.lacking.to_string()),
        ]
    }
}

/// `symbols.inc` of a list with one function a line, its name and what it returns (status, text, number or nothing).
///
/// # Errors
/// The line that is not of that form.
pub(crate) fn symbols(list: &str) -> Result<String, String> {
    let mut inc = String::new();
    for (index, line) in list.lines().enumerate() {
        match line.split_once(' ') {
            Some((name, kind @ ("status" | "text" | "number" | "nothing"))) if is_identifier(name) => {
                let _ = writeln!(inc, "SYMBOL({index}, {name}, {kind})");
            }
            _ => {
                return Err(format!(
                    "line {}: expected a function's name and status, text, number or nothing, found {line:?}",
                    index + 1
                ));
            }
        }
    }
    if inc.is_empty() { Err("expected at least one function, found none".into()) } else { Ok(inc) }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
