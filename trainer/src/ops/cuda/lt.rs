//! Products by cuBLASLt: what is added goes into the epilogue, and sums stay in f32 until they are rounded once.
#![allow(unsafe_code)] // calls of cuBLASLt

use super::launcher::{NumberFormat, Product, Region};
use crate::error::{Error, Result};
use candle_core::cuda::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda::cudarc::cublaslt::sys::cublasLtMatmulDescAttributes_t as DescriptionAttribute;
use candle_core::cuda::cudarc::cublaslt::sys::cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute;
use candle_core::cuda::cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulPreference_t, cublasLtMatrixLayout_t, cudaDataType,
};
use candle_core::cuda::cudarc::driver::sys::CUstream;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

/// Parts of a sum may be added in f32 through the workspace (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), in a fixed order;
/// the other schemes round them to the output's format.
const REDUCTION_SCHEMES: u32 = 2;
/// CUBLAS_OP_N and CUBLAS_OP_T.
const PLAIN: i32 = 0;
const TRANSPOSED: i32 = 1;
/// What cuBLASLt asks of addresses at most, in bytes.
const ALIGNMENT: u64 = 256;

impl From<CublasError> for Error {
    fn from(error: CublasError) -> Error {
        Error::Invalid(format!("cuBLASLt failed: {error}"))
    }
}

/// What decides how a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PlanKey {
    shape: [usize; 3],
    transposed: [bool; 2],
    strides: [usize; 3],
    format: NumberFormat,
    /// Of both factors, what is added, and the output.
    alignments: [u32; 4],
}

/// The library, and how it computes each product that has been seen.
pub(super) struct CublasLt {
    handle: Handle,
    /// Memory of the GPU that outlives this.
    workspace: Region,
    plans: RefCell<HashMap<PlanKey, Plan>>,
}

struct Handle(cublasLtHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle was created by `CublasLt::new` and is destroyed once, here.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// A matrix as cuBLASLt sees it, column by column.
struct Layout(cublasLtMatrixLayout_t);

impl Layout {
    fn new(format: NumberFormat, rows: usize, columns: usize, stride: usize) -> Result<Layout> {
        let kind = match format {
            NumberFormat::Bf16 => cudaDataType::CUDA_R_16BF,
            NumberFormat::F32 => cudaDataType::CUDA_R_32F,
        };
        Ok(Layout(result::create_matrix_layout(kind, rows as u64, columns as u64, stride as i64)?))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: the layout was created by `Layout::new` and is destroyed once, here.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

struct Description(cublasLtMatmulDesc_t);

impl Description {
    fn set(&self, attribute: DescriptionAttribute, operation: i32) -> Result<()> {
        let value: *const i32 = &operation;
        // SAFETY: the description lives, and the attribute is read from `operation`, which outlives the call.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, value.cast(), size_of::<i32>()) }?;
        Ok(())
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: the description was created by `Plan::new` and is destroyed once, here.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(&self, attribute: PreferenceAttribute, value: T) -> Result<()> {
        let pointer: *const T = &value;
        // SAFETY: the preference lives, and the attribute is read from `value`, which outlives the call.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, pointer.cast(), size_of::<T>()) }?;
        Ok(())
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: the preference was created by `Plan::new` and is destroyed once, here.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// How a product is computed. The library's matrices lie column by column, so it computes the transpose: its first factor
/// is the transpose of our right one.
struct Plan {
    description: Description,
    first: Layout,
    second: Layout,
    output: Layout,
    algorithm: cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(handle: &Handle, key: PlanKey) -> Result<Plan> {
        let [rows, columns, inner] = key.shape;
        let [left, right] = key.transposed;
        let kind = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Description(result::create_matmul_desc(kind, cudaDataType::CUDA_R_32F)?);
        let operation = |transposed| if transposed { TRANSPOSED } else { PLAIN };
        description.set(DescriptionAttribute::CUBLASLT_MATMUL_DESC_TRANSA, operation(right))?;
        description.set(DescriptionAttribute::CUBLASLT_MATMUL_DESC_TRANSB, operation(left))?;
        let [of_left, of_right, of_output] = key.strides;
        let factor = |transposed, [rows, columns]: [usize; 2], stride| {
            let [rows, columns] = if transposed { [columns, rows] } else { [rows, columns] };
            Layout::new(NumberFormat::Bf16, columns, rows, stride)
        };
        let first = factor(right, [inner, columns], of_right)?;
        let second = factor(left, [rows, inner], of_left)?;
        let output = Layout::new(key.format, columns, rows, of_output)?;

        let preference = Preference(result::create_matmul_pref()?);
        preference
            .set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, CublasLt::WORKSPACE as u64)?;
        preference.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, REDUCTION_SCHEMES)?;
        let [of_left, of_right, of_added, of_output] = key.alignments;
        for (attribute, alignment) in [
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_right),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_left),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_added),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_output),
        ] {
            preference.set(attribute, alignment)?;
        }
        // SAFETY: description, layouts and preference live until the call returns.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                handle.0,
                description.0,
                first.0,
                second.0,
                output.0,
                output.0,
                preference.0,
            )
        };
        let found =
            found.map_err(|error| Error::Invalid(format!("cuBLASLt has no product for {key:?}: {error}")))?;
        Ok(Plan { description, first, second, output, algorithm: found.algo })
    }
}

impl CublasLt {
    /// Bytes of the workspace: what NVIDIA recommends for Hopper, and more than older GPUs need.
    pub(super) const WORKSPACE: usize = 32 << 20;

    pub(super) fn new(workspace: Region) -> Result<CublasLt> {
        Ok(CublasLt { handle: Handle(result::create_handle()?), workspace, plans: RefCell::default() })
    }

    pub(super) fn multiply(&self, product: &Product, stream: CUstream) -> Result<()> {
        let shape = product.checked_shape()?;
        let added = product.added.unwrap_or(product.output);
        let key = PlanKey {
            shape,
            transposed: [product.left.transposed, product.right.transposed],
            strides: [product.left.stride, product.right.stride, product.stride],
            format: product.format,
            alignments: [product.left.region, product.right.region, added, product.output].map(alignment),
        };
        let mut plans = self.plans.borrow_mut();
        let plan = match plans.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Plan::new(&self.handle, key)?),
        };
        let factor: *const f32 = &product.factor;
        let of_added: f32 = if product.added.is_some() { 1.0 } else { 0.0 };
        let of_added: *const f32 = &of_added;
        let pointer = |region: Region| region.address.0 as *mut c_void;
        // SAFETY: handle, description, layouts and algorithm live; `checked_shape` has shown every matrix to lie in its
        // region, which is of this GPU's memory, as is the workspace of the length that the plan was made for. The two
        // factors are read from the host before the call returns.
        unsafe {
            result::matmul(
                self.handle.0,
                plan.description.0,
                factor.cast(),
                of_added.cast(),
                pointer(product.right.region),
                plan.first.0,
                pointer(product.left.region),
                plan.second.0,
                pointer(added),
                plan.output.0,
                pointer(product.output),
                plan.output.0,
                &plan.algorithm,
                pointer(self.workspace),
                self.workspace.bytes,
                stream.cast(),
            )
        }?;
        Ok(())
    }
}

/// The largest power of two up to [`ALIGNMENT`] that divides the address.
fn alignment(region: Region) -> u32 {
    1 << (region.address.0 | ALIGNMENT).trailing_zeros()
}
