//! Which device trains, and what of it may change bits.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainError};

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// CUDA where it is built in and there is a GPU, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl std::str::FromStr for DeviceChoice {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda),
            other => Err(TrainError::Device(format!("device `{other}` is not auto, cpu or cuda"))),
        }
    }
}

/// Opens a device, and its name. Lists before it touches: a CUDA device that is not there would hang.
pub(crate) fn open(choice: DeviceChoice) -> Result<(Device, String)> {
    let cpu = || (Device::flex(), "cpu".to_owned());
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Auto => Ok(cuda().unwrap_or_else(|_| cpu())),
        DeviceChoice::Cuda => cuda(),
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<(Device, String)> {
    if Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec().is_empty() {
        let sentence = "no CUDA device found; train on the CPU with --device cpu";
        return Err(TrainError::Device(sentence.to_owned()));
    }
    Ok((Device::cuda(0), "cuda:0".to_owned()))
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<(Device, String)> {
    let sentence =
        "this build has no CUDA: build with --features cuda, or train on the CPU with --device cpu";
    Err(TrainError::Device(sentence.to_owned()))
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
