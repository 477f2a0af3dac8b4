//! How fast a worker trains: tokens a second, and what share of the device's peak that is.

use hm_domain::spec::ModelSpec;
use hm_train::{Peak, Trainer, model_flops_utilization};
use serde_json::{Value, json};

/// Steps that are not counted: kernels are chosen and memory is taken in them.
const WARM_UP_STEPS: u64 = 2;

/// Speed of one worker's steps. What a run does between steps is not in it.
pub(crate) struct Throughput {
    model: ModelSpec,
    device: String,
    devices: usize,
    peak: Option<Peak>,
    steps: u64,
    tokens: u64,
    step_us: u64,
}

impl Throughput {
    /// Nothing yet. `peak_tflops` is of one device, where a person knows better than the table.
    pub(crate) fn new(trainer: &Trainer, model: &ModelSpec, peak_tflops: Option<f64>) -> Self {
        let device = trainer.device_name().to_owned();
        Throughput {
            model: model.clone(),
            peak: Peak::of(&device, peak_tflops),
            device,
            devices: trainer.device_count(),
            steps: 0,
            tokens: 0,
            step_us: 0,
        }
    }

    /// Counts a step.
    pub(crate) fn step(&mut self, tokens: u64, step_us: u64) {
        self.steps += 1;
        if self.steps > WARM_UP_STEPS {
            self.tokens += tokens;
            self.step_us += step_us;
        }
    }

    fn tokens_per_second(&self) -> Option<f64> {
        (self.step_us > 0).then(|| self.tokens as f64 * 1e6 / self.step_us as f64)
    }

    fn utilization(&self) -> Option<f64> {
        let (rate, peak) = (self.tokens_per_second()?, self.peak?);
        Some(model_flops_utilization(&self.model, rate, peak, self.devices))
    }

    /// For a progress line.
    pub(crate) fn short(&self) -> String {
        match (self.tokens_per_second(), self.utilization()) {
            (Some(rate), Some(share)) => format!("{rate:.0} tokens/s  MFU {:.1} %", share * 100.0),
            (Some(rate), None) => format!("{rate:.0} tokens/s"),
            (None, _) => String::new(),
        }
    }

    /// For the end of a run: everything that the figure stands on.
    pub(crate) fn sentence(&self) -> Option<String> {
        let rate = self.tokens_per_second()?;
        let mut sentence = format!("{rate:.0} tokens/s in steps on {}", self.device);
        if let (Some(share), Some(peak)) = (self.utilization(), self.peak) {
            let source = if peak.known { "dense bf16, data sheet" } else { "as you say" };
            sentence += &format!(
                "; MFU {:.1} % of {} TFLOP/s ({source}) with {} parameters at sequence {}",
                share * 100.0,
                peak.tflops * self.devices as f64,
                self.model.parameter_count(),
                self.model.sequence_length
            );
        }
        Some(sentence)
    }

    /// The same as data.
    pub(crate) fn json(&self) -> Value {
        json!({
            "tokens_per_second": self.tokens_per_second(),
            "device": self.device,
            "model_flops_utilization": self.utilization(),
            "peak_tflops": self.peak.map(|peak| peak.tflops * self.devices as f64),
        })
    }
}
