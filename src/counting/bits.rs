//! Logarithms that come out the same on every machine, as the questions of a resumed search must. A platform's own may differ in the
//! last digit; sums and products may not.

/// log2 of a positive, finite number, to six digits.
pub fn log2(x: f64) -> f64 {
    // x = m · 2^e with m from 1 to 2, and ln m = 2 · artanh z.
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mantissa = f64::from_bits((bits & !(0x7ff << 52)) | (1023 << 52));
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0].into_iter();
    exponent + series.fold(0.0, |sum, term| sum * square + term) * z * 2.0 / std::f64::consts::LN_2
}

/// log2 of the number of ways to choose `chosen` of `items`: as many bits have to be learned to know which they are.
pub fn ways(items: usize, chosen: usize) -> f64 {
    let fewer = chosen.min(items.saturating_sub(chosen));
    (1..=fewer).map(|i| log2((items - fewer + i) as f64 / i as f64)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_platform_has_it() {
        for x in [1e-60, 0.1, 0.5, 0.999, 1.0, 1.5, 1.999_999, 3.0, 1000.0, 1e60] {
            assert!((log2(x) - x.log2()).abs() < 1e-6, "{x}");
        }
        assert!((ways(10, 3) - 120f64.log2()).abs() < 1e-5);
        assert_eq!(ways(10, 10), 0.0);
    }
}
