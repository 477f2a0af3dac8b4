//! Which devices train, and what of them may change bits.

use burn::tensor::Device;
use hm_domain::precision::Precision;
use hm_domain::spec::TrainingSpec;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainError};
use crate::ops::Ops;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The first CUDA device where CUDA is built in and there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA devices by index; several share every step's micro-batches.
    Cuda(Vec<usize>),
    /// All CUDA devices.
    AllCuda,
}

impl std::str::FromStr for DeviceChoice {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let sentence = "is not auto, cpu, cuda, cuda:all or indices such as cuda:0,1";
            TrainError::Device(format!("device `{text}` {sentence}"))
        };
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(vec![0])),
            "cuda:all" => Ok(DeviceChoice::AllCuda),
            other => {
                let list = other.strip_prefix("cuda:").ok_or_else(bad)?;
                let index = |part: &str| part.parse().map_err(|_| bad());
                let indices = list.split(',').map(index).collect::<Result<Vec<usize>>>()?;
                let twice = |at: &usize| indices.iter().filter(|other| *other == at).count() > 1;
                match indices.iter().find(|at| twice(at)) {
                    Some(at) => {
                        Err(TrainError::Device(format!("device `{text}` names {at} twice")))
                    }
                    None => Ok(DeviceChoice::Cuda(indices)),
                }
            }
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::AllCuda => f.write_str("cuda:all"),
            DeviceChoice::Cuda(indices) => {
                let list = indices.iter().map(usize::to_string).collect::<Vec<_>>();
                write!(f, "cuda:{}", list.join(","))
            }
        }
    }
}

/// Opened devices, at least one and all of a kind. Shown as a person is told which they are.
#[derive(Clone, Debug)]
pub struct Devices {
    pub(crate) each: Vec<Device>,
    /// `cpu`, or `cuda:0,1` and what the first calls itself.
    pub(crate) name: String,
    /// Why these, where they were not named.
    reason: Option<String>,
}

impl std::fmt::Display for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.name;
        match &self.reason {
            Some(reason) => write!(f, "device: {name} (auto: {reason})"),
            None => write!(f, "device: {name}"),
        }
    }
}

impl Devices {
    /// Opens devices. Lists before it touches: a CUDA device that is not there would hang.
    ///
    /// # Errors
    /// When one that was named is not there.
    pub fn open(choice: &DeviceChoice) -> Result<Devices> {
        let named = |found: std::result::Result<Devices, NoCuda>| found.map_err(NoCuda::into);
        match choice {
            DeviceChoice::Cpu => Ok(Devices::cpu()),
            DeviceChoice::Auto => Ok(match cuda(Some(&[0])) {
                Ok(devices) => {
                    Devices { reason: Some("the first CUDA device".to_owned()), ..devices }
                }
                Err(NoCuda { reason, .. }) => Devices { reason: Some(reason), ..Devices::cpu() },
            }),
            DeviceChoice::Cuda(indices) => named(cuda(Some(indices))),
            DeviceChoice::AllCuda => named(cuda(None)),
        }
    }

    fn cpu() -> Devices {
        Devices::named(vec![Device::flex()], "cpu")
    }

    pub(crate) fn named(each: Vec<Device>, name: &str) -> Devices {
        Devices { each, name: name.to_owned(), reason: None }
    }

    /// Whether they can compute this run's steps, before anything is made on them.
    ///
    /// # Errors
    /// When one would have no work, or has not the precision.
    pub fn admit(&self, training: &TrainingSpec) -> Result<()> {
        refuse_idle_devices(training, self.count())?;
        self.ops(training.precision).map(|_| ())
    }

    /// What computes on each in this precision.
    pub(crate) fn ops(&self, precision: Precision) -> Result<Vec<Ops>> {
        let device = || self.name.clone();
        let ops = |each: &Device| Ops::of(each).computing_in(precision);
        let all: Option<Vec<Ops>> = self.each.iter().map(ops).collect();
        all.ok_or_else(|| TrainError::Precision { precision, device: device() })
    }

    /// How many share a step.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// Whether tensors lie in this process's memory.
    pub fn are_cpu(&self) -> bool {
        Ops::of(&self.each[0]).are_in_memory()
    }
}

/// Why there are no CUDA devices, and what to do where they were asked for.
struct NoCuda {
    reason: String,
    remedy: &'static str,
}

impl From<NoCuda> for TrainError {
    fn from(NoCuda { reason, remedy }: NoCuda) -> TrainError {
        TrainError::Device(format!("{reason}: {remedy}"))
    }
}

/// Every step that the spec plans has a sequence for every device.
fn refuse_idle_devices(training: &TrainingSpec, devices: usize) -> Result<()> {
    let (sequences, key) = match training.batch_ramp {
        Some(ramp) => (ramp.from, "training.batch_ramp.from"),
        None => (training.sequences_per_step, "training.sequences_per_step"),
    };
    if devices > sequences.max(1) as usize {
        return Err(TrainError::IdleDevices { devices, sequences, key });
    }
    Ok(())
}

#[cfg(feature = "cuda")]
fn cuda(indices: Option<&[usize]>) -> std::result::Result<Devices, NoCuda> {
    let found = Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec().len();
    if found == 0 {
        let reason = "no CUDA device was found".to_owned();
        return Err(NoCuda { reason, remedy: "train on the CPU with --device cpu" });
    }
    let indices = indices.map_or_else(|| (0..found).collect(), <[usize]>::to_vec);
    if let Some(missing) = indices.iter().find(|&&index| index >= found) {
        let reason = format!("there is no CUDA device {missing}, only {found} numbered from 0");
        return Err(NoCuda { reason, remedy: "name others, or cuda:all" });
    }
    let each: Vec<Device> = indices.iter().map(|&index| Device::cuda(index)).collect();
    let list = indices.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let name = match each[0].identity() {
        Some(identity) => format!("cuda:{list} {}", identity.name),
        None => format!("cuda:{list}"),
    };
    Ok(Devices::named(each, &name))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_indices: Option<&[usize]>) -> std::result::Result<Devices, NoCuda> {
    let remedy = "build it in with `make build-cuda`, or train on the CPU with --device cpu";
    Err(NoCuda { reason: "this build has no CUDA".to_owned(), remedy })
}

/// What of this machine may change bits on the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Processor model as the kernel names it.
    pub processor: String,
    /// Widest vector instructions the kernels choose.
    pub instruction_set: String,
    /// C library and version: `expf` and friends come from it.
    pub c_library: String,
    /// Threads of the trainer.
    pub threads: u32,
}

/// Reads this machine's fingerprint.
pub fn fingerprint() -> Fingerprint {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned());
    Fingerprint {
        processor,
        instruction_set: instruction_set().to_owned(),
        c_library: c_library(),
        threads: rayon::current_num_threads() as u32,
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction_set() -> &'static str {
    if is_x86_feature_detected!("avx512f") {
        "avx512f"
    } else if is_x86_feature_detected!("fma") {
        "fma"
    } else {
        "scalar"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_set() -> &'static str {
    std::env::consts::ARCH
}

#[cfg(target_env = "gnu")]
fn c_library() -> String {
    #[expect(unsafe_code, reason = "gnu_get_libc_version returns a static C string")]
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn c_library() -> String {
    "not glibc".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_on_the_command_line() {
        let parse = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(parse("cuda").unwrap(), DeviceChoice::Cuda(vec![0]));
        assert_eq!(parse("cuda:1,0").unwrap(), DeviceChoice::Cuda(vec![1, 0]));
        assert_eq!(parse("cuda:all").unwrap(), DeviceChoice::AllCuda);
        for bad in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0,"] {
            let sentence = parse(bad).unwrap_err().to_string();
            assert!(sentence.starts_with(&format!("device `{bad}` is not auto")), "{sentence}");
        }
        let sentence = parse("cuda:1,1").unwrap_err().to_string();
        assert_eq!(sentence, "device `cuda:1,1` names 1 twice");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn auto_says_what_it_took_and_why() {
        let said = |choice| Devices::open(&choice).unwrap().to_string();
        assert_eq!(said(DeviceChoice::Auto), "device: cpu (auto: this build has no CUDA)");
        assert_eq!(said(DeviceChoice::Cpu), "device: cpu");
        let refused = Devices::open(&DeviceChoice::AllCuda).unwrap_err().to_string();
        assert!(refused.starts_with("this build has no CUDA: build it in with"), "{refused}");
    }
}
