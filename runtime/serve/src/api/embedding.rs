//! The request of `/v1/embeddings`.

use super::Inputs;
use crate::error::ApiError;
use serde::Deserialize;
use thimble_runtime::embedding::Pooling;

/// A request to embed texts. Fields that are not here are ignored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EmbeddingFields {
    pub(crate) model: Option<String>,
    pub(crate) input: Inputs,
    encoding_format: Option<String>,
    pub(crate) dimensions: Option<usize>,
    pooling: Option<String>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncodingFormat {
    /// A list of numbers.
    Float,
    /// The little-endian f32 as base64.
    Base64,
}

impl EmbeddingFields {
    /// How vectors are written.
    pub(crate) fn format(&self) -> Result<EncodingFormat, ApiError> {
        match self.encoding_format.as_deref() {
            None | Some("float") => Ok(EncodingFormat::Float),
            Some("base64") => Ok(EncodingFormat::Base64),
            Some(other) => {
                let message = format!("encoding_format is {other:?}, expected float or base64");
                Err(ApiError::invalid(Some("encoding_format"), message))
            }
        }
    }

    /// How the states of a text's tokens become one vector.
    pub(crate) fn pooling(&self) -> Result<Pooling, ApiError> {
        match self.pooling.as_deref() {
            None | Some("mean") => Ok(Pooling::Mean),
            Some("last") => Ok(Pooling::Last),
            Some(other) => {
                let message = format!("pooling is {other:?}, expected mean or last");
                Err(ApiError::invalid(Some("pooling"), message))
            }
        }
    }

    /// Refuses another length than the model's.
    pub(crate) fn check_dimensions(&self, hidden: usize) -> Result<(), ApiError> {
        match self.dimensions {
            Some(found) if found != hidden => {
                let message = format!("dimensions is {found}; the vectors of this model have {hidden}");
                Err(ApiError::invalid(Some("dimensions"), message))
            }
            _ => Ok(()),
        }
    }
}
