//! Shader modules: each is one WGSL file, or several joined in order.

macro_rules! shaders {
    ($($shader:ident $name:literal: $($file:literal)+;)+) => {
        /// A shader module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Shader {
            $($shader),+
        }

        impl Shader {
            #[cfg(test)]
            pub(crate) const ALL: &[Shader] = &[$(Shader::$shader),+];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Shader::$shader => $name),+
                }
            }

            /// The WGSL text.
            pub(crate) fn text(self) -> &'static str {
                match self {
                    $(Shader::$shader => concat!($(include_str!(concat!("shaders/", $file, ".wgsl"))),+)),+
                }
            }
        }
    };
}

shaders! {
    Vector "vector": "panel" "epilogue" "vector";
    Tiled "tiled": "panel" "epilogue" "tile" "tiled";
    TiledDot4 "tiled_dot4": "panel" "epilogue" "tile" "tiled_dot4";
    TiledF16 "tiled_f16": "enable_f16" "panel" "epilogue" "tile" "tiled_f16";
    TiledCooperative8 "tiled_cooperative_8": "cooperative_8" "panel" "epilogue" "tile" "tiled_cooperative";
    TiledCooperative16 "tiled_cooperative_16": "cooperative_16" "panel" "epilogue" "tile" "tiled_cooperative";
    Swiglu "swiglu": "swiglu";
    BiasNorm "bias_norm": "bias_norm";
    Store "store": "cache" "store";
    Attend "attend": "cache" "reduce_workgroup" "attend";
    AttendSubgroup "attend_subgroup": "cache" "reduce_subgroup" "attend";
    Sample "sample": "sampler_state" "pcg32" "workgroup_scan" "penalties" "sorted_candidates" "sample_sorted" "sample";
}
