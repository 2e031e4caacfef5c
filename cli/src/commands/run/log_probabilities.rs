//! What `--logprobs` prints of each token, with the names of OpenAI's API.

use serde::Serialize;
use thimble_runtime::Token;
use thimble_runtime::sampler::SampledToken;
use thimble_runtime::tokenizer::Tokenizer;

/// A generated token and the most probable tokens in its place.
#[derive(Serialize)]
pub(super) struct TokenLogProbabilities {
    #[serde(flatten)]
    token: Scored,
    top_logprobs: Vec<Scored>,
}

/// A token with its log-probability in nats, before bias, penalties and temperature.
#[derive(Serialize)]
struct Scored {
    id: u32,
    /// U+FFFD where the token ends inside a character.
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

impl Scored {
    fn new(tokenizer: &Tokenizer<'_>, token: Token, logprob: f32) -> Scored {
        let bytes = tokenizer.token_bytes(token);
        let text = String::from_utf8_lossy(bytes).into_owned();
        Scored { id: token.0, token: text, bytes: bytes.to_vec(), logprob }
    }
}

impl TokenLogProbabilities {
    /// What the model thought of a token.
    pub(super) fn new(tokenizer: &Tokenizer<'_>, sampled: &SampledToken<'_>) -> TokenLogProbabilities {
        let token = Scored::new(tokenizer, sampled.token, sampled.log_probability);
        let alternatives = sampled.alternatives.iter();
        let top_logprobs =
            alternatives.map(|likely| Scored::new(tokenizer, likely.token, likely.log_probability)).collect();
        TokenLogProbabilities { token, top_logprobs }
    }
}
