//! The discrete Fréchet distance (Eiter and Mannila, technical report CD-TR 94/64, 1994).

/// Distance between two series of numbers, each point being the number alone: the least over all ways
/// to walk both from end to end, forward only, of the widest gap on the way. None of an empty series,
/// or where one holds what is not finite.
pub fn distance(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || !a.iter().chain(b).all(|value| value.is_finite()) {
        return None;
    }
    // The table's last row: the distance between what of `a` was walked and each beginning of `b`.
    let mut row: Vec<f64> = Vec::with_capacity(b.len());
    for (i, &at) in a.iter().enumerate() {
        let mut diagonal = f64::INFINITY;
        for (j, &other) in b.iter().enumerate() {
            let gap = (at - other).abs();
            let above = if i > 0 { row[j] } else { f64::INFINITY };
            let left = if j > 0 { row[j - 1] } else { f64::INFINITY };
            let before = above.min(left).min(diagonal);
            let here = if i == 0 && j == 0 { gap } else { before.max(gap) };
            diagonal = above;
            if i == 0 { row.push(here) } else { row[j] = here }
        }
    }
    row.pop()
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_worked_by_hand() {
        // Straight on: gaps 0.5, 0.25, 1.
        assert_eq!(distance(&[1.0, 2.0, 3.0], &[1.5, 2.25, 4.0]), Some(1.0));
        // A spike that comes one layer later costs nothing but its own height: the walk waits for it.
        assert_eq!(distance(&[0.0, 5.0, 0.0, 0.0], &[0.0, 0.0, 5.0, 0.0]), Some(0.0));
        // A dip cannot be gone around: 4 must meet 1, 2 or 3.
        assert_eq!(distance(&[1.0, 4.0, 1.0], &[1.0, 2.0, 3.0]), Some(2.0));
        // One point against many: the furthest counts.
        assert_eq!(distance(&[2.0], &[1.0, 2.5, 5.0]), Some(3.0));
        assert_eq!(distance(&[1.0, 2.5, 5.0], &[2.0]), Some(3.0));
        // Forward only: what is passed cannot be met again, so the 3 must meet a 0 or a 1.
        assert_eq!(distance(&[3.0, 0.0], &[0.0, 1.0, 0.0]), Some(3.0));
    }

    #[test]
    fn equal_series_are_at_no_distance_and_order_does_not_matter() {
        let (a, b) = ([0.25, 0.5, 0.75, 0.5], [0.25, 0.75, 0.5, 1.0]);
        assert_eq!(distance(&a, &a), Some(0.0));
        assert_eq!(distance(&a, &b), distance(&b, &a));
        assert_eq!((distance(&[], &a), distance(&a, &[])), (None, None));
        // The larger of a gap and NaN would be the gap.
        assert_eq!(distance(&[0.25, f64::NAN, 0.75], &a), None);
    }
}
