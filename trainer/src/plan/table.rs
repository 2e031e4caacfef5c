//! A plan as text of at most 80 columns.

use super::{DeviceTarget, MeasuredThroughput, StagePlan, TrainingPlan};
use crate::recipe::Precision;
use crate::schedule::ScheduleKind;
use crate::units::{bytes, grouped, si};
use std::fmt::{self, Display, Write};

/// Columns of an indented sentence.
const WRAPPED: usize = 74;

impl Display for TrainingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = match (self.device, self.precision) {
            (DeviceTarget::Cpu, _) => "f32 on the CPU",
            (DeviceTarget::Cuda, Precision::F32) => "f32 on a GPU",
            (DeviceTarget::Cuda, Precision::Bf16) => "bf16 on a GPU",
        };
        writeln!(f, "{}, {device}", self.recipe)?;
        self.write_parameters(f)?;
        self.write_stages(f)?;
        self.write_flops(f)?;
        self.write_memory(f)?;
        self.write_prediction(f)?;
        self.write_time(f)
    }
}

impl TrainingPlan {
    fn write_parameters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = &self.parameters;
        writeln!(f, "\nParameters")?;
        let embedding = if parameters.head == 0 { "embedding, also the head" } else { "embedding" };
        let parts = [
            (embedding, parameters.embedding),
            ("head", parameters.head),
            ("attention", parameters.attention),
            ("ffn", parameters.ffn),
            ("norms", parameters.norms),
        ];
        for (name, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            let share = 100.0 * count as f64 / parameters.total as f64;
            writeln!(f, "  {name:<34}{:>16}{share:>7.1}%", grouped(count))?;
        }
        writeln!(f, "  {:<34}{:>16}", "total", grouped(parameters.total))?;
        if parameters.adapters > 0 {
            writeln!(f, "  {:<34}{:>16}", "adapters beside it (LoRA)", grouped(parameters.adapters))?;
        }
        if parameters.trained != parameters.total {
            let share = 100.0 * parameters.trained as f64 / parameters.total as f64;
            writeln!(f, "  {:<34}{:>16}{share:>7.1}%", "trained", grouped(parameters.trained))?;
        }
        Ok(())
    }

    fn write_stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["tokens", "steps", "context", "batch"];
        writeln!(f, "\n{:<16}{:>9}{:>12}{:>10}{:>10}", "Stages", heads[0], heads[1], heads[2], heads[3])?;
        for stage in &self.stages {
            writeln!(
                f,
                "  {:<14}{:>9}{:>12}{:>10}{:>10}",
                short(&stage.name, 13),
                or_unknown(stage.tokens, |tokens| si(tokens as f64)),
                or_unknown(stage.steps, grouped),
                grouped(stage.context as u64),
                format!("{}x{}", stage.micro_batch, stage.accumulate),
            )?;
        }
        let tokens = or_unknown(self.tokens, |tokens| si(tokens as f64));
        writeln!(f, "  {:<14}{tokens:>9}{:>12}", "total", or_unknown(self.steps, grouped))?;
        if let Some(why) = &self.examples_missing {
            writeln!(f, "  Tokens, and steps of epochs, depend on the examples:")?;
            wrapped(f, why)?;
        }
        let missing: std::collections::BTreeSet<&String> =
            self.stages.iter().flat_map(|stage| &stage.sets_missing).collect();
        if !missing.is_empty() {
            writeln!(f, "  Epochs of sets that do not exist yet; give their sizes:")?;
        }
        for set in missing {
            let path = self.source.data.sets.get(set).map(|path| path.display().to_string());
            writeln!(f, "    --set-tokens {set}=N  ({})", short(&path.unwrap_or_default(), 40))?;
        }
        writeln!(f, "\n{:<16}steps of warm-up and of cool-down", "Learning rate")?;
        self.stages
            .iter()
            .try_for_each(|stage| writeln!(f, "  {:<14}{}", short(&stage.name, 13), rates(stage)))
    }

    fn write_flops(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nFLOPs per token, forward and backward")?;
        let mut contexts: Vec<&StagePlan> = self.stages.iter().collect();
        contexts.sort_by_key(|stage| stage.context);
        contexts.dedup_by_key(|stage| stage.context);
        for stage in contexts {
            let flops = &stage.flops_per_token;
            let total = flops.causal() as f64;
            writeln!(f, "  at context {}", grouped(stage.context as u64))?;
            for (name, count) in [
                ("linears", flops.linears),
                ("head", flops.head),
                ("attention, causal half", flops.attention_causal),
            ] {
                writeln!(f, "    {name:<32}{:>16}{:>7.1}%", si(count as f64), 100.0 * count as f64 / total)?;
            }
            writeln!(f, "    {:<32}{:>16}", "total, attention by causal half", si(total))?;
            writeln!(f, "    {:<32}{:>16}", "total, attention whole", si(flops.whole() as f64))?;
        }
        if let (Some(causal), Some(whole)) = (self.flops_causal, self.flops_whole) {
            writeln!(f, "  whole run: {causal:.3e} by causal half, {whole:.3e} with attention whole")?;
        }
        Ok(())
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(stage) = self.stages.iter().max_by_key(|stage| stage.memory.total) else { return Ok(()) };
        let memory = &stage.memory;
        let tokens = grouped((stage.sequences * stage.context) as u64);
        writeln!(
            f,
            "\nMemory for {} x {} = {tokens} tokens at once",
            stage.sequences,
            grouped(stage.context as u64)
        )?;
        let checkpointing = match self.source.compute.activation_checkpointing {
            true => "activations, checkpointed",
            false => "activations",
        };
        let weights = match (self.device, self.precision) {
            (DeviceTarget::Cuda, Precision::Bf16) => "weights, bf16 and f32",
            _ => "weights, f32",
        };
        for (name, size) in [
            (weights, memory.weights),
            ("gradients, f32", memory.gradients),
            ("AdamW's moments, f32", memory.moments),
            (checkpointing, memory.activations),
            ("logits, one chunk", memory.logits),
            ("scratch", memory.scratch),
            ("batch, rotations, sums of parts", memory.workspace),
            ("total", memory.total),
        ]
        .into_iter()
        .filter(|(_, size)| *size > 0)
        {
            writeln!(f, "  {name:<34}{:>16}", bytes(size))?;
        }
        if let Some(available) = self.memory_available {
            writeln!(f, "  {:<34}{:>16}", "available", bytes(available))?;
        }
        if let Some(most) = stage.largest_micro_batch {
            writeln!(f, "  {:<34}{:>16}", "largest micro_batch that fits", grouped(most as u64))?;
        }
        let disk = bytes(self.checkpoint_bytes * self.checkpoints as u64);
        writeln!(f, "Disk: {} per checkpoint, {disk} for {}", bytes(self.checkpoint_bytes), self.checkpoints)
    }

    /// Of the stage with the most memory, as above.
    fn write_prediction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.stages.iter().max_by_key(|stage| stage.memory.total);
        match stage.and_then(|stage| stage.prediction.as_ref()) {
            Some(prediction) => writeln!(f, "{prediction}"),
            None => Ok(()),
        }
    }

    fn write_time(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rates: Vec<f64> = self.stages.iter().filter_map(|stage| stage.tokens_per_second).collect();
        rates.sort_by(f64::total_cmp);
        let (Some(slowest), Some(fastest)) = (rates.first(), rates.last()) else {
            return writeln!(f, "Time: give --tokens-per-second");
        };
        if let Some(measured) = &self.measured {
            let MeasuredThroughput { sequences, context, .. } = measured;
            writeln!(
                f,
                "Speed measured on this machine: passes over {sequences} x {} random tokens",
                grouped(*context as u64)
            )?;
        }
        let [slowest, fastest] = [slowest, fastest].map(|rate| grouped(rate.round() as u64));
        let rate = if slowest == fastest { slowest } else { format!("{slowest} to {fastest}") };
        let mut line = format!("Time at {rate} tokens/s: ");
        match self.hours {
            Some(hours) => write!(line, "{}", duration(hours))?,
            None if self.examples_missing.is_some() => line.push_str("not known without the examples"),
            None => line.push_str("not known without the sets' sizes"),
        }
        if let Some(cost) = self.cost {
            let price = self.assumptions.price_per_hour.unwrap_or(0.0);
            write!(line, ", {} at {price} per hour", format_cost(cost))?;
        }
        writeln!(f, "{line}")?;
        for stage in &self.stages {
            if let (Some(causal), Some(whole)) = (stage.mfu_causal, stage.mfu_whole) {
                let (causal, whole) = (100.0 * causal, 100.0 * whole);
                let name = short(&stage.name, 14);
                writeln!(
                    f,
                    "  MFU in {name}: {causal:.1}% by causal half, {whole:.1}% with attention whole"
                )?;
            }
        }
        Ok(())
    }
}

/// The shape, the rates, and the steps of warm-up and cool-down.
fn rates(stage: &StagePlan) -> String {
    let schedule = &stage.schedule;
    let mut text = match schedule.kind {
        ScheduleKind::Constant => format!("constant {:e}", schedule.peak),
        ScheduleKind::Cosine => format!("cosine {} to {}", rate(schedule.peak), rate(schedule.floor)),
        ScheduleKind::Trapezoidal => {
            format!("trapezoidal {} to {}", rate(schedule.peak), rate(schedule.floor))
        }
    };
    match (schedule.warmup_share, stage.steps) {
        (Some(share), None) => text.push_str(&format!(", warm-up {:.0}%", share * 100.0)),
        (_, steps) if schedule.warming(steps.unwrap_or(0)) > 0 => {
            text.push_str(&format!(", warm-up {}", grouped(schedule.warming(steps.unwrap_or(0)))));
        }
        _ => {}
    }
    if let (ScheduleKind::Trapezoidal, Some(steps)) = (schedule.kind, stage.steps) {
        text.push_str(&format!(", cool-down {}", grouped(schedule.cooling(steps))));
    }
    text
}

fn rate(rate: f64) -> String {
    if rate == 0.0 { "0".to_owned() } else { format!("{rate:e}") }
}

/// Writes a sentence in lines that fit.
fn wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WRAPPED {
            writeln!(f, "    {line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&short(word, WRAPPED));
    }
    writeln!(f, "    {line}")
}

fn short(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['~']).collect(),
        false => text.to_owned(),
    }
}

fn or_unknown<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or("?".to_owned(), show)
}

fn duration(hours: f64) -> String {
    match hours {
        h if h >= 48.0 => format!("{h:.1} hours ({:.1} days)", h / 24.0),
        h if h >= 2.0 => format!("{h:.1} hours"),
        h if h * 60.0 >= 2.0 => format!("{:.1} minutes", h * 60.0),
        h => format!("{:.1} seconds", h * 3600.0),
    }
}

fn format_cost(cost: f64) -> String {
    if cost >= 100.0 { grouped(cost.round() as u64) } else { format!("{cost:.2}") }
}
