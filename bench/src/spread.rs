//! The middle of some measurements and how far they are apart.

use std::fmt;

/// Median, least and greatest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; the mean of the two middle ones of an even number.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of at least one measurement; panics on none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        assert!(count > 0, "a bench has at least one round");
        Self {
            median: f64::midpoint(values[(count - 1) / 2], values[count / 2]),
            min: values[0],
            max: values[count - 1],
        }
    }
}

/// Median and, in brackets, the ends; two digits after the point unless the format says how many.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]).to_string(), "2.50 (1.00 to 4.00)");
        assert_eq!(format!("{:.0}", Spread::of([7.4])), "7 (7 to 7)");
    }
}
