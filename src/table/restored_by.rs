//! Who may restore by clearing deleted_at: what the option `restore` says. Pure.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredBy {
    /// Whoever may update the row.
    Anyone,
    /// The extension's functions alone.
    Function,
}

impl RestoredBy {
    /// The words for each; the first is the default.
    const WORDS: [(&str, RestoredBy); 2] = [("anyone", RestoredBy::Anyone), ("function", RestoredBy::Function)];

    /// What the option may say.
    pub fn words() -> [&'static str; 2] {
        RestoredBy::WORDS.map(|(word, _)| word)
    }

    /// What the option says; `None`: it is none of the words.
    pub fn of_option(restore: &str) -> Option<RestoredBy> {
        RestoredBy::WORDS.iter().find(|(word, _)| *word == restore).map(|(_, restored_by)| *restored_by)
    }
}
