//! Names of the files in a Hugging Face folder.

/// The model's hyperparameters.
pub const CONFIG_JSON: &str = "config.json";
/// The tokenizer.
pub const TOKENIZER_JSON: &str = "tokenizer.json";
/// The tokenizer's settings, often with the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The tokens with a name, such as `eos_token`.
pub const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// Tokens that the tokenizer may lack.
pub const ADDED_TOKENS: &str = "added_tokens.json";
/// Stop tokens and recommended sampling settings.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// The chat template, if it is a file of its own.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The model card.
pub const MODEL_CARD: &str = "README.md";
/// The weights, if they are one file.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of the files with weights, if there are several.
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// The files beside the weights that a conversion reads and a folder may lack, apart from the model card.
pub const OPTIONAL: [&str; 5] =
    [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS, GENERATION_CONFIG, CHAT_TEMPLATE];
