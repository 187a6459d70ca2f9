//! What a run has found out, and what that has taken. Pure.

/// What it has taken to find out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub questions: u64,
    pub rounds: u64,
}

/// What has been found, in all or in one step.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Live records that the source has answered for.
    pub asked: u64,
    pub missing: u64,
    pub restored: u64,
    /// Missing, and not deleted all the same.
    pub kept: u64,
    /// Batches that could not be asked about.
    pub lost: u64,
    pub cost: Cost,
    /// Which were kept, which could not be asked about, and why.
    pub remarks: Vec<String>,
}

impl Tally {
    pub fn of_cost(cost: Cost) -> Tally {
        Tally { cost, ..Tally::default() }
    }

    pub fn add(&mut self, more: Tally) {
        self.asked += more.asked;
        self.missing += more.missing;
        self.restored += more.restored;
        self.kept += more.kept;
        self.lost += more.lost;
        self.cost.questions += more.cost.questions;
        self.cost.rounds += more.cost.rounds;
        more.remarks.into_iter().for_each(|remark| self.remark(remark));
    }

    /// How a run has ended that came to its end: where it could ask after nothing, it has failed.
    pub fn outcome(&self) -> &'static str {
        if self.lost > 0 && self.asked + self.restored == 0 { "failed" } else { "done" }
    }

    /// How many were deleted.
    pub fn deleted(&self) -> u64 {
        self.missing.saturating_sub(self.kept)
    }

    /// What was restored, kept, or could not be asked about, in words; `None`: nothing.
    pub fn detail(&self) -> Option<String> {
        let restored = (self.restored > 0).then(|| format!("{} restored", self.restored));
        let kept = (self.kept > 0).then(|| format!("{} left", self.kept));
        let all: Vec<String> = restored.into_iter().chain(kept).chain(self.remarks.iter().cloned()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// What is missing and was kept, or could not be asked about, and why.
    pub fn keep(&mut self, records: u64, remark: String) {
        self.kept += records;
        self.remark(remark);
    }

    /// A batch that could not be asked about, and why.
    pub fn lose(&mut self, batch: &str, why: &str) {
        self.lost += 1;
        self.remark(format!("{batch} could not be asked about: {why}"));
    }

    pub fn remark(&mut self, remark: String) {
        if self.remarks.len() < REMARKS {
            self.remarks.push(remark);
        }
    }
}

/// So many remarks are kept of a run.
pub const REMARKS: usize = 10;
