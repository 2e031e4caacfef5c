//! A server in a thread of this process.

use crate::client::{Reply, request};
use crate::tiny;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use thimble_converter::{BlockType, ConversionOptions, convert};
use thimble_files::MappedModel;
use thimble_host::{Generator, InferencePlan, InferenceSettings, SpinPool, generator, slots};
use thimble_runtime::format::ModelFile;
use thimble_serve::{ServeOptions, ServedModel, Server, SessionSlot, Stopper};

/// Context of each slot, tokens.
pub(crate) const CONTEXT: usize = 400;
/// The longest context of the model, tokens: an answer of this length outlasts a test.
pub(crate) const LONGEST: usize = 60_000;
/// The model's name.
pub(crate) const NAME: &str = "tiny";

/// A server that stops when it is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

/// A server with two slots.
pub(crate) fn serve() -> Served {
    serve_with(2, |_| {})
}

/// A server with so many slots and these changes to its options.
pub(crate) fn serve_with(count: usize, change: impl FnOnce(&mut ServeOptions)) -> Served {
    serve_long(count, CONTEXT, change)
}

/// The same with a context of so many tokens.
pub(crate) fn serve_long(count: usize, context: usize, change: impl FnOnce(&mut ServeOptions)) -> Served {
    let mut options = ServeOptions::new("127.0.0.1:0".parse().unwrap());
    options.logs = false;
    change(&mut options);
    let server = Server::bind(options).unwrap();
    let (address, stopper) = (server.address(), server.stopper());
    let thread = std::thread::spawn(move || {
        let file = model().file().unwrap();
        let settings = InferenceSettings { context: Some(context), ..settings(Some(count)) };
        let plan = InferencePlan::new(file.config(), &settings).unwrap();
        let mut memory = plan.allocate().unwrap();
        let pool = SpinPool::new(1).unwrap();
        let mut slots = slots(&file, &plan, &mut memory, &pool).unwrap();
        let model = ServedModel { file, name: NAME.to_owned() };
        server.run(model, &mut slots, false).unwrap();
    });
    Served { address, stopper, thread: Some(thread) }
}

/// A server whose only slot is a session.
pub(crate) fn serve_session() -> Served {
    let mut options = ServeOptions::new("127.0.0.1:0".parse().unwrap());
    options.logs = false;
    let server = Server::bind(options).unwrap();
    let (address, stopper) = (server.address(), server.stopper());
    let thread = std::thread::spawn(move || {
        with_session(|file, session| {
            let model = ServedModel { file: *file, name: NAME.to_owned() };
            server.run(model, &mut SessionSlot::new(session), false).unwrap();
        });
    });
    Served { address, stopper, thread: Some(thread) }
}

impl Served {
    /// Posts JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        request(
            self.address,
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Posts JSON to the chat, which succeeds.
    #[track_caller]
    pub(crate) fn chat(&self, body: &Value) -> Value {
        let reply = self.post("/v1/chat/completions", body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// Posts JSON to the chat, which streams; each event's data but the last, which is `[DONE]`.
    #[track_caller]
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = true.into();
        let reply = self.post(path, &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        let mut events: Vec<&str> = reply.text_ref().split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"));
        events
            .iter()
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect()
    }

    /// Gets a path.
    pub(crate) fn get(&self, path: &str) -> Reply {
        request(self.address, "GET", path, &[], b"")
    }

    /// The value of a metric.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("thimble_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }

    /// Waits until a metric has a value; the test's own limit of time ends a wait for nothing.
    pub(crate) fn wait_for(&self, name: &str, fits: impl Fn(u64) -> bool) {
        while !fits(self.metric(name)) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_none_or(|ended| ended.is_ok()), "the server panicked");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

fn settings(sequences: Option<usize>) -> InferenceSettings {
    InferenceSettings {
        context: Some(CONTEXT),
        threads: Some(1),
        batch: Some(64),
        sequences,
        ..InferenceSettings::default()
    }
}

/// The model.
pub(crate) fn model() -> &'static MappedModel {
    static MODEL: OnceLock<MappedModel> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("hf");
        std::fs::create_dir(&source).unwrap();
        let mut folder_of_model = tiny::Folder::new(tiny::ODD, BlockType::F32);
        folder_of_model.config["max_position_embeddings"] = LONGEST.into();
        folder_of_model.write(&source, 1);
        converted(&source, &folder.path().join("tiny.thimble"))
    })
}

fn converted(source: &Path, target: &Path) -> MappedModel {
    convert(source, target, &ConversionOptions::default(), &mut |_| {}).unwrap();
    MappedModel::read(target).unwrap()
}

/// Runs `work` on a session of its own.
pub(crate) fn with_session<T>(work: impl FnOnce(&ModelFile<'_>, &mut Generator<'_>) -> T) -> T {
    let file = model().file().unwrap();
    let plan = InferencePlan::new(file.config(), &settings(None)).unwrap();
    let mut memory = plan.allocate().unwrap();
    let pool = SpinPool::new(1).unwrap();
    let mut session = generator(&file, &plan, &mut memory, &pool).unwrap();
    work(&file, &mut session)
}
