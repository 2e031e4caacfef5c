//! `thimble serve`: a local server with OpenAI's API.

use crate::adapters::Adapters;
use crate::converted::Notes;
use crate::failure::Failure;
use crate::flags::machine::MachineFlags;
use crate::flags::numbers::at_least_one;
use crate::flags::recipe::bytes;
use crate::model::{Location, ModelFlags};
use crate::workspace::{Mapped, Workspace};
use crate::{input, interrupt, terminal};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use thimble_host::{BackendKind, InferenceSettings};
use thimble_serve::{ApiKey, OptionsError, ServeError, ServeOptions, ServedModel, Server, SessionSlot};

/// Slots if no flag gives a number.
const SLOTS: usize = 4;
/// Longest context of a slot if no flag gives one, tokens.
const CONTEXT: usize = 8192;

/// `thimble serve`.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    model: ModelFlags,
    /// What requests call the model [default: the name that was given, or the name of the file]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Answer N requests at a time; each has a context of its own. A GPU answers one [default: 4, or 1 on a GPU]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    parallel: Option<usize>,
    /// Print nothing but errors: no line for each request
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Who can reach the server.
#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
struct AccessFlags {
    /// Listen at this address; another than that of this machine alone requires a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = address)]
    host: IpAddr,
    /// Listen at this port; 0 lets the system choose
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Serve only requests with this key (Authorization: Bearer KEY). Other users of this machine can see it: prefer a file
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,
    /// Serve only requests with a key of this file, which has one on each line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Accept requests to this name too, such as that of a proxy; may be repeated
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Let pages of this origin use the API, such as http://localhost:3000, or * for all; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
}

/// What requests may take.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Let N requests wait for their turn; more are refused (status 429)
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one, allow_negative_numbers = true)]
    queue: usize,
    /// Longest request, such as 4MB or 512KiB
    #[arg(long, value_name = "SIZE", default_value = "4MB", value_parser = bytes)]
    max_body: u64,
    /// Most connections at a time; the oldest idle one gives way to a new one
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one, allow_negative_numbers = true)]
    connections: usize,
    /// Seconds that a request may take; an answer then ends with what it has
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Seconds that a connection may be idle, and that a header, a body or the reading of an answer may halt
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    /// Seconds that answers may take to end after Ctrl-C; a second Ctrl-C ends the server at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    grace: u64,
}

/// An address, or the name of this machine for itself.
fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        text => text.parse().map_err(|_| "expected an address such as 127.0.0.1 or 0.0.0.0".to_string()),
    }
}

/// Which model, and how.
pub(crate) struct Job {
    location: Location,
    options: ServeOptions,
    flags: Flags,
}

impl Job {
    /// Locates the model and reads the keys; refuses what would open more than was meant.
    pub(crate) fn resolve(flags: Flags) -> Result<Job, Failure> {
        let location = flags.model.location()?;
        let AccessFlags { host, port, api_key, api_key_file, allowed_host, cors } = &flags.access;
        let mut api_keys = api_key.clone();
        if let Some(path) = api_key_file {
            let text = input::file(path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let before = api_keys.len();
            api_keys.extend(lines.map(str::to_string));
            if api_keys.len() == before {
                let path = path.display();
                return Err(Failure::Usage(format!(
                    "--api-key-file: {path} has no key, expected one on each line"
                )));
            }
        }
        let seconds = Duration::from_secs;
        let options = ServeOptions {
            api_keys: api_keys.into_iter().map(ApiKey).collect(),
            allowed_hosts: allowed_host.clone(),
            cors_origins: cors.clone(),
            queue: flags.limits.queue,
            max_body: usize::try_from(flags.limits.max_body).unwrap_or(usize::MAX),
            max_connections: flags.limits.connections,
            request_time: seconds(flags.limits.timeout),
            idle_time: seconds(flags.limits.idle),
            grace_time: seconds(flags.limits.grace),
            logs: !flags.quiet,
            ..ServeOptions::new(SocketAddr::new(*host, *port))
        };
        options.check().map_err(|error| refused(&error))?;
        Ok(Job { location, options, flags })
    }

    /// Serves until Ctrl-C.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mapped = Mapped::open(&self.location.fetch(Notes::Shown)?)?;
        let file = mapped.file()?;
        let Flags { machine, name, parallel, quiet, .. } = &self.flags;
        let adapters = Adapters::open(&machine.compute.adapters, &file)?;
        let needed = InferenceSettings {
            adapter_rank: adapters.rank()?,
            context: Some(file.config().context.min(CONTEXT)),
            ..InferenceSettings::default()
        };
        let settings = machine.settings(needed);
        let plan = mapped.plan(&settings)?;
        let gpu = plan.backend() != BackendKind::Cpu;
        let slots = match (*parallel, gpu) {
            (None, true) | (Some(1), true) => 1,
            (parallel, false) => parallel.unwrap_or(SLOTS),
            (Some(_), true) => {
                let reason =
                    "--parallel: a GPU answers one request at a time; leave it out, or use --backend cpu";
                return Err(Failure::Usage(reason.to_string()));
            }
        };
        let server = Server::bind(self.options).map_err(|error| match error {
            ServeError::Options(error) => refused(&error),
            other => Failure::other(other),
        })?;
        let name = name.clone().unwrap_or_else(|| self.location.name());
        let (address, context) = (server.address(), plan.context());
        // After the workspace: a server that lacks the memory never says that it serves.
        let announce = |name: &str| {
            if !quiet {
                terminal::note(&format!(
                    "{name} is served at http://{address}: {slots} at a time, {context} tokens of context each; Ctrl-C ends it"
                ));
            }
        };
        let model = ServedModel { file, name };
        interrupt::leave_to_server();
        if gpu {
            let mut workspace = Workspace::new(&plan)?;
            let mut session = workspace.generator(&file, &plan, &adapters)?;
            announce(&model.name);
            return server.run(model, &mut SessionSlot::new(&mut session), true).map_err(Failure::other);
        }
        let plan = mapped.plan(&InferenceSettings { sequences: Some(slots), ..settings })?;
        let mut workspace = Workspace::new(&plan)?;
        let mut slots = workspace.slots(&file, &plan, &adapters)?;
        announce(&model.name);
        server.run(model, &mut slots, true).map_err(Failure::other)
    }
}

/// In the words of the flags.
fn refused(error: &OptionsError) -> Failure {
    let flag = match error {
        OptionsError::NoKey(_) => "--host: ",
        OptionsError::Key => "--api-key: ",
        OptionsError::Origin(_) => "--cors: ",
        OptionsError::Host(_) => "--allowed-host: ",
    };
    let remedy = match error {
        OptionsError::NoKey(_) => ": give one with --api-key-file FILE or --api-key KEY",
        _ => "",
    };
    Failure::Usage(format!("{flag}{error}{remedy}"))
}
