//! `thimble embed`: texts to vectors.

mod output;
mod texts;

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::machine::MachineFlags;
use crate::model::{Location, ModelFlags};
use crate::workspace::{self, Mapped, Workspace};
use crate::{progress, terminal};
use clap::{Args, ValueEnum};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use texts::Text;
use thimble_host::{InferenceSettings, embed};
use thimble_runtime::Token;
use thimble_runtime::embedding::Pooling;
use thimble_runtime::format::ModelFile;
use thimble_runtime::tokenizer::Specials;

/// `thimble embed`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// Texts to embed, each in quotes
    #[arg(value_name = "TEXT", conflicts_with = "input")]
    texts: Vec<String>,
    /// A file with a text on each line, or, if its name ends in .jsonl, an object with "text" on each line; `-` reads lines
    /// from stdin
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How the states of a text's tokens become one vector
    #[arg(long, value_enum, value_name = "KIND", default_value = "mean")]
    pooling: PoolingKind,
    /// Subtract the mean of all vectors, and scale them to length 1 again: similarities spread out
    #[arg(long)]
    center: bool,
    /// Rank the texts by their cosine similarity to this text, instead of printing vectors
    #[arg(long, value_name = "TEXT", conflicts_with = "format", allow_hyphen_values = true)]
    query: Option<String>,
    /// Cut texts that are longer than the context, instead of failing
    #[arg(long)]
    truncate: bool,
    /// What to print: a line of JSON for each text, or one NumPy array of all vectors
    #[arg(long, value_enum, value_name = "NAME", default_value = "jsonl")]
    format: Format,
    #[command(flatten)]
    machine: MachineFlags,
}

/// [`Pooling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PoolingKind {
    /// The mean over all tokens
    Mean,
    /// The state of the last token
    Last,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// {"text": "...", "embedding": [...]} for each text
    Jsonl,
    /// A NumPy file of f32, one row for each text
    Npy,
}

/// Which model on which texts.
pub(crate) struct Job {
    location: Location,
    flags: Flags,
}

impl Job {
    /// Locates the model.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let location = flags.model.location()?;
        if flags.texts.is_empty() && flags.input.is_none() {
            return Err(Failure::Usage(
                "there is no text to embed: give texts after the model, as in `thimble embed MODEL \"A text\"`, or --input FILE"
                    .to_string(),
            ));
        }
        if flags.format == Format::Npy && std::io::stdout().is_terminal() {
            return Err(Failure::Usage(
                "--format npy writes binary data: redirect it to a file, as in `> vectors.npy`".to_string(),
            ));
        }
        Ok(Job { location, flags })
    }

    /// Writes a vector for each text, or ranks the texts.
    pub(crate) fn run(self, stdout: &mut dyn Write) -> Result<(), Failure> {
        let texts = match &self.flags.input {
            Some(path) => texts::read(path)?,
            None => texts::arguments(&self.flags.texts),
        };
        let mapped = Mapped::open(&self.location.fetch(Notes::Hidden)?)?;
        let file = mapped.file()?;
        let query = self.flags.query.as_ref().map(|query| Text::query(query));
        let mut encoded = Vec::with_capacity(texts.len() + 1);
        for text in texts.iter().chain(&query) {
            encoded.push(self.encode(&file, text)?);
        }
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(1);
        let context = longest.clamp(1, file.config().context);
        let adapters = Adapters::open(&self.flags.machine.compute.adapters, &file)?;
        let needed = InferenceSettings {
            adapter_rank: adapters.rank()?,
            context: Some(context),
            ..InferenceSettings::default()
        };
        let plan = mapped.plan(&self.flags.machine.settings(needed))?;
        self.fit(&mut encoded, texts.iter().chain(&query), plan.context())?;
        let mut workspace = Workspace::new(&plan)?;
        let mut generator = workspace.generator(&file, &plan, &adapters)?;
        let pooling = match self.flags.pooling {
            PoolingKind::Mean => Pooling::Mean,
            PoolingKind::Last => Pooling::Last,
        };
        let bar = progress::steps("embedding", encoded.len() as u64);
        // Lines stream, unless a vector depends on the others.
        let streams = self.flags.format == Format::Jsonl && query.is_none() && !self.flags.center;
        let mut vectors = Vec::new();
        for (index, tokens) in encoded.iter().enumerate() {
            let vector = embed(&mut generator, tokens, pooling).map_err(Failure::other)?;
            match texts.get(index) {
                Some(text) if streams => output::write_line(stdout, text, &vector)?,
                _ => vectors.push(vector),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if streams {
            return Ok(());
        }
        let ranked = query.is_some().then(|| vectors.pop()).flatten();
        let mean = self.flags.center.then(|| output::mean(&vectors, file.config().hidden));
        for vector in vectors.iter_mut() {
            output::center(vector, mean.as_deref());
        }
        if let Some(mut query) = ranked {
            output::center(&mut query, mean.as_deref());
            return output::write_ranking(stdout, &texts, &vectors, &query);
        }
        match self.flags.format {
            Format::Npy => output::write_npy(stdout, &vectors, file.config().hidden),
            Format::Jsonl => {
                let mut lines = texts.iter().zip(&vectors);
                lines.try_for_each(|(text, vector)| output::write_line(stdout, text, vector))
            }
        }
    }

    /// The tokens of a text by itself.
    fn encode(&self, file: &ModelFile<'_>, text: &Text) -> Result<Vec<Token>, Failure> {
        let tokens = workspace::encode_text(file, text.text(), Specials::Escape)?;
        match tokens.is_empty() {
            true => Err(text.failure("it is empty, expected at least one character")),
            false => Ok(tokens),
        }
    }

    /// Cuts texts to `room` tokens if the user asked for that.
    fn fit<'t>(
        &self,
        encoded: &mut [Vec<Token>],
        texts: impl Iterator<Item = &'t Text>,
        room: usize,
    ) -> Result<(), Failure> {
        let mut cut = 0;
        for (tokens, text) in encoded.iter_mut().zip(texts).filter(|(tokens, _)| tokens.len() > room) {
            if !self.flags.truncate {
                let found = tokens.len();
                return Err(text.failure(&format!(
                    "it has {found} tokens, but the context has room for {room}: divide it, or cut it with --truncate"
                )));
            }
            tokens.truncate(room);
            cut += 1;
        }
        if cut > 0 {
            terminal::note(&format!("({cut} of {} texts cut to {room} tokens)", encoded.len()));
        }
        Ok(())
    }
}
