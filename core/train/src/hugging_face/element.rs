//! Numbers in files: f32, or one of the two halves. Widening is exact; narrowing rounds to nearest even.

use std::str::FromStr;

use half::{bf16, f16};
use safetensors::tensor::Dtype;

use crate::error::TrainError;

/// What one weight is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// Four bytes, as trained.
    F32,
    /// Two bytes with the range of f32.
    Bf16,
    /// Two bytes, IEEE binary16: more digits, up to 65504.
    F16,
}

impl FromStr for ElementType {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        match text {
            "f32" => Ok(ElementType::F32),
            "bf16" => Ok(ElementType::Bf16),
            "f16" => Ok(ElementType::F16),
            other => Err(TrainError::Element(other.to_owned())),
        }
    }
}

impl ElementType {
    /// The type that a file says, if it is one of ours.
    pub(super) fn of(dtype: Dtype) -> Option<ElementType> {
        match dtype {
            Dtype::F32 => Some(ElementType::F32),
            Dtype::BF16 => Some(ElementType::Bf16),
            Dtype::F16 => Some(ElementType::F16),
            _ => None,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            ElementType::F32 => Dtype::F32,
            ElementType::Bf16 => Dtype::BF16,
            ElementType::F16 => Dtype::F16,
        }
    }

    /// As `config.json` has it.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            ElementType::F32 => "float32",
            ElementType::Bf16 => "bfloat16",
            ElementType::F16 => "float16",
        }
    }

    /// As typed on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "f32",
            ElementType::Bf16 => "bf16",
            ElementType::F16 => "f16",
        }
    }

    /// Bytes of one.
    pub(super) fn size_bytes(self) -> u64 {
        match self {
            ElementType::F32 => 4,
            ElementType::Bf16 | ElementType::F16 => 2,
        }
    }

    /// The numbers that `bytes` say.
    pub(super) fn widen(self, bytes: &[u8]) -> Vec<f32> {
        let two = |two: &[u8]| [two[0], two[1]];
        match self {
            ElementType::F32 => f32_of(bytes),
            ElementType::Bf16 => {
                bytes.chunks_exact(2).map(|b| bf16::from_le_bytes(two(b)).to_f32()).collect()
            }
            ElementType::F16 => {
                bytes.chunks_exact(2).map(|b| f16::from_le_bytes(two(b)).to_f32()).collect()
            }
        }
    }

    /// Bytes that say `numbers`, or the first of them that is too large to be said.
    pub(super) fn narrow(self, numbers: &[f32]) -> Result<Vec<u8>, f32> {
        let mut bytes = Vec::with_capacity(numbers.len() * self.size_bytes() as usize);
        for &number in numbers {
            let said = match self {
                ElementType::F32 => {
                    bytes.extend(number.to_le_bytes());
                    number
                }
                ElementType::Bf16 => {
                    let half = bf16::from_f32(number);
                    bytes.extend(half.to_le_bytes());
                    half.to_f32()
                }
                ElementType::F16 => {
                    let half = f16::from_f32(number);
                    bytes.extend(half.to_le_bytes());
                    half.to_f32()
                }
            };
            if !said.is_finite() {
                return Err(number);
            }
        }
        Ok(bytes)
    }
}

/// Little-endian f32.
pub(crate) fn f32_of(bytes: &[u8]) -> Vec<f32> {
    let four = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    bytes.chunks_exact(4).map(four).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_nearest_even_and_widen_exactly() {
        for (element, number, said) in [
            (ElementType::Bf16, 1.0 + 1.0 / 256.0, 1.0),
            (ElementType::Bf16, 1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (ElementType::F16, 1.0 + 1.0 / 2048.0, 1.0),
            (ElementType::F16, 65504.0, 65504.0),
            (ElementType::F16, 1e-9, 0.0),
            (ElementType::F32, 1.0 + f32::EPSILON, 1.0 + f32::EPSILON),
        ] {
            let bytes = element.narrow(&[number, -number]).unwrap();
            assert_eq!(bytes.len() as u64, 2 * element.size_bytes());
            assert_eq!(element.widen(&bytes), [said, -said], "{element:?} {number}");
        }
    }

    #[test]
    fn numbers_that_a_half_cannot_say_are_named() {
        assert_eq!(ElementType::F16.narrow(&[1.0, 65520.0]), Err(65520.0));
        assert_eq!(ElementType::Bf16.narrow(&[f32::MAX]), Err(f32::MAX));
        assert!(ElementType::F32.narrow(&[f32::MAX]).is_ok());
        assert!(ElementType::F32.narrow(&[f32::INFINITY]).is_err());
    }
}
