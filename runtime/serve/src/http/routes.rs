//! From a request to its response.

use super::body::read_object;
use super::connections::Connection;
use super::log::RequestLog;
use super::preparations::Lane;
use super::state::App;
use super::{page, stream};
use crate::api;
use crate::api::chat::CommonFields;
use crate::api::embedding::{EmbeddingFields, EncodingFormat};
use crate::api::response::{Usage, base64};
use crate::error::ApiError;
use crate::schedule::{ClientId, Event};
use axum::body::Body;
use axum::extract::{Extension, OriginalUri, Path, State};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::FutureExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tower_service::Service as _;

/// What answers requests.
pub(crate) struct Service {
    pub(crate) app: Arc<App>,
    router: Router,
}

/// Who asks, and what is noted about it.
#[derive(Clone)]
struct Caller {
    client: ClientId,
    log: Arc<RequestLog>,
    connection: Arc<Connection>,
}

impl Service {
    /// The routes of a server.
    pub(crate) fn new(app: Arc<App>) -> Service {
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(completion))
            .route("/v1/embeddings", post(embedding))
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .route("/metrics", get(metrics))
            .fallback(|OriginalUri(uri): OriginalUri| async move { ApiError::no_route(uri.path()) })
            .method_not_allowed_fallback(|method: Method, OriginalUri(uri): OriginalUri| async move {
                ApiError::method(method.as_str(), uri.path())
            })
            .with_state(Arc::clone(&app));
        Service { app, router }
    }
}

/// Answers one request of a connection. A panic is an error of the server like any other.
pub(crate) async fn handle(
    service: Arc<Service>,
    connection: Arc<Connection>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let app = &service.app;
    let (method, path) = (request.method().as_str(), request.uri().path());
    let log = RequestLog::new(method, path, Arc::clone(&connection), app);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let answer = respond(&service, connection, peer, Arc::clone(&log), request);
    let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response.unwrap_or_else(IntoResponse::into_response),
        Err(_) => {
            app.metrics.panics.fetch_add(1, Ordering::Relaxed);
            ApiError::internal(&"it panicked, which is a bug").into_response()
        }
    };
    app.guard.add_cors(origin.as_ref(), &mut response);
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    log.status(response.status().as_u16());
    Ok(response)
}

async fn respond(
    service: &Service,
    connection: Arc<Connection>,
    peer: IpAddr,
    log: Arc<RequestLog>,
    mut request: Request<Incoming>,
) -> Result<Response, ApiError> {
    let app = &service.app;
    app.guard.check_source(&request)?;
    if let Some(response) = app.guard.preflight(&request) {
        return Ok(response);
    }
    let path = request.uri().path();
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        if path == "/health" {
            return health(app);
        }
        if let Some(file) = page::file(path) {
            return Ok(file);
        }
    }
    let key = app.guard.check_key(request.headers())?;
    if app.control.stops() {
        return Err(ApiError::stopping());
    }
    let client = match app.options.api_keys.is_empty() {
        true => {
            let mut hasher = DefaultHasher::new();
            peer.hash(&mut hasher);
            hasher.finish()
        }
        false => key as ClientId,
    };
    request.extensions_mut().insert(Caller { client, log, connection });
    let Ok(response) = service.router.clone().call(request.map(Body::new)).await;
    Ok(response)
}

fn health(app: &App) -> Result<Response, ApiError> {
    match app.control.stops() {
        true => Err(ApiError::stopping()),
        false => Ok(Json(json!({ "status": "ok" })).into_response()),
    }
}

async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [card(&app)] }))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    app.check_model(Some(&id))?;
    Ok(Json(card(&app)))
}

/// The model as `/v1/models` lists it, with its context as vLLM names it.
fn card(app: &App) -> Value {
    json!({
        "id": app.model, "object": "model", "created": app.created, "owned_by": "thimble",
        "max_model_len": app.context,
    })
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.text(&app.queue, app.slots);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    answer(stream::Kind::Chat, app, caller, request).await
}

async fn completion(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    answer(stream::Kind::Completion, app, caller, request).await
}

/// Generates texts, whole or as a stream.
async fn answer(
    kind: stream::Kind,
    app: Arc<App>,
    caller: Caller,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut body = read_object(&app.options, &app.bodies, request).await?;
    caller.connection.set_busy(true);
    let common: CommonFields = api::fields(&body.object)?;
    app.check_model(common.model.as_deref())?;
    let lane = Lane::of(&body.object);
    let prepared = app.prepare(lane, caller.client, move |preparer| {
        let prepared = match kind {
            stream::Kind::Chat => preparer.chat(&body.object),
            stream::Kind::Completion => preparer.completion(&body.object),
        };
        body.release();
        prepared
    });
    let scheduled = app.schedule(prepared.await?, caller.client)?;
    let reply = stream::Reply::new(kind, &app, caller.log, &scheduled);
    stream::respond(reply, scheduled, common.streams()).await
}

async fn embedding(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut body = read_object(&app.options, &app.bodies, request).await?;
    caller.connection.set_busy(true);
    let fields: EmbeddingFields = api::fields(&body.object)?;
    app.check_model(fields.model.as_deref())?;
    let format = fields.format()?;
    let prepared = app.prepare(Lane::Plain, caller.client, move |preparer| {
        let prepared = preparer.embedding(&body.object);
        body.release();
        prepared
    });
    let mut scheduled = app.schedule(prepared.await?, caller.client)?;
    let prompt = scheduled.prompt_tokens;
    caller.log.tokens(Usage { prompt, ..Usage::default() });
    let mut vectors: Vec<Value> = vec![Value::Null; scheduled.started.len()];
    let mut missing = vectors.len();
    while missing > 0 {
        match scheduled.events.recv().await {
            Some(Event::Embedding { index, vector }) => {
                let vector = match format {
                    EncodingFormat::Float => json!(vector),
                    EncodingFormat::Base64 => {
                        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                        base64(&bytes).into()
                    }
                };
                vectors[index] = json!({ "object": "embedding", "index": index, "embedding": vector });
                missing -= 1;
            }
            Some(Event::Failed(error)) => return Err(error),
            Some(_) => {}
            None => return Err(ApiError::slow_reader()),
        }
    }
    let usage = json!({ "prompt_tokens": prompt, "total_tokens": prompt });
    let reply = json!({ "object": "list", "data": vectors, "model": app.model, "usage": usage });
    Ok((StatusCode::OK, Json(reply)).into_response())
}
