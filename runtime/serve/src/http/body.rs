//! Bodies of requests, within limits of bytes and time.

use crate::error::ApiError;
use crate::options::ServeOptions;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes that a permit stands for.
const UNIT: usize = 1024;
/// Permits, if bodies are short.
const LEAST: usize = 4096;
/// Bodies of the largest size that fit into memory at the same time.
const LARGEST_BODIES: usize = 16;

/// Memory for the bodies of all requests that are not prepared yet.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    free: Arc<Semaphore>,
    /// All of it.
    units: usize,
}

/// The body of a request, and its share of the memory.
pub(crate) struct ReadBody {
    pub(crate) object: Value,
    permits: Option<OwnedSemaphorePermit>,
}

impl ReadBody {
    /// Gives the memory back, once the body was turned into something else.
    pub(crate) fn release(&mut self) {
        (self.object, self.permits) = (Value::Null, None);
    }
}

impl BodyMemory {
    /// Memory for bodies of at most `max_body` bytes.
    pub(crate) fn new(max_body: usize) -> BodyMemory {
        // A short body may have as many values as its length allows.
        let permits = (max_body.div_ceil(UNIT) + 1).saturating_mul(LARGEST_BODIES);
        let units = permits.clamp(LEAST, Semaphore::MAX_PERMITS);
        BodyMemory { free: Arc::new(Semaphore::new(units)), units }
    }

    fn take(&self, permits: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = u32::try_from(permits).map_err(|_| ApiError::busy())?;
        Arc::clone(&self.free).try_acquire_many_owned(permits).map_err(|_| ApiError::busy())
    }
}

/// Reads the JSON object of a request.
pub(crate) async fn read_object(
    options: &ServeOptions,
    memory: &BodyMemory,
    request: Request<Body>,
) -> Result<ReadBody, ApiError> {
    let max = options.max_body;
    let headers = request.headers();
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json"
            && !(essence.starts_with("application/") && essence.ends_with("+json"))
        {
            return Err(ApiError::media_type(kind));
        }
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > max as u64) {
        return Err(ApiError::too_large(max));
    }
    let reading = read(memory, request.into_body(), max);
    let (bytes, permits) = timeout(options.idle_time, reading).await.map_err(|_| ApiError::slow_body())??;
    let permits = take_values(memory, &bytes, permits)?;
    let object = crate::api::object(&bytes)?;
    Ok(ReadBody { object, permits })
}

/// About the memory of a JSON text's values, bytes: short texts of many values take a hundred times their length.
fn value_bytes(json: &[u8]) -> usize {
    // An object has room for four pairs, an array for four values; both double when they grow.
    const OBJECT: usize = 640;
    const ARRAY: usize = 300;
    const NEXT: usize = 150;
    // The parser goes no deeper.
    const DEPTH: usize = 128;
    let (mut bytes, mut depth, mut quoted, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json {
        if depth > DEPTH {
            break;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' => (bytes, depth) = (bytes + OBJECT, depth + 1),
            b'[' => (bytes, depth) = (bytes + ARRAY, depth + 1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => bytes += NEXT,
            _ => {}
        }
    }
    bytes
}

/// Takes the memory of a body's values, beside that of its bytes.
fn take_values(
    memory: &BodyMemory,
    json: &[u8],
    permits: Option<OwnedSemaphorePermit>,
) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
    let needed = value_bytes(json).div_ceil(UNIT);
    if needed + permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) > memory.units {
        return Err(ApiError::too_many_values());
    }
    let mut more = memory.take(needed)?;
    if let Some(permits) = permits {
        more.merge(permits);
    }
    Ok(Some(more))
}

/// Collects a body as it arrives; its memory is taken bit by bit, so that a promise of many bytes takes none.
async fn read(
    memory: &BodyMemory,
    mut body: Body,
    max: usize,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let (mut bytes, mut permits): (Vec<u8>, Option<OwnedSemaphorePermit>) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::invalid(None, format!("the body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > max - bytes.len() {
            return Err(ApiError::too_large(max));
        }
        let needed = (bytes.len() + data.len()).div_ceil(UNIT);
        let held = permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if needed > held {
            let more = memory.take(needed - held)?;
            match &mut permits {
                Some(permits) => permits.merge(more),
                None => permits = Some(more),
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, permits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_values_take_more_than_their_text() {
        assert_eq!(value_bytes(br#"{"a":"[{,\"["}"#), 640);
        assert_eq!(value_bytes(b"[[1,2],3]"), 2 * 300 + 2 * 150);
        let nested = "[".repeat(100_000);
        assert_eq!(value_bytes(nested.as_bytes()), 129 * 300);
    }

    #[test]
    fn values_beyond_the_memory_of_all_bodies_are_refused() {
        let memory = BodyMemory::new(10 * UNIT);
        let taken = take_values(&memory, br#"[{"":0},{"":0}]"#, None).unwrap().unwrap();
        assert_eq!(taken.num_permits(), 2);
        let many = format!("[{}1]", r#"{"":0},"#.repeat(10_000));
        let refused = take_values(&memory, many.as_bytes(), None).unwrap_err();
        assert_eq!(refused.to_json()["error"]["code"], "request_too_large");
        // What others hold is waited for by nobody.
        let most = memory.take(memory.units - 2).unwrap();
        assert!(take_values(&memory, b"[1]", None).is_err());
        drop(most);
        assert!(take_values(&memory, b"[1]", None).is_ok());
    }
}
