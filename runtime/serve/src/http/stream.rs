//! Answers as responses: whole, or as a stream of events.

use super::log::RequestLog;
use super::state::{App, Scheduled};
use crate::answer::{AnswerMemory, Answers, Delta, has_scores};
use crate::api::response::{
    Finish, ResponseHead, Usage, call, chat_log_probabilities, completion_log_probabilities, event,
};
use crate::error::ApiError;
use crate::vocabulary::TokenTable;
use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Events that may wait for the connection.
const EVENTS: usize = 32;
/// After so long without an event, a comment keeps the connection alive.
const COMMENT_AFTER: Duration = Duration::from_secs(15);

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages.
    Chat,
    /// A text.
    Completion,
}

/// How a request is answered.
pub(crate) struct Reply {
    kind: Kind,
    head: ResponseHead,
    table: Arc<TokenTable>,
    app: Arc<App>,
    log: Arc<RequestLog>,
    prompt_tokens: usize,
    /// Characters of each choice's text so far.
    offsets: Vec<usize>,
    /// Whether each choice has begun.
    begun: Vec<bool>,
    calls: Vec<usize>,
    spoke: bool,
}

impl Reply {
    /// A reply to the request of `scheduled`.
    pub(crate) fn new(kind: Kind, app: &Arc<App>, log: Arc<RequestLog>, scheduled: &Scheduled) -> Reply {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Completion => "cmpl",
        };
        let count = scheduled.started.len();
        Reply {
            kind,
            head: ResponseHead::new(prefix, &app.model),
            table: Arc::clone(&app.table),
            app: Arc::clone(app),
            log,
            prompt_tokens: scheduled.prompt_tokens,
            offsets: vec![0; count],
            begun: vec![false; count],
            calls: vec![0; count],
            spoke: false,
        }
    }

    /// The object with these choices.
    fn object(&self, object: &str, choices: Vec<Value>) -> Value {
        let ResponseHead { id, created, model } = &self.head;
        json!({ "id": id, "object": object, "created": created, "model": model, "choices": choices })
    }

    fn usage(&mut self, answers: &Answers<'_>) -> Usage {
        let usage = Usage { prompt: self.prompt_tokens, ..answers.usage };
        self.log.tokens(usage);
        usage
    }

    /// Notes the time of the first token.
    fn note(&mut self, delta: &Delta) {
        if !self.spoke && !delta.tokens.is_empty() {
            self.spoke = true;
            self.app.metrics.first_token(self.log.begun.elapsed().as_secs_f64());
        }
    }

    /// A chunk of a stream.
    fn chunk(&mut self, mut delta: Delta) -> Value {
        let index = delta.index;
        let finish = delta.finish.map(Finish::name);
        let choice = match self.kind {
            Kind::Chat => {
                let mut new = serde_json::Map::new();
                if !std::mem::replace(&mut self.begun[index], true) {
                    new.insert("role".to_owned(), "assistant".into());
                    new.insert("content".to_owned(), "".into());
                }
                if !delta.reasoning.is_empty() {
                    new.insert("reasoning_content".to_owned(), delta.reasoning.into());
                }
                if !delta.text.is_empty() {
                    new.insert("content".to_owned(), delta.text.into());
                }
                if !delta.calls.is_empty() {
                    let calls = delta.calls.iter().map(|made| {
                        let mut entry = call(made);
                        entry["index"] = self.calls[index].into();
                        self.calls[index] += 1;
                        entry
                    });
                    new.insert("tool_calls".to_owned(), calls.collect());
                }
                let scores =
                    has_scores(&delta.tokens).then(|| chat_log_probabilities(&delta.tokens, &self.table));
                json!({ "index": index, "delta": new, "logprobs": scores, "finish_reason": finish })
            }
            Kind::Completion => {
                let mut tokens = std::mem::take(&mut delta.prompt);
                tokens.append(&mut delta.tokens);
                let scores = has_scores(&tokens)
                    .then(|| completion_log_probabilities(&tokens, &self.table, &mut self.offsets[index]));
                json!({ "index": index, "text": delta.text, "logprobs": scores, "finish_reason": finish })
            }
        };
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        self.object(object, vec![choice])
    }
}

/// Answers a request, with a stream if it asked for one.
pub(crate) async fn respond(
    reply: Reply,
    scheduled: Scheduled,
    (streams, with_usage): (bool, bool),
) -> Result<Response, ApiError> {
    if !streams {
        return whole(reply, scheduled).await;
    }
    let (sender, receiver) = mpsc::channel(EVENTS);
    let log = Arc::clone(&reply.log);
    tokio::spawn(async move {
        let sending = sender.clone();
        tokio::select! {
            // The client is gone: the events of the jobs are dropped, which ends them.
            () = sending.closed() => {}
            () = send(reply, scheduled, with_usage, sender) => {}
        }
    });
    // The log entry lives as long as the body.
    let events = stream::unfold((receiver, log), |(mut receiver, log)| async move {
        receiver.recv().await.map(|event: Bytes| (Ok::<Bytes, Infallible>(event), (receiver, log)))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// Sends the events of a stream.
async fn send(mut reply: Reply, scheduled: Scheduled, with_usage: bool, sender: mpsc::Sender<Bytes>) {
    let Scheduled { events, started, reading, choices, echo, .. } = scheduled;
    let mut memory = AnswerMemory::new(&reading, started.len());
    let (stops, held) = memory.parts();
    let table = Arc::clone(&reply.table);
    let answers = Answers::new(events, started, choices, &reading, table, (&stops, held));
    let Ok(mut answers) = answers else { return };
    for (number, text) in echo.into_iter().enumerate().filter_map(|(n, text)| Some((n, text?))) {
        for index in number * choices..(number + 1) * choices {
            let mut chunk = reply.chunk(Delta { index, text: text.clone(), ..Delta::default() });
            if with_usage {
                chunk["usage"] = Value::Null;
            }
            if sender.send(event(&chunk).into()).await.is_err() {
                return;
            }
        }
    }
    loop {
        let next = match timeout(COMMENT_AFTER, answers.next()).await {
            Err(_) => {
                if sender.send(Bytes::from_static(b": waiting\n\n")).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => break,
            Ok(Some(next)) => next,
        };
        let text = match next {
            Ok(delta) => {
                reply.note(&delta);
                // A token may end inside a character, or begin a stop sequence.
                if delta.is_silent() {
                    continue;
                }
                let mut chunk = reply.chunk(delta);
                if with_usage {
                    chunk["usage"] = Value::Null;
                }
                event(&chunk)
            }
            Err(error) => {
                let _ = sender.send(event(&error.to_json()).into()).await;
                return;
            }
        };
        reply.usage(&answers);
        if sender.send(text.into()).await.is_err() {
            return;
        }
    }
    let usage = reply.usage(&answers);
    if with_usage {
        let object = match reply.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        let mut chunk = reply.object(object, Vec::new());
        chunk["usage"] = usage.to_json();
        if sender.send(event(&chunk).into()).await.is_err() {
            return;
        }
    }
    let _ = sender.send(Bytes::from_static(b"data: [DONE]\n\n")).await;
}

/// Waits for the whole answer.
async fn whole(mut reply: Reply, scheduled: Scheduled) -> Result<Response, ApiError> {
    let Scheduled { events, started, reading, choices, echo, .. } = scheduled;
    let mut memory = AnswerMemory::new(&reading, started.len());
    let (stops, held) = memory.parts();
    let mut all: Vec<Delta> = (0..started.len()).map(|index| Delta { index, ..Delta::default() }).collect();
    for (index, delta) in all.iter_mut().enumerate() {
        delta.text = echo[index / choices.max(1)].clone().unwrap_or_default();
    }
    let table = Arc::clone(&reply.table);
    let mut answers = Answers::new(events, started, choices, &reading, table, (&stops, held))?;
    while let Some(delta) = answers.next().await {
        let mut delta = delta?;
        reply.note(&delta);
        let whole = &mut all[delta.index];
        whole.text.push_str(&delta.text);
        whole.reasoning.push_str(&delta.reasoning);
        whole.calls.append(&mut delta.calls);
        whole.prompt.append(&mut delta.prompt);
        whole.tokens.append(&mut delta.tokens);
        whole.finish = delta.finish.or(whole.finish);
    }
    let usage = reply.usage(&answers);
    let choices = all.into_iter().map(|choice| whole_choice(&reply, choice)).collect();
    let object = match reply.kind {
        Kind::Chat => "chat.completion",
        Kind::Completion => "text_completion",
    };
    let mut object = reply.object(object, choices);
    object["usage"] = usage.to_json();
    Ok(Json(object).into_response())
}

fn whole_choice(reply: &Reply, mut choice: Delta) -> Value {
    let finish = choice.finish.map(Finish::name);
    if reply.kind == Kind::Completion {
        let mut tokens = choice.prompt;
        tokens.append(&mut choice.tokens);
        let scores = has_scores(&tokens).then(|| completion_log_probabilities(&tokens, &reply.table, &mut 0));
        return json!({
            "index": choice.index, "text": choice.text, "logprobs": scores, "finish_reason": finish,
        });
    }
    let scores = has_scores(&choice.tokens).then(|| chat_log_probabilities(&choice.tokens, &reply.table));
    let content = match choice.text.is_empty() && !choice.calls.is_empty() {
        true => Value::Null,
        false => choice.text.into(),
    };
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if !choice.reasoning.is_empty() {
        message["reasoning_content"] = choice.reasoning.into();
    }
    if !choice.calls.is_empty() {
        message["tool_calls"] = choice.calls.iter().map(call).collect();
    }
    json!({ "index": choice.index, "message": message, "logprobs": scores, "finish_reason": finish })
}
