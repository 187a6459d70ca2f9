//! Pieces of SQL that the layouts share. Pure.

/// `word from`, or nothing where there is nothing to join with.
pub fn joined(word: &str, from: &str) -> String {
    if from.is_empty() { String::new() } else { format!("{word} {from}") }
}

/// A name for keys next to a table that goes by `alias`: the table itself may be called like that.
pub fn alias_beside(alias: &str) -> &'static str {
    if alias == "\"k\"" { "keys" } else { "k" }
}
