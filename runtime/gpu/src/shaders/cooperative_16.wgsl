// Cooperative matrices of 16 by 16 on subgroups of 32 lanes. First part of a module with tiled_cooperative.wgsl.
enable f16;
enable wgpu_cooperative_matrix;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

const SIDE = 16u;
const SUBGROUP = 32u;

