//! GPUs by their data sheets, and the rates of their multiprocessors by the programming guide.

use serde::Serialize;

/// A GPU to predict for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GpuModel {
    /// NVIDIA L40S.
    L40s,
    /// NVIDIA H100 SXM.
    H100,
    /// NVIDIA H200 SXM.
    H200,
    /// NVIDIA A100 SXM, 80 GB.
    A100,
    /// GeForce RTX 4090.
    #[value(name = "4090")]
    #[serde(rename = "4090")]
    Rtx4090,
}

impl GpuModel {
    /// All of them.
    pub const ALL: [GpuModel; 5] =
        [GpuModel::L40s, GpuModel::H100, GpuModel::H200, GpuModel::A100, GpuModel::Rtx4090];

    /// The GPU that a driver calls so; none if it is another one.
    pub fn of_device(name: &str) -> Option<GpuModel> {
        // Whole names, because variants with other limits have longer ones: H200 NVL, RTX 4090 Laptop GPU.
        let names = [
            ("NVIDIA L40S", GpuModel::L40s),
            ("NVIDIA H100 80GB HBM3", GpuModel::H100),
            ("NVIDIA H200", GpuModel::H200),
            ("NVIDIA A100-SXM4-80GB", GpuModel::A100),
            ("NVIDIA GeForce RTX 4090", GpuModel::Rtx4090),
        ];
        names.into_iter().find(|&(known, _)| name == known).map(|(_, gpu)| gpu)
    }

    /// What is known of it.
    pub fn sheet(self) -> &'static DataSheet {
        match self {
            GpuModel::L40s => &L40S,
            GpuModel::H100 => &H100,
            GpuModel::H200 => &H200,
            GpuModel::A100 => &A100,
            GpuModel::Rtx4090 => &RTX_4090,
        }
    }
}

/// The generation that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Architecture {
    /// Ampere, A100.
    #[serde(rename = "sm_80")]
    Sm80,
    /// Ada.
    #[serde(rename = "sm_89")]
    Sm89,
    /// Hopper.
    #[serde(rename = "sm_90a")]
    Sm90a,
}

impl Architecture {
    /// As compilers and tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Sm80 => "sm_80",
            Architecture::Sm89 => "sm_89",
            Architecture::Sm90a => "sm_90a",
        }
    }
}

/// Limits of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DataSheet {
    /// Its name.
    pub name: &'static str,
    /// Where the limits are from.
    pub source: &'static str,
    /// Its generation.
    pub architecture: Architecture,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Boost clock in Hz, at which the data sheet's peak holds.
    pub clock: f64,
    /// Dense bf16 products with f32 sums, FLOPs per second.
    pub tensor_flops: f64,
    /// Memory bandwidth, bytes per second.
    pub bandwidth: f64,
    /// Bytes of the L2 cache. No prediction depends on it.
    pub l2_bytes: u64,
    /// Memory as the driver reports it, bytes.
    pub memory_bytes: u64,
    /// Share of `tensor_flops` that large cuBLAS products sustain. Assumed: 0.62, on Hopper 0.60.
    pub product_share: f64,
    /// Share of `tensor_flops` that `mma.sync` can reach: all of it before Hopper, where only `wgmma` does (Luo et al. 2024,
    /// arXiv 2402.13499: 62.9% on average).
    pub mma_share: f64,
    /// Share of `bandwidth` that streaming kernels sustain. Assumed: 0.80 of GDDR, 0.85 of HBM.
    pub bandwidth_share: f64,
    /// FLOPs per second that FlashAttention 2 was published to reach, forward and backward, with heads of 64 and a causal
    /// context of 8,192 (charts of Shah et al. 2024, arXiv 2407.08608), to judge the method by.
    pub published_attention: Option<(f64, f64)>,
}

impl DataSheet {
    /// FLOPs per second of cuBLAS products.
    pub fn products(&self) -> f64 {
        self.tensor_flops * self.product_share
    }

    /// Bytes that a run may use: the driver, its context and cuBLAS's workspace take the rest, 1 GiB by assumption.
    pub fn usable_bytes(&self) -> u64 {
        self.memory_bytes - 1024 * MIB
    }

    /// Bytes per second of streaming kernels.
    pub fn streaming(&self) -> f64 {
        self.bandwidth * self.bandwidth_share
    }
}

const MIB: u64 = 1 << 20;
const AMPERE_AND_ADA: f64 = 0.62;
const HOPPER: f64 = 0.60;
const GDDR: f64 = 0.80;
const HBM: f64 = 0.85;

const L40S: DataSheet = DataSheet {
    name: "NVIDIA L40S",
    source: "NVIDIA L40S data sheet (18,176 CUDA cores, 362.05 TFLOPS without sparsity, 864 GB/s)",
    architecture: Architecture::Sm89,
    multiprocessors: 142,
    clock: 2.52e9,
    tensor_flops: 362.05e12,
    bandwidth: 864e9,
    l2_bytes: 48 * MIB,
    memory_bytes: 46_068 * MIB,
    product_share: AMPERE_AND_ADA,
    mma_share: 1.0,
    bandwidth_share: GDDR,
    published_attention: None,
};

const H100: DataSheet = DataSheet {
    name: "NVIDIA H100 SXM",
    source: "NVIDIA H100 data sheet and Hopper whitepaper (132 multiprocessors, 989.4 TFLOPS, 3.35 TB/s)",
    architecture: Architecture::Sm90a,
    multiprocessors: 132,
    clock: 1.83e9,
    tensor_flops: 989.4e12,
    bandwidth: 3350e9,
    l2_bytes: 50 * MIB,
    memory_bytes: 81_559 * MIB,
    product_share: HOPPER,
    mma_share: 0.629,
    bandwidth_share: HBM,
    published_attention: Some((295e12, 287e12)),
};

const H200: DataSheet = DataSheet {
    name: "NVIDIA H200 SXM",
    source: "NVIDIA H200 data sheet (989 TFLOPS, 141 GB, 4.8 TB/s)",
    bandwidth: 4800e9,
    memory_bytes: 143_771 * MIB,
    published_attention: None,
    ..H100
};

const A100: DataSheet = DataSheet {
    name: "NVIDIA A100 SXM 80 GB",
    source: "NVIDIA A100 data sheet and Ampere whitepaper (108 multiprocessors, 312 TFLOPS, 2,039 GB/s)",
    architecture: Architecture::Sm80,
    multiprocessors: 108,
    clock: 1.41e9,
    tensor_flops: 312e12,
    bandwidth: 2039e9,
    l2_bytes: 40 * MIB,
    memory_bytes: 81_920 * MIB,
    product_share: AMPERE_AND_ADA,
    mma_share: 1.0,
    bandwidth_share: HBM,
    published_attention: None,
};

const RTX_4090: DataSheet = DataSheet {
    name: "GeForce RTX 4090",
    source: "NVIDIA Ada whitepaper (128 multiprocessors, 165.2 TFLOPS with f32 sums, 1,008 GB/s)",
    architecture: Architecture::Sm89,
    multiprocessors: 128,
    clock: 2.52e9,
    tensor_flops: 165.2e12,
    bandwidth: 1008e9,
    l2_bytes: 72 * MIB,
    memory_bytes: 24_564 * MIB,
    product_share: AMPERE_AND_ADA,
    mma_share: 1.0,
    bandwidth_share: GDDR,
    published_attention: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_names_are_known() {
        for (name, gpu) in [
            ("NVIDIA L40S", Some(GpuModel::L40s)),
            ("NVIDIA H100 80GB HBM3", Some(GpuModel::H100)),
            ("NVIDIA H100 PCIe", None),
            ("NVIDIA H200", Some(GpuModel::H200)),
            ("NVIDIA A100-SXM4-80GB", Some(GpuModel::A100)),
            ("NVIDIA A100-SXM4-40GB", None),
            ("NVIDIA GeForce RTX 4090", Some(GpuModel::Rtx4090)),
            ("NVIDIA L40", None),
            ("NVIDIA H200 NVL", None),
            ("NVIDIA GH200 480GB", None),
            ("NVIDIA GeForce RTX 4090 D", None),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ] {
            assert_eq!(GpuModel::of_device(name), gpu, "{name}");
        }
    }
}
