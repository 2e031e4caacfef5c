//! An added token with the fields of Python's `AddedToken`.

/// An added token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AddedToken {
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    /// `None` if the source does not say: then a token is normalized if it is not special.
    pub(super) normalized: Option<bool>,
    pub(super) special: bool,
}

impl AddedToken {
    /// A special token of this text.
    pub(super) fn special(content: String) -> AddedToken {
        AddedToken {
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: true,
        }
    }

    /// The same token as the `tokenizers` crate has it.
    pub(super) fn to_tokenizers(&self) -> tokenizers::AddedToken {
        tokenizers::AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!self.special),
            special: self.special,
        }
    }
}
