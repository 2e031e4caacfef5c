//! CUDA devices: finding one, trying it out, and saying why one cannot be used.

use super::{Gpu, GpuUnavailable};
use crate::ops::cuda::{Driver, self_test};
use candle_core::cuda::cudarc::driver::sys::CUresult;
use candle_core::cuda::cudarc::driver::{CudaContext, DriverError};
use candle_core::{DType, Device, Tensor};

/// The toolkit's major version, which the names of its libraries carry; `build.rs` sets it with the lazy archives.
const TOOLKIT_MAJOR: Option<&str> = option_env!("THIMBLE_CUDA_MAJOR");

/// The compute capability that candle's kernels were compiled for, as nvcc writes it: `80`, `90a`.
const COMPUTE_CAPABILITY: Option<&str> = option_env!("THIMBLE_CUDA_COMPUTE_CAP");

/// Opens GPU `ordinal` and has it multiply, which needs the driver, cuBLAS, cuRAND and candle's kernels to work, and tries
/// the engine's own kernels and cuBLASLt.
pub(super) fn open(ordinal: usize) -> Result<Gpu, GpuUnavailable> {
    let count = CudaContext::device_count().map_err(no_driver)?;
    if count == 0 {
        return Err(no_driver(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)));
    }
    if usize::try_from(count).is_ok_and(|count| ordinal >= count) {
        let why = format!("there is no GPU {ordinal} (found {count}, counted from 0)");
        return Err(GpuUnavailable {
            why,
            advice: "choose one that nvidia-smi and CUDA_VISIBLE_DEVICES show".into(),
        });
    }
    let refused = |what: &str, error: &dyn std::fmt::Display| GpuUnavailable {
        // candle appends a backtrace to its errors where one is asked for.
        why: format!("{what} cannot be used ({})", error.to_string().lines().next().unwrap_or_default()),
        advice: advice(),
    };
    let number = format!("GPU {ordinal}");
    let context = CudaContext::new(ordinal).map_err(|error| refused(&number, &error))?;
    let name = context.name().map_err(|error| refused(&number, &error))?;
    let capability = context.compute_capability().map_err(|error| refused(&name, &error))?;
    check_capability(&name, capability)?;
    let (free, memory) = context.mem_get_info().map_err(|error| refused(&name, &error))?;

    let device = Device::new_cuda(ordinal).map_err(|error| refused(&name, &error))?;
    let product = multiply(&device).map_err(|error| refused(&name, &error))?;
    if product != 6.0 {
        return Err(refused(&name, &format!("a test product gave {product}, expected 6")));
    }
    let (major, minor) = capability;
    let gib = memory as f64 / f64::from(1 << 30);
    let what = format!("{name} (GPU {ordinal} of {count}, {gib:.1} GiB, compute capability {major}.{minor})");
    let kernels =
        Driver::open(ordinal).and_then(|driver| self_test(&driver)).map_err(|error| error.to_string());
    Ok(Gpu { device, ordinal, kernels, what, free: free as u64 })
}

/// A product of two small matrices: one kernel of candle's, one of cuBLAS's.
fn multiply(device: &Device) -> candle_core::Result<f32> {
    let ones = Tensor::ones((4, 3), DType::F32, device)?;
    let twos = Tensor::ones((3, 4), DType::F32, device)?.affine(2.0, 0.0)?;
    ones.matmul(&twos)?.get(3)?.get(3)?.to_scalar()
}

/// Says what the first call of the driver meant.
fn no_driver(error: DriverError) -> GpuUnavailable {
    let (why, advice) = match error.0 {
        // What the lazy archive of libcuda returns where there is none.
        CUresult::CUDA_ERROR_STUB_LIBRARY => (
            "no CUDA GPU found (libcuda.so.1 of the NVIDIA driver cannot be opened)".to_owned(),
            "install the driver, or set THIMBLE_CUDA_LIBS to the folder of libcuda.so.1".to_owned(),
        ),
        CUresult::CUDA_ERROR_NO_DEVICE => (
            "no CUDA GPU found (the NVIDIA driver says CUDA_ERROR_NO_DEVICE)".to_owned(),
            "check what nvidia-smi and CUDA_VISIBLE_DEVICES show".to_owned(),
        ),
        result => (format!("no CUDA GPU can be used (the NVIDIA driver says {result:?})"), self::advice()),
    };
    GpuUnavailable { why, advice }
}

/// What to look at where a GPU is there and does not work.
fn advice() -> String {
    let major = TOOLKIT_MAJOR.unwrap_or("MAJOR");
    format!(
        "install a driver for CUDA {major}, and make libcublas.so.{major}, libcublasLt.so.{major} and libcurand.so.10 \
         findable (library path, or THIMBLE_CUDA_LIBS=FOLDER)"
    )
}

/// Refuses a GPU that is older than the kernels.
fn check_capability(name: &str, (major, minor): (i32, i32)) -> Result<(), GpuUnavailable> {
    let found = major * 10 + minor;
    let built =
        COMPUTE_CAPABILITY.and_then(|text| text.trim_end_matches(char::is_alphabetic).parse::<i32>().ok());
    match built {
        Some(built) if found < built => Err(GpuUnavailable {
            why: format!(
                "{name} has compute capability {major}.{minor} and this build is for {}.{} and newer",
                built / 10,
                built % 10
            ),
            advice: format!("build with CUDA_COMPUTE_CAP={found}"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_told_from_a_missing_gpu() {
        let said = |result| no_driver(DriverError(result)).why;
        let stub = said(CUresult::CUDA_ERROR_STUB_LIBRARY);
        assert_eq!(stub, "no CUDA GPU found (libcuda.so.1 of the NVIDIA driver cannot be opened)");
        assert!(said(CUresult::CUDA_ERROR_NO_DEVICE).contains("CUDA_ERROR_NO_DEVICE"));
        assert!(
            said(CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH).contains("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")
        );
    }

    #[test]
    fn a_gpu_older_than_the_kernels_is_refused() {
        assert!(check_capability("new", (99, 0)).is_ok());
        if COMPUTE_CAPABILITY.is_some() {
            assert!(
                check_capability("old", (3, 5))
                    .unwrap_err()
                    .why
                    .starts_with("old has compute capability 3.5")
            );
        }
    }
}
