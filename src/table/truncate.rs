//! What TRUNCATE does to the records of a table: what the option `truncate` says. Pure.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncate {
    Archive,
    Purge,
    Refuse,
}

impl Truncate {
    /// The words for each.
    const WORDS: [(&str, Truncate); 3] =
        [("archive", Truncate::Archive), ("purge", Truncate::Purge), ("refuse", Truncate::Refuse)];

    /// What the option may say.
    pub fn words() -> [&'static str; 3] {
        Truncate::WORDS.map(|(word, _)| word)
    }

    /// What the option says; `None`: it is none of the words.
    pub fn of_option(truncate: &str) -> Option<Truncate> {
        Truncate::WORDS.iter().find(|(word, _)| *word == truncate).map(|(_, truncate)| *truncate)
    }
}
