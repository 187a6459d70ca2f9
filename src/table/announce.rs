//! How a table's events are announced: what the option `notify` says. Pure.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Record,
    Batch,
    Never,
}

impl Announce {
    /// The words for each.
    const WORDS: [(&str, Announce); 3] = [("record", Announce::Record), ("batch", Announce::Batch), ("none", Announce::Never)];

    /// What the option may say.
    pub fn words() -> [&'static str; 3] {
        Announce::WORDS.map(|(word, _)| word)
    }

    /// What the option says; `None`: it is none of the words.
    pub fn of_option(notify: &str) -> Option<Announce> {
        Announce::WORDS.iter().find(|(word, _)| *word == notify).map(|(_, announce)| *announce)
    }
}
