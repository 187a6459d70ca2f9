//! The doors for sources that only an outside client can ask: reconcile_open, _questions, _answer, _close. What is to be
//! asked next follows from a batch's ids and the answers so far, all of which are stored: so any client may go on
//! where another one has stopped, and several may answer at once. Who answers has the run's row locked until his transaction ends.

use std::rc::Rc;

use counting::Search;
use pgrx::datum::AnyArray;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::batch::ids_of;
use super::door::{batch_size, confirmed, owned_table, required};
use super::inquiry::{self, Inquiry, Phase};
use super::pages::{Pages, Records};
use super::probe::Answer;
use super::stored::{self, Stored};
use super::suspects::{self, Last, Rights, Suspects};
use super::tally::{Cost, Tally};
use super::watched::{self, DEFAULT_BATCH, DEFAULT_MANNER};
use super::{retry, revival, vanished};
use crate::backend::own_table::own_statements;
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::lifecycle::layout::live::Marked;
use crate::log::run::Run;
use crate::table::given::texts_of;
use crate::table::{Table, by_number};

/// What the number of a question says. The last questions about suspects have places of their own: they come after the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    batch: i32,
    attempt: u32,
    place: usize,
}

/// So many attempts and questions a batch can have; both are far fewer.
const ATTEMPTS: i64 = 1 << 6;
const PLACES: i64 = 1 << 24;
/// The places of the questions that are asked just before the deletion.
const LAST: [(Last, usize); 2] = [(Last::All, PLACES as usize - 2), (Last::Witness, PLACES as usize - 1)];

impl Number {
    fn encode(self) -> i64 {
        (i64::from(self.batch) * ATTEMPTS + i64::from(self.attempt)) * PLACES + self.place as i64
    }

    /// Of one of the last questions.
    fn of_last(suspects: &Suspects) -> Number {
        let next = suspects.next_question();
        let place = LAST.iter().find(|(last, _)| *last == next).map_or(0, |(_, place)| *place);
        Number { batch: suspects.batch, attempt: suspects.attempt, place }
    }

    /// Which of the last questions it is, if it is one.
    fn last(self) -> Option<Last> {
        LAST.iter().find(|(_, place)| *place == self.place).map(|(last, _)| *last)
    }

    /// `None` where no question has that number.
    fn decode(number: i64) -> Option<Number> {
        let batch = i32::try_from(number / PLACES / ATTEMPTS).ok().filter(|batch| *batch > 0)?;
        Some(Number { batch, attempt: (number / PLACES % ATTEMPTS) as u32, place: (number % PLACES) as usize })
    }
}

own_statements! {
    TABLE(INT8) = "SELECT managed FROM tombstone.run WHERE run = $1 AND action = 'reconcile' AND pid IS NULL";
}

/// Begins a run whose questions an outside client asks; returns its number (DESIGN §3).
#[pg_extern(sql = false)]
fn reconcile_open(
    relation: Option<pg_sys::Oid>,
    ids: Option<AnyArray>,
    batch: Option<i32>,
    confirm: Option<bool>,
) -> Result<i64, ErrorReport> {
    let open = || -> Result<i64> {
        let table = owned_table(relation, LockFor::Writing)?;
        let (manner, usual) = watched::manner_of(&table)?.unwrap_or((DEFAULT_MANNER, DEFAULT_BATCH));
        let most = batch.map(batch_size).transpose()?.map_or(usual, |batch| batch.unsigned_abs() as usize);
        let records = Records::of(ids.map(texts_of));
        let manner = confirmed(manner, confirm, &records)?;
        vanished::forget_old(table.number)?;
        let run = Run::begin_waiting(table.number, "reconcile", records.count(&table)?)?;
        inquiry::begin(run, Phase::Missing, &manner)?;
        if manner.restore {
            store(run, false, records.vanished(&table)?, |pages| pages.next_vanished(&table, most))?;
        }
        store(run, true, records.live(&table)?, |pages| pages.next_live(&table, most))?;
        if !stored::any(run)? {
            inquiry::end(run, "done", Some("none of these is a live record"))?;
        }
        Ok(run.number)
    };
    open().map_err(Into::into)
}

/// Stores all batches there are.
fn store(run: Run, is_live: bool, mut pages: Pages, next: impl Fn(&mut Pages) -> Result<Vec<Marked>>) -> Result<()> {
    loop {
        let page = next(&mut pages)?;
        if page.is_empty() {
            return Ok(());
        }
        let (ids, marks) = page.into_iter().map(|record| (record.id, record.mark)).unzip();
        stored::insert(run, is_live, ids, marks)?;
    }
}

/// Questions of a run that may be asked now (DESIGN §3).
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the contract")]
fn reconcile_questions(
    run: Option<i64>,
    lim: Option<i32>,
) -> Result<TableIterator<'static, (name!(question, i64), name!(ids, Vec<String>))>, ErrorReport> {
    let questions = || -> Result<Vec<(i64, Vec<String>)>> {
        let run = required("run", run)?;
        let lim = match lim {
            Some(lim @ 1..) => lim.unsigned_abs() as usize,
            _ => return Err(Error::invalid("lim must be at least 1")),
        };
        table_of(run, LockFor::Reading)?;
        let Some(inquiry) = inquiry::peek(run)? else { return Ok(Vec::new()) };
        match inquiry.phase {
            Phase::Deleting => last_questions(&inquiry, lim),
            _ => questions_of_searches(&inquiry, lim),
        }
    };
    questions().map(TableIterator::new).map_err(Into::into)
}

fn questions_of_searches(inquiry: &Inquiry, lim: usize) -> Result<Vec<(i64, Vec<String>)>> {
    let mut questions = Vec::new();
    for number in stored::some(inquiry.run, lim)? {
        if questions.len() >= lim {
            break;
        }
        let Some(batch) = stored::one(inquiry.run, number)? else { continue };
        let (search, used) = batch.search(inquiry.manner.strategy)?;
        for (i, question) in search.questions().iter().enumerate() {
            if batch.answers.get(used + i).copied().flatten().is_none() {
                let number = Number { batch: number, attempt: batch.attempt, place: used + i };
                questions.push((number.encode(), owned(ids_of(question, &batch.ids))));
            }
        }
    }
    questions.truncate(lim);
    Ok(questions)
}

fn last_questions(inquiry: &Inquiry, lim: usize) -> Result<Vec<(i64, Vec<String>)>> {
    let mut questions = Vec::new();
    for batch in suspects::some(inquiry.run, lim)? {
        if let Some(suspects) = suspects::peek(inquiry.run, batch)? {
            let question = owned(suspects.question(suspects.next_question()));
            questions.push((Number::of_last(&suspects).encode(), question));
        }
    }
    Ok(questions)
}

fn owned(ids: Vec<&str>) -> Vec<String> {
    ids.into_iter().map(str::to_string).collect()
}

/// Answers a question; false where nobody needs that answer any more (DESIGN §3).
#[pg_extern(sql = false)]
fn reconcile_answer(run: Option<i64>, question: Option<i64>, present: Option<i64>) -> Result<bool, ErrorReport> {
    let answer = || -> Result<bool> {
        let (Some(run), Some(question)) = (run, question) else {
            return Err(
                Error::invalid("run and question must not be NULL").hint("present may be: the source could not be asked.")
            );
        };
        let table = table_of(run, LockFor::Writing)?;
        let number = Number::decode(question)
            .ok_or_else(|| Error::undefined(format!("run {run} has no question {question}")).hint(ASK_FOR_QUESTIONS))?;
        let Some(inquiry) = inquiry::load(run)? else { return Ok(false) };
        match (inquiry.phase, number.last()) {
            (Phase::Deleting, Some(last)) => confirm(&table, &inquiry, number, last, present),
            (Phase::Deleting, None) | (_, Some(_)) => Ok(false),
            _ => count(&table, &inquiry, number, present),
        }
    };
    answer().map_err(Into::into)
}

const ASK_FOR_QUESTIONS: &str = "tombstone.reconcile_questions() lists those there are.";

/// What a client means by NULL.
const NOT_ASKED: &str = "the source could not be asked";

/// 22023 where so many cannot be present of `asked`.
fn possible(present: i64, asked: usize) -> Result<u64> {
    u64::try_from(present).ok().filter(|present| *present <= asked as u64).ok_or_else(|| {
        Error::invalid(format!("present must be between 0 and {asked}, not {present}"))
            .detail(format!("The question is about {asked} ids."))
    })
}

/// An answer to a question of a search.
fn count(table: &Rc<Table>, inquiry: &Inquiry, number: Number, present: Option<i64>) -> Result<bool> {
    let run = inquiry.run;
    let Some(mut batch) = stored::one(run, number.batch)?.filter(|batch| batch.attempt == number.attempt) else {
        return Ok(false);
    };
    let (search, used) = batch.search(inquiry.manner.strategy)?;
    let question = number.place.checked_sub(used).and_then(|place| search.questions().get(place));
    let Some(present) = present else {
        let is_open = question.is_some() && batch.answers.get(number.place).copied().flatten().is_none();
        return if is_open { answered_in_vain(&batch, inquiry, NOT_ASKED) } else { Ok(false) };
    };
    let Some(question) = question else {
        // Of a round that is over: the same answer again is a client's second try, another one a source that changes.
        return match batch.answers.get(number.place).copied().flatten() {
            Some(known) if known != present => answered_in_vain(&batch, inquiry, "two answers to one question differ"),
            _ => Ok(false),
        };
    };
    possible(present, question.items())?;
    batch.answers.resize(used + search.questions().len(), None);
    match batch.answers[number.place] {
        Some(known) if known == present => return Ok(false),
        Some(_) => return answered_in_vain(&batch, inquiry, "two answers to one question differ"),
        None => batch.answers[number.place] = Some(present),
    }
    inquiry::add(run, Tally::of_cost(Cost { questions: 1, rounds: 0 }))?;
    if batch.answers.iter().any(Option::is_none) {
        batch.store_answers(run)?;
        return Ok(true);
    }
    inquiry::add(run, Tally::of_cost(Cost { questions: 0, rounds: 1 }))?;
    match batch.search(inquiry.manner.strategy) {
        Err(error) => start_over(&batch, inquiry, &error.summary()),
        Ok((search, _)) if search.missing().is_none() => {
            batch.store_answers(run)?;
            Ok(true)
        }
        Ok((search, _)) => {
            decided(batch, table, inquiry, search)?;
            Ok(true)
        }
    }
}

/// The answer to one of the last questions about suspects.
fn confirm(table: &Rc<Table>, inquiry: &Inquiry, number: Number, last: Last, present: Option<i64>) -> Result<bool> {
    let run = inquiry.run;
    let suspects = suspects::one(run, number.batch)?;
    let Some(suspects) = suspects.filter(|suspects| (suspects.attempt, suspects.next_question()) == (number.attempt, last))
    else {
        return Ok(false);
    };
    let confirmed = match present {
        Some(_) if suspects.attempt >= retry::TRIES => Err(Error::no_answer("its last questions were answered too far apart")),
        Some(present) => suspects.confirm(&Answer::Count(possible(present, suspects.question(last).len())?)),
        None => Err(Error::no_answer(NOT_ASKED)),
    };
    inquiry::add(run, Tally::of_cost(Cost { questions: 1, rounds: 1 }))?;
    let tally = match confirmed {
        Err(_) if suspects.attempt + 1 < retry::TRIES => {
            suspects.fail(run)?;
            return Ok(true);
        }
        Err(error) => suspects.given_up(&error),
        Ok(()) if !suspects.is_answered_with(last) => {
            suspects.note_confirmed(run)?;
            return Ok(true);
        }
        Ok(()) => suspects.delete(table, run, &inquiry.manner, Rights::of_caller(table))?,
    };
    suspects.remove(run)?;
    inquiry::add(run, tally)?;
    end_if_over(run)?;
    Ok(true)
}

/// Ends a run that nobody is to go on with; false where it is over (the design has no such door: it would stay for 30 days).
#[pg_extern(sql = false)]
fn reconcile_close(run: Option<i64>) -> Result<bool, ErrorReport> {
    let close = || -> Result<bool> {
        let run = required("run", run)?;
        table_of(run, LockFor::Reading)?;
        let Some(inquiry) = inquiry::load(run)? else { return Ok(false) };
        inquiry::end(inquiry.run, "ended", Some("closed before its last question was answered"))
    };
    close().map_err(Into::into)
}

/// A question was asked, and its answer is of no use, nor are those before it.
fn answered_in_vain(batch: &Stored, inquiry: &Inquiry, why: &str) -> Result<bool> {
    inquiry::add(inquiry.run, Tally::of_cost(Cost { questions: 1, rounds: 0 }))?;
    start_over(batch, inquiry, why)
}

/// Throws the answers away, as they contradict each other; after a few attempts the batch is given up.
fn start_over(batch: &Stored, inquiry: &Inquiry, why: &str) -> Result<bool> {
    if batch.attempt + 1 < retry::TRIES {
        batch.start_over(inquiry.run)?;
        return Ok(true);
    }
    let mut tally = Tally::default();
    tally.lose(&batch.title(), why);
    inquiry::add(inquiry.run, tally)?;
    remove(inquiry.run, batch.number)?;
    Ok(true)
}

/// What the search has found, is acted upon once all batches have been searched.
fn decided(batch: Stored, table: &Rc<Table>, inquiry: &Inquiry, search: Search) -> Result<()> {
    let run = inquiry.run;
    let (number, is_live) = (batch.number, batch.is_live);
    let batch = batch.into_batch(inquiry.manner.strategy).searched(search);
    if is_live {
        inquiry::add(run, batch.tally())?;
        if let Some(suspects) = Suspects::of(&batch, number) {
            suspects.store(run)?;
        }
        if let Some(why) = batch.refusal(table, inquiry.manner.max_missing)? {
            return refuse(run, &why);
        }
    } else {
        inquiry::add(run, revival::restore(table, batch.present(), Rights::of_caller(table))?)?;
    }
    remove(run, number)
}

/// A batch that is searched or given up; after the last one it is asked once more about what is missing.
fn remove(run: Run, batch: i32) -> Result<()> {
    stored::remove(run, batch)?;
    if stored::any(run)? {
        return Ok(());
    }
    inquiry::move_to(run, Phase::Deleting, None)?;
    end_if_over(run)
}

fn refuse(run: Run, why: &str) -> Result<()> {
    inquiry::end(run, "refused", Some(&format!("{why}; {}", inquiry::advice(run)))).map(drop)
}

fn end_if_over(run: Run) -> Result<()> {
    if suspects::next(run, 0)?.is_some() {
        return Ok(());
    }
    let Some(inquiry) = inquiry::load(run.number)? else { return Ok(()) };
    inquiry::end(run, inquiry.tally.outcome(), inquiry.tally.detail().as_deref()).map(drop)
}

/// The table that a run is about, which the caller must own; 42704 where there is no such run.
fn table_of(run: i64, what_for: LockFor) -> Result<Rc<Table>> {
    let table = match TABLE.first(&[run.into()], |row| row.get(1))? {
        Some(number) => by_number(number)?,
        None => None,
    };
    let unknown = || {
        Error::undefined(format!("there is no run {run} that an outside client could answer"))
            .detail("It never was, its table is managed no longer, or it is not one of reconcile_open().")
            .hint("See tombstone.runs; tombstone.reconcile_open() begins one.")
    };
    owned_table(Some(table.ok_or_else(unknown)?.oid), what_for)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_says_which_question(batch in 1i32.., attempt in 0u32..ATTEMPTS as u32, place in 0usize..PLACES as usize) {
            let number = Number { batch, attempt, place };
            prop_assert_eq!(Number::decode(number.encode()), Some(number));
        }

        #[test]
        fn what_is_no_number_is_none(number in ..PLACES * ATTEMPTS) {
            prop_assert_eq!(Number::decode(number), None);
        }
    }
}
