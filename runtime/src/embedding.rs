//! Text embeddings: the hidden states of a text, pooled to one vector of length 1.

use crate::Token;
use crate::adapter::AdapterSet;
use crate::kernels::ThreadPool;
use crate::sequence::Sequence;
use crate::sequences::{Part, Sequences};
use crate::session::{Session, SessionError};

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    #[default]
    Mean,
    /// The state of the last token, the only one that has seen the whole text.
    Last,
}

impl<S: Sequence> Session<S> {
    /// Writes the embedding of a text to `out`, `[hidden]`: its hidden states, pooled and divided by the Euclidean norm. The
    /// scalar product of two embeddings is their cosine similarity. Zeros stay zeros.
    ///
    /// Replaces the sequence by `tokens`. States are summed in the order of the tokens, so that the batch size does not change
    /// a bit.
    ///
    /// # Errors
    /// Invalid `tokens`, and [`SessionError::EmbeddingLength`].
    pub fn text_embedding(
        &mut self,
        tokens: &[Token],
        pooling: Pooling,
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        let [expected, found] = [self.hidden(), out.len()];
        if found != expected {
            return Err(SessionError::EmbeddingLength { expected, found });
        }
        self.rewind(0)?;
        let from = match pooling {
            Pooling::Mean => 0,
            Pooling::Last => tokens.len().saturating_sub(1),
        };
        out.fill(0.0);
        self.hidden_states(tokens, from, &mut |_, state| {
            out.iter_mut().zip(state).for_each(|(sum, x)| *sum += x);
        })?;
        // The length of a mean cancels out.
        normalize(out);
        Ok(())
    }
}

impl<'f, T: ThreadPool, A> Sequences<'f, '_, '_, T, A>
where
    A: AsRef<[AdapterSet<'f>]> + AsMut<[AdapterSet<'f>]>,
{
    /// The same as [`Session::text_embedding`], to the bit, in a slot.
    ///
    /// # Errors
    /// As there, and [`SessionError::UnknownSlot`].
    pub fn text_embedding(
        &mut self,
        slot: usize,
        tokens: &[Token],
        pooling: Pooling,
        out: &mut [f32],
    ) -> Result<(), SessionError> {
        let [expected, found] = [self.plan().config().hidden, out.len()];
        if found != expected {
            return Err(SessionError::EmbeddingLength { expected, found });
        }
        let context = self.context();
        if tokens.len() > context {
            return Err(SessionError::ContextFull { position: 0, more: tokens.len(), context });
        }
        self.rewind(slot, 0)?;
        let from = match pooling {
            Pooling::Mean => 0,
            Pooling::Last => tokens.len().saturating_sub(1),
        };
        if tokens.is_empty() {
            return Err(SessionError::Empty);
        }
        out.fill(0.0);
        let mut first = 0;
        for tokens in tokens.chunks(self.batch()) {
            self.run(&[Part { slot, tokens }])?;
            let states = self.hidden_states(slot).chunks_exact(expected);
            for state in states.skip(from.saturating_sub(first)) {
                out.iter_mut().zip(state).for_each(|(sum, x)| *sum += x);
            }
            first += tokens.len();
        }
        normalize(out);
        Ok(())
    }
}

/// Divides `vector` by its Euclidean norm, which is computed in f64; zeros stay zeros.
pub fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if square > 0.0 {
        let norm = libm::sqrt(square);
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}
