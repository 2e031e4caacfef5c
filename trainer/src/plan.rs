//! What a recipe costs, before anything is loaded.
