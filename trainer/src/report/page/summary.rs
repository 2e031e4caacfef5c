//! What the run is, and what it took.

use super::run_files::RunFiles;
use super::view::{Fact, counted};
use crate::recipe::{HeldOut, Length, ObjectiveKeys, SftTargets, Stage, TrainingRecipe};
use crate::units::{grouped, si, span};
use std::path::{Path, PathBuf};

/// One sentence: objective, model and state.
pub(super) fn lead(run: &RunFiles) -> String {
    let what = match &run.recipe {
        Some(recipe) => match (&recipe.objective, &recipe.init_from) {
            (objective, Some(model)) => format!("{} of {model}", title(objective)),
            (objective, None) => format!("{} of a new model", title(objective)),
        },
        None => "A run of thimble-train".to_owned(),
    };
    format!("{what}: {}.", state(run))
}

fn title(objective: &ObjectiveKeys) -> &'static str {
    match objective {
        ObjectiveKeys::Pretrain => "Training on text",
        ObjectiveKeys::Sft(_) => "Instruction tuning",
        ObjectiveKeys::Dpo(_) => "Preference tuning",
        ObjectiveKeys::Distill(_) => "Quantization-aware training",
    }
}

fn state(run: &RunFiles) -> String {
    let done = run.history.last_step();
    match run.history.starts.last() {
        Some(start) if done >= start.total_steps => format!("finished after {}", counted(done, "step")),
        Some(start) => {
            format!("{} of {} steps done, not finished", grouped(done), grouped(start.total_steps))
        }
        None => format!("{} done", counted(done, "step")),
    }
}

/// The title of the loss's chart.
pub(super) fn loss_title(recipe: Option<&TrainingRecipe>) -> &'static str {
    let quantizes = recipe.is_some_and(|recipe| recipe.quantization().is_some());
    match recipe.map(|recipe| &recipe.objective) {
        Some(ObjectiveKeys::Dpo(_)) => "Loss (mean over pairs)",
        Some(ObjectiveKeys::Distill(_)) => "KL divergence from the teacher (nats per token)",
        Some(ObjectiveKeys::Sft(_)) => "Loss (nats per target)",
        Some(ObjectiveKeys::Pretrain) if quantizes => {
            "Loss; of stages that quantize the KL divergence from the teacher (nats per token)"
        }
        Some(ObjectiveKeys::Pretrain) | None => "Loss (nats per token)",
    }
}

/// The numbers that come first.
pub(super) fn tiles(run: &RunFiles) -> Vec<Fact> {
    let history = &run.history;
    let mut tiles = Vec::new();
    let held_out = run.comparable_validation();
    if let (Some(first), Some(last)) = (held_out.first(), held_out.last()) {
        let at = match first.step {
            0 => "before".to_owned(),
            step => format!("at step {step}"),
        };
        let value = format!("{:.3}", last.loss);
        tiles.push(Fact::new("Held-out loss", value).with_note(format!("{:.3} {at}", first.loss)));
    }
    if let (Some(first), Some(last)) = (history.steps.first(), history.steps.last()) {
        let note = format!("{:.3} in the first step", first.loss);
        tiles.push(Fact::new("Training loss", format!("{:.3}", last.loss)).with_note(note));
        let steps = Fact::new("Steps", grouped(last.step));
        tiles.push(match history.starts.last() {
            Some(start) => steps.with_note(format!("of {}", grouped(start.total_steps))),
            None => steps,
        });
        tiles.push(Fact::new(
            "Tokens",
            match last.tokens {
                few @ 0..10_000 => grouped(few),
                many => si(many as f64),
            },
        ));
        let seconds: f64 = history.steps.iter().map(|step| step.seconds).filter(|s| s.is_finite()).sum();
        let hours = format!("{:.2} device hours", seconds / 3600.0);
        tiles.push(Fact::new("Time in steps", span(seconds)).with_note(hours));
        let computed: u64 = last.tokens - first.tokens.min(last.tokens);
        let after_first: f64 =
            history.steps.iter().skip(1).map(|step| step.seconds).filter(|s| s.is_finite()).sum();
        let speed = if after_first > 0.0 { computed as f64 / after_first } else { last.tokens_per_second };
        if speed.is_finite() {
            tiles.push(Fact::new("Tokens per second", grouped(speed.round() as u64)));
        }
    }
    tiles
}

/// What is trained, on what, and where.
pub(super) fn facts(run: &RunFiles) -> Vec<Fact> {
    let mut facts = Vec::new();
    let start = run.history.starts.last();
    if let Some(recipe) = &run.recipe {
        let source = recipe.init_from.as_deref().unwrap_or("random weights");
        let size = start.map(|start| format!(", {} parameters", grouped(start.parameters)));
        facts.push(Fact::new("Model", format!("{source}{}", size.unwrap_or_default())));
        facts.push(Fact::new("Objective", objective(&recipe.objective)));
        facts.push(Fact::new("Trained", trained(recipe, start.map(|start| start.trainable))));
        facts.push(Fact::new("Data", data(recipe)));
        for stage in &recipe.stages {
            facts.push(Fact::new(&format!("Stage {}", stage.name), stage_line(stage, &recipe.objective)));
        }
    }
    let mut devices: Vec<String> = Vec::new();
    for start in &run.history.starts {
        let device = format!("{}, {}", start.device, counted(start.threads, "thread"));
        if !devices.contains(&device) {
            devices.push(device);
        }
    }
    if !devices.is_empty() {
        facts.push(Fact::new("Device", devices.join("; ")));
    }
    if run.history.starts.len() > 1 {
        let steps: Vec<String> = run.history.starts.iter().skip(1).map(|start| grouped(start.step)).collect();
        facts.push(Fact::new("Resumed", format!("after step {}", steps.join(", "))));
    }
    if let Some(start) = start {
        facts.push(Fact::new("Program", format!("thimble-train {}", start.version)));
    }
    facts
}

fn objective(objective: &ObjectiveKeys) -> String {
    match objective {
        ObjectiveKeys::Pretrain => "next-token prediction (pretrain)".to_owned(),
        ObjectiveKeys::Sft(keys) => {
            let targets = match keys.targets {
                SftTargets::Assistant => "the assistant's answers and their end tokens",
                SftTargets::All => "every token",
            };
            let packing = if keys.packing { "packed" } else { "padded" };
            format!("supervised fine-tuning (sft) on {targets}, {packing}")
        }
        ObjectiveKeys::Dpo(keys) => {
            let loss = format!("{:?}", keys.loss).to_lowercase();
            format!("direct preference optimization (dpo), loss {loss}, beta {}", keys.beta)
        }
        ObjectiveKeys::Distill(keys) => {
            format!("self-distillation (distill) through the rounding of {}", keys.quant)
        }
    }
}

fn trained(recipe: &TrainingRecipe, trainable: Option<u64>) -> String {
    let what = match (&recipe.adapter, recipe.freeze.as_slice()) {
        (Some(adapter), _) => format!("adapters of rank {} (LoRA)", adapter.rank),
        (None, []) => "all weights".to_owned(),
        (None, frozen) => format!("all weights but {}", frozen.join(", ")),
    };
    let count = trainable.map(|trainable| format!(", {} numbers", grouped(trainable)));
    format!("{what}{}", count.unwrap_or_default())
}

fn data(recipe: &TrainingRecipe) -> String {
    let names = |paths: &[PathBuf]| {
        let names: Vec<String> = paths.iter().map(|path| file_name(path)).collect();
        names.join(", ")
    };
    let mut parts = Vec::new();
    if !recipe.data.files.is_empty() {
        parts.push(names(&recipe.data.files));
    }
    for (name, path) in &recipe.data.sets {
        parts.push(format!("{name} ({})", path.display()));
    }
    match &recipe.data.held_out {
        Some(HeldOut::Share(share)) => parts.push(format!("{:.1}% of it held out", share * 100.0)),
        Some(HeldOut::Files(files)) => parts.push(format!("held out: {}", names(files))),
        None => {}
    }
    parts.join("; ")
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.display().to_string())
}

fn stage_line(stage: &Stage, objective: &ObjectiveKeys) -> String {
    let length = match stage.length {
        Length::Steps(steps) => counted(steps, "step"),
        Length::Tokens(tokens) => counted(tokens, "token"),
        Length::Epochs(1.0) => "1 epoch".to_owned(),
        Length::Epochs(epochs) => format!("{epochs} epochs"),
    };
    let thing = if matches!(objective, ObjectiveKeys::Dpo(_)) { "pair" } else { "sequence" };
    let sequences = counted((stage.micro_batch * stage.accumulate) as u64, thing);
    let context = grouped(stage.context as u64);
    let peak = stage.schedule.peak;
    let quantize = stage
        .quantize
        .as_ref()
        .map(|keys| format!(", self-distillation through the rounding of {}", keys.quant));
    let quantize = quantize.unwrap_or_default();
    format!("{length}, {sequences} of up to {context} tokens per step, peak learning rate {peak:e}{quantize}")
}
