//! How much of a device's peak training uses: the model FLOPs utilization of `PaLM` (Chowdhery and
//! others, arXiv 2204.02311, appendix B).

use hm_domain::spec::ModelSpec;

use crate::plan::flops_per_token;

/// Peaks of dense bf16 products in TFLOP/s, by what a device's name holds: NVIDIA's data sheets, which
/// print twice as much for sparse ones. More telling names come first.
const PEAKS: &[(&str, f64)] = &[
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.4),
    ("H200", 989.4),
    ("A100", 312.0),
    ("L40S", 362.0),
];

/// What a device could multiply at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Of one device, TFLOP/s.
    pub tflops: f64,
    /// Whether it is a data sheet's dense bf16 peak; else somebody has said it.
    pub known: bool,
}

impl Peak {
    /// The peak of a device of that name: what `said` says, else a data sheet's, if any.
    pub fn of(device: &str, said: Option<f64>) -> Option<Peak> {
        if let Some(tflops) = said {
            return Some(Peak { tflops, known: false });
        }
        let known = PEAKS.iter().find(|(name, _)| device.contains(name));
        known.map(|&(_, tflops)| Peak { tflops, known: true })
    }
}

/// Share of the devices' peak that is spent on the model: FLOPs of a token times tokens a second, over
/// the peak of all devices that made them. See [`flops_per_token`] for what is counted.
pub fn model_flops_utilization(
    model: &ModelSpec,
    tokens_per_second: f64,
    peak: Peak,
    devices: usize,
) -> f64 {
    flops_per_token(model) as f64 * tokens_per_second / (peak.tflops * 1e12 * devices as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn peak_is_found_by_name_or_said() {
        let tflops = |device: &str, said| Peak::of(device, said).map(|peak| peak.tflops);
        assert_eq!(tflops("cuda:0 NVIDIA H100 80GB HBM3", None), Some(989.4));
        assert_eq!(tflops("cuda:0 NVIDIA H100 PCIe", None), Some(756.0));
        assert_eq!(tflops("cpu", None), None);
        assert_eq!(tflops("cpu", Some(0.2)), Some(0.2));
    }

    #[test]
    fn utilization_follows_the_formula() {
        // tiny: 26,359,296 FLOPs a token; at 1000 tokens/s 26.4 GFLOP/s, over two devices of 0.1 TFLOP/s.
        let peak = Peak { tflops: 0.1, known: false };
        let found = model_flops_utilization(&preset("tiny").unwrap(), 1000.0, peak, 2);
        assert!((found - 26_359_296_000.0 / 2e11).abs() < 1e-12, "{found}");
    }
}
