//! A prediction as text of at most 80 columns.

use super::{ASSUMPTIONS, KernelGroup, Limit, Prediction, TRUST};
use crate::units::grouped;
use std::fmt::{self, Display};

impl Display for KernelGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelGroup::Linears => "linears",
            KernelGroup::Head => "head",
            KernelGroup::AttentionForward => "attention, forward",
            KernelGroup::AttentionBackward => "attention, backward",
            KernelGroup::Norms => "norms",
            KernelGroup::Rotations => "rotations",
            KernelGroup::SwiGlu => "SwiGLU",
            KernelGroup::Loss => "loss",
            KernelGroup::Embedding => "embedding",
            KernelGroup::Optimizer => "optimizer, per pass",
        })
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::TensorCores => "cuBLAS",
            Limit::Memory => "memory",
            Limit::Instructions(unit) => unit,
        })
    }
}

impl Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prediction { sheet, full, documents, .. } = self;
        let tokens = (self.sequences * self.context) as f64;
        writeln!(
            f,
            "\nPredicted, not measured: {}, {} x {} tokens",
            sheet.name,
            self.sequences,
            grouped(self.context as u64)
        )?;
        let length = documents.document_tokens.unwrap_or(self.context);
        writeln!(f, "{:49}documents of", "")?;
        writeln!(f, "  {:<33}{:>13}{:>13}  limit", "ms of a pass", "full context", grouped(length as u64))?;
        let milliseconds = |seconds: f64| format!("{:.2}", 1e3 * seconds);
        let by_group = documents.groups();
        for (group, seconds) in full.groups() {
            let masked = by_group.get(&group).copied().unwrap_or_default();
            let kernels: Vec<_> =
                full.kernels.iter().zip(&documents.kernels).filter(|k| k.0.group == group).collect();
            let limit =
                if let [(only, _)] = kernels.as_slice() { only.limit.to_string() } else { String::new() };
            let line = format!(
                "  {:<33}{:>13}{:>13}  {limit}",
                group.to_string(),
                milliseconds(seconds),
                milliseconds(masked)
            );
            writeln!(f, "{}", line.trim_end())?;
            for (kernel, masked) in kernels.into_iter().filter(|_| limit.is_empty()) {
                writeln!(
                    f,
                    "    {:<31}{:>13}{:>13}  {}",
                    kernel.name,
                    milliseconds(kernel.seconds),
                    milliseconds(masked.seconds),
                    kernel.limit
                )?;
            }
        }
        writeln!(
            f,
            "  {:<33}{:>13}{:>13}",
            "total",
            milliseconds(full.seconds),
            milliseconds(documents.seconds)
        )?;
        let rate = |seconds: f64| grouped((tokens / seconds).round() as u64);
        writeln!(f, "  {:<33}{:>13}{:>13}", "tokens/s", rate(full.seconds), rate(documents.seconds))?;
        let mfu = |share: f64| format!("{:.1}%", 100.0 * share);
        writeln!(f, "  {:<33}{:>13}{:>13}", "MFU, of the dense peak", mfu(full.mfu), mfu(documents.mfu))?;
        for (what, group, published) in [
            ("forward", KernelGroup::AttentionForward, sheet.published_attention.map(|both| both.0)),
            ("backward", KernelGroup::AttentionBackward, sheet.published_attention.map(|both| both.1)),
        ] {
            let found = full.attention_flops_per_second(group) / 1e12;
            let beside = published.map_or(String::new(), |flops| {
                format!(" (published for FlashAttention 2: {:.0})", flops / 1e12)
            });
            writeln!(f, "  attention {what}: {found:.0} TFLOP/s{beside}")?;
        }
        writeln!(
            f,
            "  with FlashAttention 2, same method: {} tokens/s{}",
            grouped(self.flash_attention_2_tokens_per_second.round() as u64),
            self.published_tokens_per_second
                .map_or(String::new(), |rate| format!(" (published: {})", grouped(rate as u64)))
        )?;
        writeln!(
            f,
            "Trust {:.0}% for what memory or cuBLAS limits, {:.0}% for attention. It assumes:",
            100.0 * TRUST.0,
            100.0 * TRUST.1
        )?;
        for assumption in ASSUMPTIONS {
            wrap(f, assumption)?;
        }
        Ok(())
    }
}

/// An item of a list, in lines of at most 80 columns.
fn wrap(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut line = String::from("  -");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > 80 {
            writeln!(f, "{line}")?;
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(f, "{line}")
}
