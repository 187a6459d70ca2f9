//! How to search: few rounds, or few questions.

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Halves all open blocks at once, one round a level: few questions in few rounds.
    Level,
    /// The same, and finishes item by item in one round as soon as that promises fewer questions: for many missing, strewn about.
    LevelStar,
    /// Thinks longest and asks least, in many rounds: for sources that limit the rate of questions. With more than some hundreds
    /// missing it is the same as `LevelStar`, which asks less then.
    Tracker,
}

impl Strategy {
    pub const ALL: [Strategy; 3] = [Strategy::Level, Strategy::LevelStar, Strategy::Tracker];

    pub fn name(self) -> &'static str {
        match self {
            Strategy::Level => "level",
            Strategy::LevelStar => "level*",
            Strategy::Tracker => "tracker",
        }
    }

    pub fn from_name(name: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == name)
    }
}
