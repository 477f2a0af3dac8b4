//! Loops in the widest vectors of the processor, chosen at run time, and sums in a fixed order.

/// Partial sums of a reduction: as many as the widest vector has lanes, on every processor.
const LANES: usize = 16;

/// Makes a function that runs in the widest vector instructions that the processor at hand has: its
/// body is compiled for each set. All that the body calls must be `inline(always)`. Results do not
/// depend on the choice, since nothing is contracted or reordered.
macro_rules! vectorized {
    ($(#[$about:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $given:ty)? $body:block) => {
        $(#[$about])*
        fn $name($($argument: $kind),*) $(-> $given)? {
            #[inline(always)]
            fn plain($($argument: $kind),*) $(-> $given)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl")]
                fn avx512($($argument: $kind),*) $(-> $given)? { plain($($argument),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $kind),*) $(-> $given)? { plain($($argument),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    #[expect(unsafe_code, reason = "the processor has just said that it has them")]
                    return unsafe { avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    #[expect(unsafe_code, reason = "the processor has just said that it has them")]
                    return unsafe { avx2($($argument),*) };
                }
            }
            plain($($argument),*)
        }
    };
}
pub(super) use vectorized;

/// Sum of `term(a, b)` over two slices of equal length, in [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (a_parts, a_rest) = a.as_chunks::<LANES>();
    let (b_parts, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_parts.iter().zip(b_parts) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += term(*a, *b);
    }
    fold(sums, |a, b| a + b)
}

/// Sum of `term(a)` over a slice, in [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum_of(a: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (parts, rest) = a.as_chunks::<LANES>();
    for part in parts {
        for lane in 0..LANES {
            sums[lane] += term(part[lane]);
        }
    }
    for (lane, a) in rest.iter().enumerate() {
        sums[lane] += term(*a);
    }
    fold(sums, |a, b| a + b)
}

/// The largest element; a NaN anywhere gives NaN or is left for the caller's next sum to show.
#[inline(always)]
pub(super) fn maximum(a: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (parts, rest) = a.as_chunks::<LANES>();
    for part in parts {
        for lane in 0..LANES {
            maxima[lane] = larger(maxima[lane], part[lane]);
        }
    }
    for (lane, a) in rest.iter().enumerate() {
        maxima[lane] = larger(maxima[lane], *a);
    }
    fold(maxima, larger)
}

/// Joins lanes by halves.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// e^x to two units in the last place, without branches; NaN stays NaN, and what would underflow gives
/// the smallest normal number.
///
/// Range reduction and polynomial as in Cephes' `expf` (S. L. Moshier).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.722_83;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding this rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + coefficient;
    }
    let fraction = p * (r * r) + r + 1.0;
    // Half of the power at a time: at the upper end the whole is beyond the exponent's range.
    let whole = (shifted.to_bits() << 23) as i32;
    let half = (whole >> 1) & !0x007f_ffff;
    let two_to = |bits: i32| f32::from_bits(bits.wrapping_add(0x3f80_0000) as u32);
    fraction * two_to(half) * two_to(whole.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_agrees_with_f64_over_its_whole_range() {
        let mut x = -87.3f32;
        while x < 88.7 {
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(relative < 2.5e-7, "{x}: {relative}");
            x += 0.003_17;
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1.2e-38);
        assert!(exp(1000.0) > 3.4e38);
    }

    #[test]
    fn reductions_see_every_element_once() {
        let values: Vec<f32> = (0..37).map(|n| n as f32 - 9.0).collect();
        assert_eq!(sum_of(&values, |a| a), values.iter().sum::<f32>());
        assert_eq!(
            sum_of_pairs(&values, &values, |a, b| a * b),
            values.iter().map(|a| a * a).sum::<f32>()
        );
        assert_eq!(maximum(&values), 27.0);
        assert!(sum_of(&[1.0, f32::NAN], |a| a).is_nan());
    }
}
