//! A model without a mind: every answer that its constraint allows is as likely as any other.

use thimble_chat::{ChatError, ChatModel, ChatPrompt};
use thimble_runtime::Token;
use thimble_runtime::sampler::{Pcg32, TokenMask};

/// Says any allowed token; 256 ends an answer.
pub(crate) struct Monkey {
    random: Pcg32,
    context: usize,
    cache: Vec<Token>,
    bytes: Vec<[u8; 1]>,
}

impl Monkey {
    /// A model with a context of so many tokens, each of which is a byte.
    pub(crate) fn new(seed: u64, context: usize) -> Monkey {
        let bytes = (0..=255).map(|byte| [byte]).collect();
        Monkey { random: Pcg32::new(seed), context, cache: Vec::new(), bytes }
    }
}

impl ChatModel for Monkey {
    fn context(&self) -> usize {
        self.context
    }

    fn encode(&self, prompt: &ChatPrompt<'_>) -> Result<Vec<Token>, ChatError> {
        assert_eq!(prompt.thinking, Some(false), "an answer of a given shape begins at once");
        let bytes = prompt.messages.iter().flat_map(|message| message.text.bytes().chain([b';']));
        Ok(bytes.chain(*b"<think>\n").map(|byte| Token(byte.into())).collect())
    }

    fn reuse(&mut self, tokens: &[Token]) -> usize {
        let common = self.cache.iter().zip(&tokens[..tokens.len() - 1]).take_while(|(a, b)| a == b).count();
        self.cache.truncate(common);
        common
    }

    fn prefill(&mut self, tokens: &[Token]) -> Result<(), ChatError> {
        self.cache.extend(tokens);
        assert!(self.cache.len() <= self.context, "the context is never exceeded");
        Ok(())
    }

    fn sample(&mut self) -> Token {
        panic!("the answer has a constraint")
    }

    fn sample_masked(&mut self, mask: TokenMask<'_>) -> Option<Token> {
        let allowed: Vec<Token> = (0..257).map(Token).filter(|&token| mask.allows(token)).collect();
        let index = (self.random.unit() * allowed.len() as f64) as usize;
        allowed.get(index).copied()
    }

    fn bytes(&self, token: Token) -> &[u8] {
        self.bytes.get(token.index()).map_or(&[], |byte| byte)
    }

    fn is_stop(&self, token: Token) -> bool {
        token == Token(256)
    }
}
