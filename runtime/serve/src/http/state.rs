//! What all requests share.

use super::body::BodyMemory;
use super::guard::Guard;
use super::preparations::{Lane, Preparation, PreparationSender};
use crate::answer::Started;
use crate::api::response::now;
use crate::control::Control;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::model::ServedModel;
use crate::options::ServeOptions;
use crate::prepare::{Prepared, Preparer, Reading};
use crate::schedule::{ClientId, Event, Job, QueueCount};
use crate::vocabulary::TokenTable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Events that may wait for a client. One that is so many tokens behind is dropped.
const EVENTS: usize = 1024;

/// Least time for a request's turn to be prepared: what has less time for its answer gets the beginning of one.
const PREPARING: Duration = Duration::from_secs(5);

/// The server.
pub(crate) struct App {
    pub(crate) options: ServeOptions,
    pub(crate) guard: Guard,
    pub(crate) bodies: BodyMemory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) control: Arc<Control>,
    pub(crate) table: Arc<TokenTable>,
    pub(crate) queue: Arc<QueueCount>,
    pub(crate) preparations: PreparationSender,
    pub(crate) jobs: Sender<Job>,
    /// The model's name.
    pub(crate) model: String,
    /// When the server began, seconds since 1970.
    pub(crate) created: u64,
    /// Capacity of a slot in tokens.
    pub(crate) context: usize,
    /// Number of slots.
    pub(crate) slots: usize,
}

/// A request whose jobs wait or run.
pub(crate) struct Scheduled {
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) started: Vec<Started>,
    pub(crate) reading: Reading,
    /// Tokens of its prompts.
    pub(crate) prompt_tokens: usize,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    /// The texts of its prompts, if they are repeated.
    pub(crate) echo: Vec<Option<String>>,
}

impl App {
    /// A server of `model`, whose requests go through these channels to so many slots, each of so many tokens.
    pub(crate) fn new(
        options: ServeOptions,
        model: &ServedModel<'_>,
        (preparations, jobs): (PreparationSender, Sender<Job>),
        (control, metrics): (Arc<Control>, Arc<Metrics>),
        (slots, context): (usize, usize),
    ) -> App {
        App {
            guard: Guard::new(&options),
            bodies: BodyMemory::new(options.max_body),
            queue: QueueCount::new(options.queue, context),
            options,
            metrics,
            control,
            table: Arc::new(TokenTable::of(&model.file)),
            preparations,
            jobs,
            model: model.name.clone(),
            created: now(),
            slots,
            context,
        }
    }

    /// Refuses another model than the one that is served; a request need not name one.
    pub(crate) fn check_model(&self, model: Option<&str>) -> Result<(), ApiError> {
        match model {
            None | Some("") => Ok(()),
            Some(model) if model == self.model => Ok(()),
            Some(model) => Err(ApiError::no_model(model, &self.model)),
        }
    }

    /// Prepares a request on the thread of its lane, when it is the client's turn.
    pub(crate) async fn prepare(
        &self,
        lane: Lane,
        client: ClientId,
        work: impl FnOnce(&Preparer<'_>) -> Result<Prepared, ApiError> + Send + 'static,
    ) -> Result<Prepared, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let metrics = Arc::clone(&self.metrics);
        let preparation: Preparation = Box::new(move |preparer| {
            if sender.is_closed() {
                return;
            }
            let prepared = catch_unwind(AssertUnwindSafe(|| work(preparer))).unwrap_or_else(|_| {
                metrics.panics.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Err(ApiError::internal(&"it panicked, which is a bug"))
            });
            // Nobody waits any more if the client left.
            let _ = sender.send(prepared);
        });
        let full = |_| ApiError::queue_full(self.options.queue);
        self.preparations.send(lane, client, preparation).map_err(full)?;
        let prepared = timeout(self.options.request_time.max(PREPARING), receiver).await;
        prepared.map_err(|_| ApiError::waited_too_long())?.map_err(|_| ApiError::stopping())?
    }

    /// Hands the jobs of a request to the scheduler.
    pub(crate) fn schedule(&self, prepared: Prepared, client: ClientId) -> Result<Scheduled, ApiError> {
        let Prepared { sequences, reading } = prepared;
        let count = sequences.iter().map(|sequence| sequence.works.len()).sum();
        let full = || ApiError::queue_full(self.options.queue);
        let (sender, events) = mpsc::channel(EVENTS.max(2 * count));
        let deadline = Instant::now() + self.options.request_time;
        let choices = sequences.first().map_or(0, |sequence| sequence.works.len());
        let prompt_tokens = sequences.iter().map(|sequence| sequence.prompt.len()).sum();
        let place = self.queue.enter(prompt_tokens).ok_or_else(full)?;
        let (mut started, mut echo) = (Vec::with_capacity(count), Vec::with_capacity(sequences.len()));
        for sequence in sequences {
            for work in sequence.works {
                let cancelled = Arc::new(AtomicBool::new(false));
                started.push(Started { cancelled: Arc::clone(&cancelled) });
                let job = Job {
                    client,
                    index: started.len() - 1,
                    prompt: Arc::clone(&sequence.prompt),
                    work,
                    events: sender.clone(),
                    cancelled,
                    deadline,
                    place: Some(Arc::clone(&place)),
                };
                self.jobs.send(job).map_err(|_| ApiError::stopping())?;
            }
            echo.push(sequence.echo);
        }
        Ok(Scheduled { events, started, reading, prompt_tokens, choices, echo })
    }
}
