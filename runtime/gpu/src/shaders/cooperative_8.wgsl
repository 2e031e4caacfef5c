// Cooperative matrices of 8 by 8 on subgroups of 8 lanes. First part of a module with tiled_cooperative.wgsl.
enable f16;
enable wgpu_cooperative_matrix;

alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;

const SIDE = 8u;
const SUBGROUP = 8u;

