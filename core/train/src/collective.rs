//! The sum of several devices' gradients, given to each of them.

use burn::tensor::Device;
use burn::tensor::distributed::{ReduceOperation, all_reduce};

use crate::gradients::Gradients;
use crate::ops::Ops;

/// Adds up by path. Every device has gradients of the same paths.
///
/// On CUDA by NCCL through burn's collectives: every device enters with its own thread, in the same
/// order. Elsewhere there is one memory, and the sum is made in the order of the devices.
pub(crate) fn sum(each: Vec<Gradients>, ops: &[&Ops]) -> Vec<Gradients> {
    match ops {
        [] | [_] => each,
        [first, ..] if first.are_in_memory() => sum_in_memory(each),
        _ => {
            let devices: Vec<Device> = ops.iter().map(|ops| ops.device().clone()).collect();
            sum_on_devices(each, &devices)
        }
    }
}

fn sum_in_memory(each: Vec<Gradients>) -> Vec<Gradients> {
    let count = each.len();
    let mut sum = Gradients::default();
    for gradients in each {
        gradients.into_iter().for_each(|(path, gradient)| sum.add(&path, gradient));
    }
    vec![sum; count]
}

fn sum_on_devices(each: Vec<Gradients>, devices: &[Device]) -> Vec<Gradients> {
    let reduce = |gradients: Gradients| -> Gradients {
        let started: Vec<_> = gradients
            .into_iter()
            .map(|(path, part)| (path, all_reduce(part, ReduceOperation::Sum, devices.to_vec())))
            .collect();
        let mut sum = Gradients::default();
        started.into_iter().for_each(|(path, whole)| sum.put(&path, whole.resolve()));
        sum
    };
    let reduce = &reduce;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            each.into_iter().map(|gradients| scope.spawn(move || reduce(gradients))).collect();
        threads.into_iter().map(joined).collect()
    })
}

/// What a thread came to; its panic goes on here.
pub(crate) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
