//! Opening models: files, budgets and backends.

use super::*;
use crate::completion::{complete, greedily};

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let bench = Bench::new();
    let open = |name: &str, options| Model::open(bench.text(name), options).unwrap_err();
    assert!(matches!(open("none", ModelOptions::default()), ApiError::NotFound { .. }));
    fs::write(bench.path("text"), "some text that is no model, whatever its length may be".repeat(9))
        .unwrap();
    assert!(matches!(open("text", ModelOptions::default()), ApiError::NotAModel { .. }));
    assert!(matches!(open("hf", ModelOptions::default()), ApiError::NotAModel { .. }));
    let whole = fs::read(bench.path("m.thimble")).unwrap();
    fs::write(bench.path("cut"), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(open("cut", ModelOptions::default()), ApiError::Damaged { .. }));
    let model = bench.model();
    let info = model.info().unwrap();
    let needed = info.file_bytes + info.state_bytes;
    let budget = |bytes| ModelOptions { budget_bytes: Some(bytes), ..ModelOptions::default() };
    assert_eq!(open("m.thimble", budget(needed - 1)), ApiError::TooLarge { needed, budget: needed - 1 });
    assert!(Model::open(bench.text("m.thimble"), budget(needed)).is_ok());
    assert!(info.answers_messages && info.name == "m" && info.file_bytes == whole.len() as u64);
    assert!(!model.tokens("hello".to_owned()).unwrap().is_empty());
    model.verify().unwrap();
    let wrong = Chat::new(model, ChatOptions { journal: Some(bench.text("text")), ..ChatOptions::default() });
    assert!(wrong.is_err() && Path::new(&bench.path("text")).exists());
}

#[test]
fn a_gpu_is_an_option() {
    let bench = Bench::new();
    let options = |backend| ModelOptions { backend: Some(backend), ..ModelOptions::default() };
    let memory = bench.text("backends.json");
    let gpu = ModelOptions { backend_memory: Some(memory.clone()), ..options(Backend::Gpu) };
    let model = match Model::open(bench.text("m.thimble"), gpu) {
        Ok(model) => model,
        Err(ApiError::Other { message }) => {
            assert!(message.contains("no GPU adapter was found"), "{message}");
            println!("no more to see: {message}");
            return;
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(model.info().unwrap().kernels, "gpu");
    let greedy = Sampling { temperature: Some(0.0), repetition_penalty: Some(1.0), ..Sampling::default() };
    let asked =
        CompletionOptions { sampling: Some(greedy), max_tokens: Some(20), ..CompletionOptions::default() };
    let (_completion, heard) = complete(&model, "hello", asked);
    assert_eq!(rest(&heard).unwrap().1.text, greedily(&bench, PromptFormat::Text, "hello", 20));
    if thimble_host::device().unwrap().report().api == "vulkan" {
        let kept = fs::read_dir(Path::new(&memory).with_file_name("pipelines")).unwrap();
        assert!(kept.count() > 0, "compiled shaders are kept");
    }
    // Measured, and remembered.
    let auto = ModelOptions { backend_memory: Some(memory.clone()), ..options(Backend::Auto) };
    Model::open(bench.text("m.thimble"), auto).unwrap();
    assert!(fs::read_to_string(memory).unwrap().contains("\"why\""));
    // Nor is a GPU looked at for what would not fit the budget with it.
    let cpu = Model::open(bench.text("m.thimble"), options(Backend::Cpu)).unwrap().info().unwrap();
    let tight = Some(cpu.file_bytes + cpu.state_bytes);
    for (budget_bytes, looked) in [(tight, false), (Some(1 << 30), true)] {
        let memory = bench.text("budget.json");
        let auto =
            ModelOptions { budget_bytes, backend_memory: Some(memory.clone()), ..options(Backend::Auto) };
        let info = Model::open(bench.text("m.thimble"), auto).unwrap().info().unwrap();
        assert_eq!((Path::new(&memory).exists(), looked || info.gpu_bytes == 0), (looked, true));
    }
    let gpu = ModelOptions { budget_bytes: tight, ..options(Backend::Gpu) };
    assert!(matches!(Model::open(bench.text("m.thimble"), gpu), Err(ApiError::TooLarge { .. })));
}
