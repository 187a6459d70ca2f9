//! How many questions each way of searching takes, next to what others take and to what nobody can do without; and how fast the search
//! itself is. Prints Markdown. With the name of a file, also draws the plot there, as SVG.

use counting::{Question, Search, Strategy};
use fastrand::Rng;
use std::fmt::Write;
use std::time::{Duration, Instant};

const ITEMS: usize = 1000;
const MISSING: [usize; 12] = [0, 1, 2, 5, 10, 20, 50, 100, 300, 500, 900, 1000];
const RUN: usize = 25;

fn main() -> std::io::Result<()> {
    table("Missing anywhere", Source::random);
    table(&format!("Missing in runs of {RUN} neighbours"), Source::in_runs);
    speed();
    match std::env::args().nth(1) {
        Some(file) => std::fs::write(file, plot()),
        None => Ok(()),
    }
}

/// A source in which some items are missing.
struct Source {
    missing: usize,
    /// How many are present before each place.
    before: Vec<usize>,
}

impl Source {
    fn new(gone: &[bool]) -> Source {
        let mut before = vec![0];
        for gone in gone {
            before.push(before[before.len() - 1] + usize::from(!gone));
        }
        Source { missing: gone.iter().filter(|gone| **gone).count(), before }
    }

    fn random(missing: usize, rng: &mut Rng) -> Source {
        let mut gone = [false; ITEMS];
        rng.choose_multiple(0..ITEMS, missing).into_iter().for_each(|place| gone[place] = true);
        Source::new(&gone)
    }

    fn in_runs(missing: usize, rng: &mut Rng) -> Source {
        let mut gone = [false; ITEMS];
        let mut left = missing;
        while left > 0 {
            for place in gone[rng.usize(..ITEMS)..].iter_mut().filter(|gone| !**gone).take(RUN.min(left)) {
                *place = true;
                left -= 1;
            }
        }
        Source::new(&gone)
    }

    fn present(&self, start: usize, end: usize) -> usize {
        self.before[end] - self.before[start]
    }

    fn answer(&self, question: &Question) -> u64 {
        question.ranges().iter().map(|range| self.present(range.start, range.end) as u64).sum()
    }

    fn search(&self, strategy: Strategy) -> Search {
        let mut search = Search::new(ITEMS, strategy);
        while !search.questions().is_empty() {
            let answers: Vec<u64> = search.questions().iter().map(|question| self.answer(question)).collect();
            search.answer(&answers).expect("the truth contradicts nothing");
        }
        assert_eq!(search.missing().map(<[usize]>::len), Some(self.missing));
        search
    }
}

// What others ask.

/// log2 C(n, d) bits, of which an answer tells at most log2(min(d, n − d) + 1), after the first, which tells d.
fn lower_bound(missing: usize) -> f64 {
    let rare = missing.min(ITEMS - missing);
    let bits: f64 = (1..=rare).map(|i| ((ITEMS - rare + i) as f64 / i as f64).log2()).sum();
    if rare == 0 { 1.0 } else { 1.0 + (bits / (rare as f64 + 1.0).log2()).ceil() }
}

/// Wang's split: of n items of which d are missing (or present, if these are fewer) takes 2^l off, l = ceil(log2(n / d)) − 1, asks
/// about them, and goes on with both parts in the same way, one after the other. Without the first question.
fn wang(source: &Source, start: usize, end: usize) -> usize {
    let (items, present) = (end - start, source.present(start, end));
    let rare = present.min(items - present);
    if rare == 0 {
        return 0;
    }
    let mut taken = 1;
    while 2 * taken * rare < items {
        taken *= 2;
    }
    1 + wang(source, start, start + taken) + wang(source, start + taken, end)
}

/// Asks about one half, and goes on with both. Without the first question.
fn halving(source: &Source, start: usize, end: usize) -> usize {
    let present = source.present(start, end);
    if present == 0 || present == end - start {
        return 0;
    }
    let middle = start.midpoint(end);
    1 + halving(source, start, middle) + halving(source, middle, end)
}

// Questions and rounds.

#[derive(Default)]
struct Means {
    wang: f64,
    halving: f64,
    /// By strategy.
    questions: [f64; 3],
    rounds: [f64; 3],
}

fn means(missing: usize, source: fn(usize, &mut Rng) -> Source) -> Means {
    let mut means = Means::default();
    let (many, few) = (200, 20);
    for (place, strategy) in Strategy::ALL.into_iter().enumerate() {
        let sources = if strategy == Strategy::Tracker { few } else { many };
        let mut rng = Rng::with_seed(missing as u64);
        for _ in 0..sources {
            let search = source(missing, &mut rng).search(strategy);
            means.questions[place] += search.asked() as f64 / f64::from(sources);
            means.rounds[place] += search.rounds() as f64 / f64::from(sources);
        }
    }
    let mut rng = Rng::with_seed(missing as u64);
    for _ in 0..many {
        let source = source(missing, &mut rng);
        means.wang += (1 + wang(&source, 0, ITEMS)) as f64 / f64::from(many);
        means.halving += (1 + halving(&source, 0, ITEMS)) as f64 / f64::from(many);
    }
    means
}

fn table(title: &str, source: fn(usize, &mut Rng) -> Source) {
    println!("{title}, of {ITEMS} items; mean questions (mean rounds)\n");
    println!("| missing | nobody can with fewer | one by one | Wang's split | halving | level | level\\* | tracker |");
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for missing in MISSING {
        let means = means(missing, source);
        // The bound is about any d of the items; those that lie together are fewer sets.
        let bound = if title.contains("runs") { "–".to_string() } else { lower_bound(missing).to_string() };
        print!("| {missing} | {bound} | {ITEMS} | {:.1} | {:.1} |", means.wang, means.halving);
        for (questions, rounds) in means.questions.iter().zip(means.rounds) {
            print!(" {questions:.1} ({rounds:.0}) |");
        }
        println!();
    }
    println!();
}

// Speed.

fn speed() {
    println!("Million ids a second, one core, batches of {ITEMS}; median of 7 runs (least–greatest)\n");
    println!("| missing anywhere | level | level\\* | tracker |\n|--:|--:|--:|--:|");
    for missing in [0, 1, 10, 100] {
        print!("| {:.1} % |", missing as f64 * 100.0 / ITEMS as f64);
        for strategy in Strategy::ALL {
            let mut runs: Vec<f64> = (0..7).map(|seed| ids_a_second(missing, strategy, seed) / 1e6).collect();
            runs.sort_by(f64::total_cmp);
            print!(" {} ({}–{}) |", rounded(runs[3]), rounded(runs[0]), rounded(runs[6]));
        }
        println!();
    }
}

/// To three digits.
fn rounded(figure: f64) -> String {
    let decimals = (2.0 - figure.log10().floor()).max(0.0) as usize;
    format!("{figure:.decimals$}")
}

fn ids_a_second(missing: usize, strategy: Strategy, seed: u64) -> f64 {
    let mut rng = Rng::with_seed(seed);
    let sources: Vec<Source> = (0..10).map(|_| Source::random(missing, &mut rng)).collect();
    let (start, mut batches) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(200) {
        sources[batches % sources.len()].search(strategy);
        batches += 1;
    }
    (batches * ITEMS) as f64 / start.elapsed().as_secs_f64()
}

// The plot: both axes logarithmic.

const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 420.0;
const FONT: &str = "font-family='sans-serif' font-size='13'";

fn x(missing: f64) -> f64 {
    LEFT + missing.log(500.0) * WIDTH
}

fn y(questions: f64) -> f64 {
    TOP + HEIGHT - (questions / 8.0).log(1200.0 / 8.0) * HEIGHT
}

fn plot() -> String {
    let missing = [1, 2, 3, 5, 7, 10, 14, 20, 30, 40, 50, 70, 100, 140, 200, 250, 300, 400, 500];
    let random: Vec<Means> = missing.iter().map(|missing| means(*missing, Source::random)).collect();
    let together: Vec<Means> = missing.iter().map(|missing| means(*missing, Source::in_runs)).collect();
    let line = |value: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        missing.iter().enumerate().map(|(place, missing)| (*missing as f64, value(place))).collect()
    };
    let in_runs = format!("level, runs of {RUN}");
    let lines = [
        ("one by one", "#888", "", 0.0, line(&|_| ITEMS as f64)),
        ("Wang's split", "#b35c00", "", -4.0, line(&|place| random[place].wang)),
        ("halving", "#d9a300", "", 6.0, line(&|place| random[place].halving)),
        ("level", "#1257a8", "", 0.0, line(&|place| random[place].questions[0])),
        ("level*", "#7a3fb0", "7 4", -2.0, line(&|place| random[place].questions[1])),
        ("tracker", "#1c8a4a", "2 3", 11.0, line(&|place| random[place].questions[2])),
        (&in_runs, "#6fa8dc", "", 0.0, line(&|place| together[place].questions[0])),
        ("nobody with fewer", "#222", "1 4", -4.0, line(&|place| lower_bound(missing[place]))),
    ];

    let (all_width, all_height) = (LEFT + WIDTH + 150.0, TOP + HEIGHT + 60.0);
    let mut svg = format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {all_width} {all_height}' {FONT}>\n");
    let mut put = |element: String| writeln!(svg, "{element}").expect("a String takes all");
    put(format!("<rect width='{all_width}' height='{all_height}' fill='#fff'/>"));
    put(format!("<text x='{LEFT}' y='28' font-size='16'>Questions to find all that is missing among {ITEMS} items</text>"));
    for tick in [1, 2, 5, 10, 20, 50, 100, 200, 500] {
        let at = x(tick.into());
        put(format!("<path d='M{at:.1} {TOP}v{HEIGHT}' stroke='#e4e4e4'/>"));
        put(format!("<text x='{at:.1}' y='{}' text-anchor='middle'>{tick}</text>", TOP + HEIGHT + 20.0));
    }
    for tick in [10, 20, 50, 100, 200, 500, 1000] {
        let at = y(tick.into());
        put(format!("<path d='M{LEFT} {at:.1}h{WIDTH}' stroke='#e4e4e4'/>"));
        put(format!("<text x='{}' y='{:.1}' text-anchor='end'>{tick}</text>", LEFT - 8.0, at + 4.0));
    }
    let (middle, bottom) = (LEFT + WIDTH / 2.0, TOP + HEIGHT + 44.0);
    put(format!("<text x='{middle}' y='{bottom}' text-anchor='middle'>missing, anywhere unless said otherwise</text>"));
    let turned = format!("transform='rotate(-90 20 {0})' x='20' y='{0}'", TOP + HEIGHT / 2.0);
    put(format!("<text {turned} text-anchor='middle'>mean questions</text>"));
    for (name, colour, dashes, shift, points) in lines {
        let path: Vec<String> = points.iter().map(|(missing, value)| format!("{:.1} {:.1}", x(*missing), y(*value))).collect();
        let stroke = format!("fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dashes}'");
        put(format!("<path d='M{}' {stroke}/>", path.join("L")));
        let at = y(points[points.len() - 1].1) + 4.0 + shift;
        put(format!("<text x='{}' y='{at:.1}' fill='{colour}'>{name}</text>", LEFT + WIDTH + 8.0));
    }
    svg + "</svg>\n"
}
