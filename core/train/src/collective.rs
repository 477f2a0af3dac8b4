//! The sum of several devices' gradients, given to each of them.

use burn::tensor::Device;
use burn::tensor::distributed::{ReduceOperation, all_reduce};

use crate::gradients::Gradients;
use crate::ops::moved;
use crate::team::Team;

/// Adds up by path. Every device has gradients of the same paths, each on itself.
///
/// On CUDA by NCCL through burn's collectives: every device enters with its own thread, in the same
/// order. Elsewhere there is one memory, and the sum is made in the order of the devices.
pub(crate) fn sum(each: Vec<Gradients>, team: &Team) -> Vec<Gradients> {
    let devices: Vec<Device> = team.replicas().iter().map(|one| one.device().clone()).collect();
    match devices.len() {
        1 => each,
        _ if team.ops().are_in_memory() => sum_in_memory(each, &devices),
        _ => team.each(each, |_, gradients| reduced(gradients, &devices)),
    }
}

fn sum_in_memory(each: Vec<Gradients>, devices: &[Device]) -> Vec<Gradients> {
    let mut sum = Gradients::default();
    for gradients in each {
        gradients.into_iter().for_each(|(path, part)| sum.add(&path, moved(&part, &devices[0])));
    }
    devices.iter().map(|device| sum.on(device)).collect()
}

/// One device's part of the sum of all: begun for every gradient before the first is waited for.
fn reduced(gradients: Gradients, devices: &[Device]) -> Gradients {
    let started: Vec<_> = gradients
        .into_iter()
        .map(|(path, part)| (path, all_reduce(part, ReduceOperation::Sum, devices.to_vec())))
        .collect();
    let mut sum = Gradients::default();
    started.into_iter().for_each(|(path, whole)| sum.put(&path, whole.resolve()));
    sum
}
