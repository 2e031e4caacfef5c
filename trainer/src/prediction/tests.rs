use super::*;

fn recipe(overrides: &[&str]) -> TrainingRecipe {
    let overrides: Vec<String> = overrides.iter().map(|set| (*set).to_owned()).collect();
    TrainingRecipe::load("smollm2-70m", &overrides).unwrap()
}

fn predicted(gpu: GpuModel) -> Prediction {
    let recipe = recipe(&[]);
    Prediction::of(&recipe, &recipe.stages[0], gpu, DOCUMENT_TOKENS).unwrap()
}

#[test]
fn every_gpu_has_a_table_whose_parts_add_up() {
    for gpu in GpuModel::ALL {
        let found = predicted(gpu);
        for pass in [&found.full, &found.documents] {
            assert!(pass.kernels.iter().all(|kernel| kernel.seconds > 0.0 && kernel.bytes > 0.0), "{pass:?}");
            let sum: f64 = pass.kernels.iter().map(|kernel| kernel.seconds).sum();
            assert!((sum / pass.seconds - 1.0).abs() < 1e-12);
            assert!((pass.groups().values().sum::<f64>() / pass.seconds - 1.0).abs() < 1e-12);
            assert_eq!(pass.groups().len(), 10);
            assert!((pass.tokens_per_second * pass.seconds / 32_768.0 - 1.0).abs() < 1e-12);
            assert!(pass.mfu > 0.05 && pass.mfu < 0.7, "{gpu:?} {}", pass.mfu);
        }
        assert!(found.documents.seconds < found.full.seconds);
        let text = found.to_string();
        assert!(text.contains("Predicted, not measured") && text.contains("It assumes:"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["prediction"], true);
        assert_eq!(json["full"]["tokens_per_second"], found.full.tokens_per_second);
        assert_eq!(json["documents"]["document_tokens"], DOCUMENT_TOKENS);
    }
}

/// FLOPs of the table are those of the plan, besides the products that attention's backward pass repeats.
#[test]
fn flops_are_those_of_the_plan() {
    let found = predicted(GpuModel::L40s);
    let config = recipe(&[]).model.config();
    let flops = Flops::of(&config, 8192);
    let of = |groups: &[KernelGroup]| -> f64 {
        let kernels = found.full.kernels.iter().filter(|kernel| groups.contains(&kernel.group));
        kernels.map(|kernel| kernel.flops).sum::<f64>() / 32_768.0
    };
    assert!((of(&[KernelGroup::Linears]) / flops.linears as f64 - 1.0).abs() < 1e-9);
    assert!((of(&[KernelGroup::Head]) / flops.head as f64 - 1.0).abs() < 1e-9);
    // Forward 2 of 6 products; a position sees itself too.
    let forward = of(&[KernelGroup::AttentionForward]) / (flops.attention_causal as f64 / 3.0);
    assert!((forward - 8193.0 / 8192.0).abs() < 1e-9, "{forward}");
}

/// More of a resource is never slower, and helps what it limits.
#[test]
fn time_falls_with_each_limit() {
    let recipe = recipe(&[]);
    let (config, stage) = (recipe.model.config(), &recipe.stages[0]);
    for gpu in GpuModel::ALL {
        let sheet = *gpu.sheet();
        let seconds = |sheet: &DataSheet| predict(&recipe, &config, stage, sheet, None).unwrap();
        let base = seconds(&sheet);
        let wider = seconds(&DataSheet { bandwidth: 2.0 * sheet.bandwidth, ..sheet });
        let faster = seconds(&DataSheet { tensor_flops: 2.0 * sheet.tensor_flops, ..sheet });
        let more = seconds(&DataSheet { multiprocessors: 2 * sheet.multiprocessors, ..sheet });
        for other in [&wider, &faster, &more] {
            assert!(other.seconds < base.seconds, "{gpu:?}");
            for (before, after) in base.kernels.iter().zip(&other.kernels) {
                assert!(after.seconds <= before.seconds * (1.0 + 1e-12), "{gpu:?} {}", before.name);
            }
        }
        let norms = |pass: &PredictedPass| pass.groups()[&KernelGroup::Norms];
        assert!((norms(&wider) * 2.0 / norms(&base) - 1.0).abs() < 1e-12);
    }
}

/// The figures of "What the figures rest on" in trainer/cuda/README.md, in thousands of tokens/s.
#[test]
fn what_is_assumed_carries_a_sixth_of_the_speed() {
    let recipe = recipe(&[]);
    let (config, stage, sheet) = (recipe.model.config(), &recipe.stages[0], *GpuModel::L40s.sheet());
    let thousands = |product_share, bandwidth_share, clock: f64| {
        let sheet = DataSheet { product_share, bandwidth_share, ..sheet };
        let pass = predict(&recipe, &config, stage, &sheet, None).unwrap();
        let groups = pass.groups();
        let attention = groups[&KernelGroup::AttentionForward] + groups[&KernelGroup::AttentionBackward];
        (32.768 / (pass.seconds + attention * (1.0 / clock - 1.0))).round()
    };
    assert_eq!(thousands(0.62, 0.8, 1.0), 136.0);
    assert_eq!(thousands(0.62, 0.8, 0.8), 123.0);
    assert_eq!(thousands(0.62, 0.7, 1.0), 127.0);
    assert_eq!(thousands(0.5, 0.8, 1.0), 132.0);
    assert_eq!(thousands(0.5, 0.7, 0.8), 113.0);
}

#[test]
fn the_order_of_gpus_is_that_of_their_data_sheets() {
    let [l40s, h100, h200, a100, rtx] = GpuModel::ALL.map(|gpu| predicted(gpu).full.tokens_per_second);
    assert!(
        h200 > h100 && h100 > a100 && a100 > rtx && h100 > l40s && l40s > rtx,
        "{l40s} {h100} {h200} {a100} {rtx}"
    );
}

#[test]
fn what_the_kernels_lack_is_not_predicted() {
    assert_eq!(unpredictable(&recipe(&[])), None);
    let said = |overrides: &[&str]| unpredictable(&recipe(overrides)).unwrap();
    assert!(said(&["model.head_dim=128"]).contains("heads of 64"));
    assert!(said(&["model.kv_heads=1"]).contains("at most 4 query heads"));
    assert!(said(&["model.qk_norm=true"]).contains("norms of query"));
}

#[test]
fn checkpointing_costs_the_layers_forward_pass_again() {
    let plain = predicted(GpuModel::H100).full;
    let recipe = recipe(&["compute.activation_checkpointing=true"]);
    let again = Prediction::of(&recipe, &recipe.stages[0], GpuModel::H100, 1000).unwrap().full;
    let of = |pass: &PredictedPass, name: &str| {
        pass.kernels.iter().find(|kernel| kernel.name == name).unwrap().seconds
    };
    assert!((of(&again, "swiglu") / of(&plain, "swiglu") - 63.0 / 32.0).abs() < 1e-9);
    assert_eq!(of(&again, "swiglu_backward"), of(&plain, "swiglu_backward"));
}
