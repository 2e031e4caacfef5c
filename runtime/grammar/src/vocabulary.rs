//! The tokens of a model, as a tree of their bytes.

use crate::cache::Cache;
use crate::compilers::Compilers;
use crate::error::GrammarError;
use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use std::sync::Arc;
use thimble_files::contain;
use thimble_runtime::Token;
use thimble_runtime::format::{ModelFile, SectionKind};
use thimble_runtime::tokenizer::{Specials, Tokenizer};

/// Longest token that an answer may use, bytes; the tree of `toktrie` holds no longer ones.
const LONGEST_TOKEN: usize = 512;
/// Most bytes of all tokens: the nodes that the tree of `toktrie` can hold.
const MOST_BYTES: usize = (1 << 22) - 1;

/// The tokens of a model, prepared for masks; made once per model, takes some megabytes.
pub struct Vocabulary {
    pub(crate) factory: ParserFactory,
    pub(crate) cache: Cache,
    pub(crate) compilers: Arc<Compilers>,
}

impl Vocabulary {
    /// The tokens of `file`.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`].
    pub fn of(file: &ModelFile<'_>) -> Result<Arc<Vocabulary>, GrammarError> {
        let wrong = |reason: String| GrammarError::Vocabulary { reason };
        let tokenizer = file.tokenizer();
        let config = file.config();
        let stops: Vec<u32> = config.stop.iter().flatten().map(|token| token.0).collect();
        let words = words(&tokenizer, &stops);
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > MOST_BYTES {
            return Err(wrong(format!("its tokens have {bytes} bytes, the limit is {MOST_BYTES}")));
        }
        let stops: Vec<u32> = stops.into_iter().filter(|&stop| (stop as usize) < words.len()).collect();
        let section = file.sections().find(|section| section.kind == SectionKind::Tokenizer);
        let section = section.and_then(|section| {
            let start = usize::try_from(section.offset).ok()?;
            file.bytes().get(start..start.checked_add(usize::try_from(section.length).ok()?)?)
        });
        let section = section.ok_or_else(|| wrong("the file has no tokenizer".to_string()))?.to_vec();
        let tables = Some(Tables { section, vocab: config.vocab });
        Vocabulary::new(words, &stops, tables)
    }

    /// The 256 bytes, by their value, and a stop token 256: to check texts against a grammar without a model.
    ///
    /// # Errors
    /// None are expected.
    pub fn of_bytes() -> Result<Arc<Vocabulary>, GrammarError> {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let stop = vec![TokTrie::SPECIAL_TOKEN_MARKER, b'<', b'>'];
        Vocabulary::new(bytes.chain([stop]).collect(), &[256], None)
    }

    fn new(
        words: Vec<Vec<u8>>,
        stops: &[u32],
        tables: Option<Tables>,
    ) -> Result<Arc<Vocabulary>, GrammarError> {
        let made = contain("llguidance", || {
            let info = TokRxInfo::new(words.len() as u32, stops.first().copied().unwrap_or(INVALID_TOKEN));
            let mut trie = TokTrie::from(&info, &words);
            if stops.len() > 1 {
                trie = trie.with_eos_tokens(stops);
            }
            let env: TokEnv = Arc::new(OwnedTokenizer { tables, trie });
            let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
            ParserFactory::new(&env, capabilities, &SlicedBiasComputer::general_slices())
        });
        let made = made.map_err(|error| error.to_string()).and_then(|made| made.map_err(|e| e.to_string()));
        let mut factory = made.map_err(|reason| GrammarError::Vocabulary { reason })?;
        factory.quiet();
        Ok(Arc::new(Vocabulary { factory, cache: Cache::default(), compilers: Arc::default() }))
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

/// The bytes of each token. Special tokens and stop tokens begin with a byte that no text has, so that an answer cannot contain
/// them unless its grammar names them.
fn words(tokenizer: &Tokenizer<'_>, stops: &[u32]) -> Vec<Vec<u8>> {
    let word = |id: u32| {
        let token = Token(id);
        let bytes = tokenizer.token_bytes(token);
        if bytes.is_empty() || bytes.len() > LONGEST_TOKEN {
            return Vec::new();
        }
        let marked = tokenizer.is_special(token) || stops.contains(&id);
        let marker = marked.then_some(TokTrie::SPECIAL_TOKEN_MARKER);
        marker.into_iter().chain(bytes.iter().copied()).collect()
    };
    (0..tokenizer.vocab() as u32).map(word).collect()
}

/// The tables of a tokenizer.
struct Tables {
    /// The section of the model file, which was parsed before.
    section: Vec<u8>,
    /// Rows of the model's embedding.
    vocab: usize,
}

/// The tokenizer for text that a grammar forces.
struct OwnedTokenizer {
    /// `None` if every byte is a token.
    tables: Option<Tables>,
    trie: TokTrie,
}

impl OwnedTokenizer {
    /// The tokens of `text`; `None` if they do not spell it, which a normalizer or a missing byte can cause.
    fn encode(&self, text: &str) -> Option<Vec<u32>> {
        let Tables { section, vocab } = self.tables.as_ref()?;
        let tokenizer = Tokenizer::parse(section, *vocab).ok()?;
        let mut scratch = vec![0; tokenizer.scratch_for(text)];
        let mut tokens = vec![Token::default(); tokenizer.most_tokens(text)];
        let count = tokenizer.encode(text, Specials::Escape, &mut scratch, &mut tokens).ok()?;
        tokens.truncate(count);
        let bytes = tokens.iter().flat_map(|&token| tokenizer.token_bytes(token));
        bytes.eq(text.as_bytes()).then(|| tokens.iter().map(|token| token.0).collect())
    }
}

impl TokenizerEnv for OwnedTokenizer {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.encode(text).unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }
}
