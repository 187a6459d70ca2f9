//! What the search promises, held against sources that are true, that change, that lie and that fail.

use crate::level::half;
use crate::{Contradiction, Question, Search, Strategy};
use fastrand::Rng;
use proptest::prelude::{Strategy as _, *};
use std::ops::Range;

/// A source that tells the truth about a list of items: `true` is missing.
#[derive(Debug)]
struct Source {
    missing: Vec<bool>,
    /// How many are missing before each place.
    before: Vec<usize>,
}

impl Source {
    fn new(missing: Vec<bool>) -> Source {
        let mut before = vec![0];
        before.extend(missing.iter().scan(0, |sum, missing| {
            *sum += usize::from(*missing);
            Some(*sum)
        }));
        Source { missing, before }
    }

    fn random(items: usize, missing: usize, rng: &mut Rng) -> Source {
        Source::of(items, rng.choose_multiple(0..items, missing))
    }

    /// Runs of about `run` neighbours.
    fn clustered(items: usize, missing: usize, run: usize, rng: &mut Rng) -> Source {
        let mut list = vec![false; items];
        let mut left = missing;
        while left > 0 {
            let start = rng.usize(..items);
            for place in list[start..].iter_mut().filter(|place| !**place).take(run.min(left)) {
                *place = true;
                left -= 1;
            }
        }
        Source::new(list)
    }

    fn of(items: usize, places: impl IntoIterator<Item = usize>) -> Source {
        let mut list = vec![false; items];
        for place in places {
            list[place] = true;
        }
        Source::new(list)
    }

    fn missing_of(&self, question: &Question) -> usize {
        question.ranges().iter().map(|range| self.before[range.end] - self.before[range.start]).sum()
    }

    fn present(&self, question: &Question) -> u64 {
        (question.items() - self.missing_of(question)) as u64
    }

    fn places(&self) -> Vec<usize> {
        (0..self.missing.len()).filter(|place| self.missing[*place]).collect()
    }

    fn is_wrong_about(&self, asked: &[(Question, u64)]) -> bool {
        asked.iter().any(|(question, answer)| self.present(question) != *answer)
    }
}

/// Searches to the end, and holds every question against what a question must be.
fn search(source: &Source, strategy: Strategy) -> Search {
    let mut search = Search::new(source.missing.len(), strategy);
    while !search.questions().is_empty() {
        assert_eq!(search.missing(), None);
        search.questions().iter().for_each(|question| assert_well_formed(question, source.missing.len()));
        let answers: Vec<u64> = search.questions().iter().map(|question| source.present(question)).collect();
        search.answer(&answers).unwrap();
    }
    assert_eq!(search.missing(), Some(&source.places()[..]));
    search
}

fn assert_well_formed(question: &Question, items: usize) {
    assert!(question.items() > 0);
    assert_eq!(question.items(), question.places().count());
    assert!(question.ranges().iter().all(|range| range.start < range.end && range.end <= items));
    assert!(question.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
}

/// How many questions halving asks, one block at a time.
fn plain_halving(source: &Source, start: usize, end: usize) -> usize {
    let missing = source.before[end] - source.before[start];
    if missing == 0 || missing == end - start {
        return 0;
    }
    let middle = start + half(end - start);
    1 + plain_halving(source, start, middle) + plain_halving(source, middle, end)
}

/// What Wang's split of 2017 never exceeds: max((l + 1) · d + k, 1), l = ceil(log2(n / d)) − 1, k = ceil(n / 2^l) − d.
fn wang_bound(items: usize, missing: usize) -> usize {
    if missing == 0 {
        return 1;
    }
    let levels = (0..).find(|levels| missing << levels >= items).unwrap();
    let k = if levels == 0 { 2 * items } else { items.div_ceil(1 << (levels - 1)) } - missing;
    (levels * missing + k).max(1)
}

fn assert_bounds(source: &Source, strategy: Strategy, search: &Search) {
    let items = source.missing.len();
    assert!(search.asked() <= items, "{strategy:?} asked {} of {items}", search.asked());
    if strategy == Strategy::Level {
        let halving = 1 + plain_halving(source, 0, items);
        let wang = wang_bound(items, source.before[items]);
        assert!(search.asked() <= halving.min(wang), "asked {}, halving {halving}, Wang {wang}", search.asked());
    }
}

#[test]
fn no_items_no_question() {
    for strategy in Strategy::ALL {
        let search = Search::new(0, strategy);
        assert!(search.questions().is_empty());
        assert_eq!(search.missing(), Some(&[][..]));
    }
}

#[test]
fn the_first_question_is_about_all() {
    for strategy in Strategy::ALL {
        let search = Search::new(1000, strategy);
        assert_eq!(search.questions().len(), 1);
        assert_eq!(search.questions()[0].ranges().to_vec(), [Range { start: 0, end: 1000 }]);
    }
}

#[test]
fn strategies_have_names() {
    for strategy in Strategy::ALL {
        assert_eq!(Strategy::from_name(strategy.name()), Some(strategy));
    }
    assert_eq!(Strategy::from_name("guess"), None);
}

/// Every number of items up to 64, every number of missing ones, in several patterns.
#[test]
fn small_lists() {
    let mut rng = Rng::with_seed(1);
    for items in 1..=64 {
        for missing in 0..=items {
            let alternating = (0..items).filter(|place| place % 2 == 0).chain((0..items).filter(|place| place % 2 == 1));
            let start = rng.usize(..=items - missing);
            let patterns = [
                Source::random(items, missing, &mut rng),
                Source::random(items, missing, &mut rng),
                Source::clustered(items, missing, 4, &mut rng),
                Source::of(items, start..start + missing),
                Source::of(items, alternating.take(missing)),
            ];
            for source in &patterns {
                for strategy in [Strategy::Level, Strategy::LevelStar] {
                    assert_bounds(source, strategy, &search(source, strategy));
                }
            }
            // The tracker takes its time: one pattern for each.
            let source = &patterns[(items + missing) % patterns.len()];
            assert_bounds(source, Strategy::Tracker, &search(source, Strategy::Tracker));
        }
    }
}

/// Every set of items there is.
#[test]
fn tiny_lists() {
    for items in 1..=10 {
        for set in 0..1usize << items {
            let source = Source::of(items, (0..items).filter(|place| set >> place & 1 == 1));
            for strategy in Strategy::ALL {
                assert_bounds(&source, strategy, &search(&source, strategy));
            }
        }
    }
}

/// The most that halving can ask about n items of which d are missing is within Wang's bound, so level is, as it never asks more.
#[test]
fn halving_is_within_the_bound_of_wang() {
    const MOST: usize = 200;
    let mut worst: Vec<Vec<usize>> = vec![vec![], vec![0, 0]];
    for items in 2..=MOST {
        let (left, right) = (half(items), items - half(items));
        let of_missing = |missing: usize| {
            let splits = missing.saturating_sub(right)..=missing.min(left);
            let deeper = splits.map(|in_left| worst[left][in_left] + worst[right][missing - in_left]).max().unwrap();
            if missing == 0 || missing == items { 0 } else { 1 + deeper }
        };
        let worst_of_these: Vec<usize> = (0..=items).map(of_missing).collect();
        for (missing, questions) in worst_of_these.iter().enumerate() {
            assert!(*questions < wang_bound(items, missing), "{missing} of {items}");
        }
        worst.push(worst_of_these);
    }
}

/// Mean questions at N = 1000, as the simulations of the design have them, each within three per cent.
#[test]
fn as_few_questions_as_designed() {
    let table = [
        // missing, level, level*, tracker
        (0, 1.0, 1.0, 1.0),
        (1, 10.9, 10.9, 11.0),
        // The tracker's 13.2 of the design were ten lucky sets: log2 C(1000, 2) bits, 1.5 an answer at best, take 13.6.
        (2, 19.4, 19.5, 13.6),
        (5, 33.0, 32.9, 19.8),
        (10, 51.0, 51.2, 29.2),
        (20, 74.1, 74.0, 44.2),
        (50, 124.0, 124.0, 83.0),
        (100, 178.5, 178.4, 138.0),
        (300, 301.0, 259.0, 273.0),
        (500, 347.0, 259.0, 321.0),
        (900, 179.0, 178.5, 138.0),
        (1000, 1.0, 1.0, 1.0),
    ];
    for (missing, level, level_star, tracker) in table {
        for (strategy, designed) in Strategy::ALL.into_iter().zip([level, level_star, tracker]) {
            let runs = if strategy == Strategy::Tracker && (20..=980).contains(&missing) { 4 } else { 200 };
            let mut rng = Rng::with_seed(missing as u64);
            let asked: usize = (0..runs).map(|_| search(&Source::random(1000, missing, &mut rng), strategy).asked()).sum();
            let mean = asked as f64 / runs as f64;
            assert!(mean <= designed * 1.03, "{} of {missing}: {mean} questions, not {designed}", strategy.name());
        }
    }
}

#[test]
fn neighbours_are_cheap() {
    for strategy in Strategy::ALL {
        let asked = search(&Source::of(1000, 130..630), strategy).asked();
        assert!(asked <= 40, "{}: {asked}", strategy.name());
    }
}

/// Strategies that count on chance notice when the missing lie together.
#[test]
fn runs_are_noticed() {
    let mut rng = Rng::with_seed(3);
    for missing in [100, 300, 500] {
        let sources: Vec<Source> = (0..20).map(|_| Source::clustered(1000, missing, 25, &mut rng)).collect();
        let asked = |strategy| sources.iter().map(|source| search(source, strategy).asked()).sum::<usize>();
        let by_level = asked(Strategy::Level);
        for strategy in [Strategy::LevelStar, Strategy::Tracker] {
            assert!(asked(strategy) <= by_level * 11 / 10, "{}, {missing} missing", strategy.name());
        }
    }
}

/// Rounds grow with the logarithm of the list.
#[test]
fn few_rounds() {
    let mut rng = Rng::with_seed(4);
    for missing in [1, 10, 100, 500, 999] {
        for strategy in [Strategy::Level, Strategy::LevelStar] {
            assert!(search(&Source::random(1000, missing, &mut rng), strategy).rounds() <= 11);
        }
    }
}

#[test]
fn a_million_items() {
    let mut rng = Rng::with_seed(5);
    for (missing, strategies) in [(0, &Strategy::ALL[..]), (100, &Strategy::ALL[..]), (20_000, &Strategy::ALL[..2])] {
        let source = Source::random(1_000_000, missing, &mut rng);
        for strategy in strategies {
            assert_bounds(&source, *strategy, &search(&source, *strategy));
        }
    }
    for strategy in Strategy::ALL {
        search(&Source::of(1_000_000, 499_900..700_123), strategy);
    }
}

/// Numbers may be as large as they come.
#[test]
fn as_many_items_as_can_be_numbered() {
    for items in [1 << 40, usize::MAX - 1, usize::MAX] {
        let missing = [0, items / 3, items / 3 + 1, items - 1];
        for strategy in Strategy::ALL {
            let mut search = Search::new(items, strategy);
            while !search.questions().is_empty() {
                let gone = |question: &Question| {
                    missing.iter().filter(|place| question.ranges().iter().any(|range| range.contains(place))).count()
                };
                let answers: Vec<u64> =
                    search.questions().iter().map(|question| (question.items() - gone(question)) as u64).collect();
                search.answer(&answers).unwrap();
            }
            assert_eq!(search.missing(), Some(&missing[..]));
            assert!(search.asked() < 256);
        }
    }
}

/// A list larger than a round takes is cut a part at a time.
#[test]
fn more_than_a_round_takes() {
    let mut rng = Rng::with_seed(6);
    let source = Source::random(40_000, 20_000, &mut rng);
    for strategy in [Strategy::Level, Strategy::LevelStar] {
        assert_bounds(&source, strategy, &search(&source, strategy));
    }
}

#[test]
fn a_wrong_number_of_answers_is_refused() {
    for answers in [&[][..], &[1, 2]] {
        let mut search = Search::new(10, Strategy::Level);
        assert!(search.answer(answers).is_err());
        assert!(search.questions().is_empty());
        assert_eq!(search.missing(), None);
        assert_eq!(search.answer(&[]), Ok(()));
        assert_eq!(search.missing(), None);
    }
    let mut over = Search::new(0, Strategy::Level);
    assert_eq!(over.answer(&[]), Ok(()));
    assert_eq!(over.missing(), Some(&[][..]));
    assert!(over.answer(&[1]).is_err());
    assert_eq!(over.missing(), None);
}

#[test]
fn a_contradiction_is_said_in_words() {
    for strategy in Strategy::ALL {
        let said = |answers: &[u64]| Search::resume(8, strategy, answers).unwrap_err().to_string();
        assert_eq!(said(&[9]), "9 of 8 items are said to be present");
        assert_eq!(said(&[7, 2]), "between 3 and 4 of 4 items must be present, and 2 are said to be");
    }
    let mut search = Search::new(10, Strategy::Level);
    assert_eq!(search.answer(&[]).unwrap_err().to_string(), "1 question was asked, and 0 answers came");
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop::sample::select(&Strategy::ALL[..])
}

/// Lists with any number of missing, together or apart.
fn sources(most: usize) -> impl proptest::strategy::Strategy<Value = Source> {
    (1..=most, 0.0..=1.0f64, any::<bool>(), 1usize..50, any::<u64>()).prop_map(|(items, share, even, run, seed)| {
        // As often few as many.
        let share = if even { share } else { share.powi(6) };
        let missing = (items as f64 * share).round() as usize;
        Source::clustered(items, missing, if even { 1 } else { run }, &mut Rng::with_seed(seed))
    })
}

/// Asks an oracle until the search is over or contradicted. Whatever the oracle says: there are at most as many questions as items, and
/// what is found missing agrees with every answer. Returns whether there was a result.
fn ends_well(items: usize, strategy: Strategy, mut oracle: impl FnMut(usize, &Question) -> u64) -> bool {
    let mut search = Search::new(items, strategy);
    let mut asked: Vec<(Question, u64)> = Vec::new();
    while !search.questions().is_empty() {
        let mut answers = Vec::new();
        for question in search.questions() {
            assert_well_formed(question, items);
            answers.push(oracle(asked.len(), question));
            asked.push((question.clone(), answers[answers.len() - 1]));
        }
        assert!(asked.len() <= items, "{} questions about {items} items", asked.len());
        let outcome: Result<(), Contradiction> = search.answer(&answers);
        if let Err(contradiction) = outcome {
            assert!(search.questions().is_empty() && search.missing().is_none());
            assert!(!contradiction.to_string().is_empty());
            return false;
        }
    }
    let found = Source::of(items, search.missing().unwrap().iter().copied());
    assert!(!found.is_wrong_about(&asked));
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn finds_exactly_the_missing(source in sources(1000), strategy in strategies()) {
        assert_bounds(&source, strategy, &search(&source, strategy));
    }

    #[test]
    fn resumes_from_any_answer(source in sources(300), strategy in strategies(), cut in any::<prop::sample::Index>()) {
        let mut whole = Search::new(source.missing.len(), strategy);
        let (mut answers, mut stages) = (Vec::new(), Vec::new());
        while !whole.questions().is_empty() {
            stages.push((answers.len(), whole.questions().to_vec()));
            let round: Vec<u64> = whole.questions().iter().map(|question| source.present(question)).collect();
            whole.answer(&round).unwrap();
            answers.extend(round);
        }
        stages.push((answers.len(), Vec::new()));

        let known = cut.index(answers.len() + 1);
        let (mut resumed, used) = Search::resume(source.missing.len(), strategy, &answers[..known]).unwrap();
        let stage = stages.iter().rposition(|(so_far, _)| *so_far <= known).unwrap();
        prop_assert_eq!(used, stages[stage].0);
        prop_assert_eq!((resumed.asked(), resumed.rounds()), (used, stage));
        prop_assert_eq!(resumed.questions(), &stages[stage].1[..]);
        for (so_far, questions) in &stages[stage..] {
            prop_assert_eq!(resumed.questions(), &questions[..]);
            resumed.answer(&answers[*so_far..so_far + questions.len()]).unwrap();
        }
        prop_assert_eq!(resumed.missing(), whole.missing());
    }

    #[test]
    fn answers_that_mean_nothing(items in 1usize..300, strategy in strategies(), seed: u64, wild: bool) {
        let mut rng = Rng::with_seed(seed);
        ends_well(items, strategy, |_, question| if wild { rng.u64(..) } else { rng.u64(0..=question.items() as u64) });
    }

    /// After the first answer, nothing that is impossible by itself: what is left is whether all fit together.
    #[test]
    fn answers_near_the_truth(source in sources(400), strategy in strategies(), seed: u64) {
        let mut rng = Rng::with_seed(seed);
        ends_well(source.missing.len(), strategy, |asked, question| {
            let off = if asked == 0 { 0 } else { rng.u64(0..4) / 3 };
            (source.present(question) + off).min(question.items() as u64)
        });
    }

    #[test]
    fn a_source_that_changes(source in sources(400), strategy in strategies(), seed: u64, after in 0usize..100) {
        let (mut source, mut rng) = (source, Rng::with_seed(seed));
        let items = source.missing.len();
        ends_well(items, strategy, |asked, question| {
            let answer = source.present(question);
            if asked >= after {
                let changed = rng.usize(..items);
                source.missing[changed] = !source.missing[changed];
                source = Source::new(std::mem::take(&mut source.missing));
            }
            answer
        });
    }

    #[test]
    fn an_outage(source in sources(600), strategy in strategies(), from in 0usize..100) {
        ends_well(source.missing.len(), strategy, |asked, question| if asked < from { source.present(question) } else { 0 });
    }

    #[test]
    fn one_answer_off_by_one(source in sources(600), strategy in strategies(), which in 0usize..100, more: bool) {
        ends_well(source.missing.len(), strategy, |asked, question| {
            let true_answer = source.present(question);
            match (asked == which, more) {
                (false, _) => true_answer,
                (true, true) => true_answer + 1,
                (true, false) => true_answer.saturating_sub(1),
            }
        });
    }
}

/// An outage in the middle of a search never turns into a result, where all had been said to be present or the block asked about to be.
#[test]
fn an_outage_after_the_first_answer_is_noticed() {
    let mut rng = Rng::with_seed(9);
    for missing in [1, 2, 10, 100] {
        let source = Source::random(1000, missing, &mut rng);
        for strategy in Strategy::ALL {
            assert!(!ends_well(1000, strategy, |asked, question| if asked == 0 { source.present(question) } else { 0 }));
        }
    }
}
