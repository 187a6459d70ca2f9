//! Many unknown numbers from fewer sums, all asked at once.
//!
//! Given unknown numbers, each known to be one of 0..range, which sums of them tell all? One sum for each number would do.
//! Here is how fewer do.
//!
//! **Questions and rows are numbered 1 to m, and a number stands for the set of its binary digits:** 5 = 101 is the set {0, 2}.
//! Each unknown gets a *row* r. Whether question j contains the unknown depends on the digits that j and r share, on j & r, alone.
//! An unknown of multiplier μ is in question j if j & r is one of μ chosen subsets of r that have an odd number of digits.
//!
//! **Why rows come apart.** For a row r, add up the answers to all questions j that are subsets of r: those with an odd number of
//! digits count plus, those with an even number minus. What is left of an unknown of row s?
//! - If r has a digit that s lacks, then the questions come in pairs, with and without that digit. j & s is the same in both, so
//!   both contain the unknown or both do not; their signs differ; so it cancels.
//! - If s = r, it is in μ of these questions, and each of them counts plus: what is left is μ times the unknown.
//! - If r is a proper subset of s, something is left that is not so nice. But then s > r as numbers.
//!
//! So the largest row goes first. No row is a superset of it: its alternating sum is Σ μ · x over its own unknowns. Once
//! these are known, their share is subtracted from every answer, and the next smaller row is as undisturbed as the first was.
//!
//! **Why several unknowns fit in a row.** r has 2^(digits − 1) subsets of odd size, so a multiplier may be as large as that. Let the
//! first unknown of a row have multiplier 1, the second the first's range, the third the product of both ranges …: then Σ μ · x is a
//! number whose digits the unknowns are, in mixed radix, and is read like any number. The last digit may be as large as it likes.
//!
//! **Example.** Four unknowns a, b, c, d that are 0 or 1, three questions. Row 1 (binary 01) has a, row 2 (10) has b; row 3 (11) has
//! c with multiplier 1, in the questions j with j & 11 = 01; and d with multiplier 2, in those with j & 11 = 01 or 10.
//!
//! | question | contains | answer if a = 1, b = 0, c = 1, d = 1 |
//! |---|---|---|
//! | 1 = 01 | a, c, d | 3 |
//! | 2 = 10 | b, d | 1 |
//! | 3 = 11 | a, b | 1 |
//!
//! Row 3: 3 + 1 − 1 = 3 = 1 · c + 2 · d, so c = 1 and d = 1. Less their shares the answers are 1, 0, 1. Row 2: b = 0. Row 1: a = 1.
//!
//! Unknowns that are 0 or 1 fit in as many as a row has digits. So m questions find m · log2(m) / 2 of them: 252 questions find 1000.
//! (Lindström 1965, Cantor and Mills 1966, here with a range of its own for each unknown.)

/// Which unknowns are in which question.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// One for each unknown.
    seats: Vec<Seat>,
    /// The unknowns of rows 1.., in the order of their digits, the lowest first.
    rows: Vec<Vec<usize>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seat {
    row: usize,
    multiplier: u64,
}

impl Matrix {
    /// The smallest of this kind for unknowns of these ranges, each of them 2 or more.
    pub fn new(ranges: &[u64]) -> Matrix {
        let mut ascending: Vec<usize> = (0..ranges.len()).collect();
        ascending.sort_by_key(|unknown| ranges[*unknown]);
        let mut questions = fewest(ranges.len());
        loop {
            match seat(ranges, &ascending, questions) {
                Some(rows) => return Matrix { seats: seats(ranges, &rows), rows },
                None => questions += 1,
            }
        }
    }

    pub fn questions(&self) -> usize {
        self.rows.len()
    }

    /// The unknowns in the question at that place (0..), ascending.
    pub fn members(&self, question: usize) -> impl Iterator<Item = usize> {
        let ranks: Vec<u64> = (1..=self.rows.len()).map(|row| rank(question + 1, row)).collect();
        self.seats.iter().enumerate().filter(move |(_, seat)| ranks[seat.row - 1] < seat.multiplier).map(|(unknown, _)| unknown)
    }

    /// The unknowns, given the sums that answer the questions; None if there are none within their ranges that have these sums.
    pub fn solve(&self, ranges: &[u64], sums: &[usize]) -> Option<Vec<usize>> {
        let mut sums: Vec<i128> = sums.iter().map(|sum| *sum as i128).collect();
        let mut values = vec![0; ranges.len()];
        for (row, unknowns) in self.rows.iter().enumerate().rev().map(|(place, unknowns)| (place + 1, unknowns)) {
            let mut number = u128::try_from(alternating_sum(row, &sums)).ok()?;
            for unknown in unknowns.iter().rev() {
                let multiplier = u128::from(self.seats[*unknown].multiplier);
                let digit = number / multiplier;
                if digit >= u128::from(ranges[*unknown]) {
                    return None;
                }
                number %= multiplier;
                values[*unknown] = digit as usize;
            }
            self.subtract(row, unknowns, &values, &mut sums);
        }
        // It follows from the rows, each read without a rest; but nothing that is reported may rest on a proof alone.
        sums.iter().all(|rest| *rest == 0).then_some(values)
    }

    fn subtract(&self, row: usize, unknowns: &[usize], values: &[usize], sums: &mut [i128]) {
        if unknowns.iter().all(|unknown| values[*unknown] == 0) {
            return;
        }
        for (question, sum) in sums.iter_mut().enumerate() {
            let rank = rank(question + 1, row);
            let members = unknowns.iter().filter(|unknown| rank < self.seats[**unknown].multiplier);
            *sum -= members.map(|unknown| values[*unknown] as i128).sum::<i128>();
        }
    }
}

/// How many questions so many unknowns take that are 0 or 1. No unknowns of larger ranges take fewer.
pub fn fewest(unknowns: usize) -> usize {
    let mut room = 0;
    let mut questions = 0usize;
    while room < unknowns {
        questions += 1;
        room += questions.count_ones() as usize;
    }
    questions
}

/// The unknowns of each row, if that many rows have room for all. Each row's last digit may be of any size: these are the largest
/// ranges. The others go, the largest first, in the roomiest row that still takes them.
fn seat(ranges: &[u64], ascending: &[usize], rows: usize) -> Option<Vec<Vec<usize>>> {
    let (low, last) = ascending.split_at(ascending.len().checked_sub(rows)?);
    let mut roomiest_first: Vec<usize> = (1..=rows).collect();
    roomiest_first.sort_by_key(|row| std::cmp::Reverse(row.count_ones()));
    let mut room: Vec<u64> = roomiest_first.iter().map(|row| 1 << (row.count_ones() - 1)).collect();
    let mut seated = vec![Vec::new(); rows];
    let (mut place, mut range) = (0, 0);
    for unknown in low.iter().rev() {
        // What has no room for a range has none for the next that is as large.
        if ranges[*unknown] != range {
            (place, range) = (0, ranges[*unknown]);
        }
        place += room.get(place..)?.iter().position(|room| *room >= range)?;
        room[place] /= range;
        seated[roomiest_first[place] - 1].push(*unknown);
    }
    for (row, unknown) in seated.iter_mut().zip(last) {
        row.push(*unknown);
    }
    Some(seated)
}

fn seats(ranges: &[u64], rows: &[Vec<usize>]) -> Vec<Seat> {
    let mut seats = vec![Seat::default(); ranges.len()];
    for (place, unknowns) in rows.iter().enumerate() {
        let mut multiplier = 1;
        for unknown in unknowns {
            seats[*unknown] = Seat { row: place + 1, multiplier };
            // The last one's is never used.
            multiplier = multiplier.saturating_mul(ranges[*unknown]);
        }
    }
    seats
}

/// The place of j & r among the subsets of r of odd size; none, and so beyond all multipliers, if its own size is even.
///
/// Write a subset of r with r's digits only, the others left out: that is its number among all subsets. Of the numbers 2t and 2t + 1
/// exactly one has an odd number of digits that are 1, so t is its place among those.
fn rank(question: usize, row: usize) -> u64 {
    let shared = question & row;
    if shared.count_ones().is_multiple_of(2) {
        return u64::MAX;
    }
    let (mut number, mut digit, mut rest) = (0, 0, row);
    while rest != 0 {
        let lowest = rest & rest.wrapping_neg();
        number |= u64::from(shared & lowest != 0) << digit;
        digit += 1;
        rest ^= lowest;
    }
    number >> 1
}

fn alternating_sum(row: usize, sums: &[i128]) -> i128 {
    let mut total = 0;
    let mut question = row;
    while question != 0 {
        let sum = sums[question - 1];
        total += if question.count_ones().is_multiple_of(2) { -sum } else { sum };
        question = (question - 1) & row;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(matrix: &Matrix, values: &[usize]) -> Vec<usize> {
        (0..matrix.questions()).map(|question| matrix.members(question).map(|unknown| values[unknown]).sum()).collect()
    }

    #[test]
    fn how_many_questions() {
        let table = [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 3),
            (4, 3),
            (5, 4),
            (7, 5),
            (9, 6),
            (12, 7),
            (20, 11),
            (32, 15),
            (80, 31),
            (192, 63),
            (1000, 252),
        ];
        for (unknowns, questions) in table {
            assert_eq!(fewest(unknowns), questions);
            assert_eq!(Matrix::new(&vec![2; unknowns]).questions(), questions, "{unknowns}");
        }
    }

    #[test]
    fn the_example() {
        // a, b, c, d, wherever they are seated: three questions tell each of the sixteen possibilities.
        let matrix = Matrix::new(&[2; 4]);
        for set in 0..16 {
            let values: Vec<usize> = (0..4).map(|unknown| set >> unknown & 1).collect();
            assert_eq!(matrix.solve(&[2; 4], &ask(&matrix, &values)), Some(values));
        }
    }

    #[test]
    fn sums_of_nothing_within_the_ranges_are_refused() {
        // A digit out of range, a number below zero.
        let matrix = Matrix::new(&[2; 4]);
        assert_eq!(matrix.solve(&[2; 4], &[9, 9, 9]), None);
        assert_eq!(matrix.solve(&[2; 4], &[0, 0, 1]), None);
        assert_eq!(Matrix::new(&[1_000_001]).solve(&[1_000_001], &[1_000_001]), None);
    }

    fn unknowns(most: usize) -> impl Strategy<Value = (Vec<u64>, Vec<usize>)> {
        let ranges = prop_oneof![Just(2u64), 2u64..6, 2u64..=300];
        let unknown = ranges.prop_flat_map(|range| (Just(range), 0..range as usize));
        prop::collection::vec(unknown, 0..most).prop_map(|unknowns| unknowns.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn values_are_read_from_their_sums((ranges, values) in unknowns(150)) {
            let matrix = Matrix::new(&ranges);
            prop_assert!(matrix.questions() <= ranges.len());
            prop_assert_eq!(matrix.solve(&ranges, &ask(&matrix, &values)), Some(values));
        }

        /// Whatever the sums, what is read from them has these sums, and is within the ranges.
        #[test]
        fn nothing_else_is_read((ranges, values) in unknowns(12), off in prop::collection::vec(0usize..3, 12)) {
            let matrix = Matrix::new(&ranges);
            let sums: Vec<usize> = ask(&matrix, &values).iter().zip(&off).map(|(sum, off)| sum + off).collect();
            if let Some(read) = matrix.solve(&ranges, &sums) {
                prop_assert!(read.iter().zip(&ranges).all(|(value, range)| (*value as u64) < *range));
                prop_assert_eq!(ask(&matrix, &read), sums);
            }
        }
    }
}
