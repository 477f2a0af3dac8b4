//! Both spellings of every operation against each other, and the composed one against burn's automatic
//! differentiation: three ways to the same gradient.

use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::cpu::adamw::Update;
use crate::cpu::attention::Sizes;
use crate::cpu::cross_entropy::Objective;
use crate::cpu::rotary::Turn;
use crate::parameters::Parameter;
use crate::presets::preset;

fn device() -> Device {
    Device::flex()
}

fn both() -> [Ops; 2] {
    [Ops::of(&device()), Ops::composed(&device())]
}

fn tensor(shape: [usize; 2], seed: u32) -> Tensor<2> {
    let value = |at: u32| ((at.wrapping_mul(2_654_435_761) ^ seed) as f32 * 0.37).sin();
    let data: Vec<f32> = (0..(shape[0] * shape[1]) as u32).map(value).collect();
    Tensor::from_data(TensorData::new(data, shape), &device())
}

fn tracked(tensor: &Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(tensor.clone()).require_grad()
}

fn assert_close(what: &str, found: Tensor<2>, expected: Tensor<2>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().fold(1e-3, |a: f32, b| a.max(b.abs()));
    for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= 2e-5 * scale, "{what} at {at}: {a}, expected {b}");
    }
}

#[test]
fn linear_maps_and_their_gradients_agree() {
    let (x, w, dy) = (tensor([70, 40], 1), tensor([30, 40], 2), tensor([70, 30], 3));
    let [kernels, composed] = both();
    let onto = |rows, columns| Some(tensor([rows, columns], 9));
    assert_close("y", kernels.linear(&x, &w), composed.linear(&x, &w));
    let onto_y = tensor([70, 30], 4);
    let y = |ops: &Ops| ops.linear_onto(onto_y.clone(), &x, &w);
    assert_close("onto y", y(&kernels), y(&composed));
    for sum in [None, onto(70, 40)] {
        let dx = |ops: &Ops| ops.input_gradient(sum.clone(), &dy, &w);
        assert_close("dx", dx(&kernels), dx(&composed));
    }
    for sum in [None, onto(30, 40)] {
        let dw = |ops: &Ops| ops.weight_gradient(sum.clone(), &dy, &x);
        assert_close("dw", dw(&kernels), dw(&composed));
    }
    assert_close("the sum was not written over", onto_y, tensor([70, 30], 4));
}

#[test]
fn norm_agrees_and_so_does_its_gradient_with_automatic_differentiation() {
    // More rows than a task has and a width that is no multiple of the lanes.
    let (x, w, dy, onto) =
        (tensor([75, 37], 1), tensor([1, 37], 2), tensor([75, 37], 3), tensor([75, 37], 4));
    let (xt, wt) = (tracked(&x), tracked(&w));
    let scale = ((xt.clone() * xt.clone()).mean_dim(1) + 1e-5).sqrt().recip();
    let y = xt.clone() * scale * wt.clone();
    let graph = (y.clone() * Tensor::from_inner(dy.clone())).sum().backward();
    for ops in both() {
        let normed = ops.norm(&x, &w, 1e-5);
        assert_close("y", normed.y_nc.clone(), y.clone().inner());
        let (dx, dw) = ops.norm_gradient(onto.clone(), &dy, &x, &w, &normed.scale_n1);
        assert_close("dx", dx, xt.grad(&graph).unwrap() + onto.clone());
        assert_close("dw", dw, wt.grad(&graph).unwrap());
    }
}

#[test]
fn gate_agrees_and_so_does_its_gradient_with_automatic_differentiation() {
    let shape = [13, 2600];
    let (g, u, dy) = (tensor(shape, 1) * 6.0, tensor(shape, 2), tensor(shape, 3));
    let (gt, ut) = (tracked(&g), tracked(&u));
    let y = burn::tensor::activation::silu(gt.clone()) * ut.clone();
    let graph = (y.clone() * Tensor::from_inner(dy.clone())).sum().backward();
    for ops in both() {
        assert_close("y", ops.gate(&g, &u), y.clone().inner());
        let [dg, du, again] = ops.gate_gradient(g.clone(), u.clone(), dy.clone());
        assert_close("dg", dg, gt.grad(&graph).unwrap());
        assert_close("du", du, ut.grad(&graph).unwrap());
        assert_close("y again", again, y.clone().inner());
    }
}

#[test]
fn turn_agrees_keeps_lengths_and_turns_back() {
    let mut model = preset("nano").unwrap();
    model.sequence_length = 5;
    let x = tensor([15, 4 * model.head_size() as usize], 1);
    let turned = both().map(|ops| {
        let angles = Angles::of(&model, &ops);
        let turned = ops.turn(x.clone(), &angles, Turn::Forward);
        assert_close("back", ops.turn(turned.clone(), &angles, Turn::Back), x.clone());
        turned
    });
    let later = both().map(|ops| {
        let row = x.clone().slice([3..5, 0..x.dims()[1]]);
        ops.turn_from(3, row, &Angles::of(&model, &ops), Turn::Forward)
    });
    for later in later {
        assert_close("later", later, turned[0].clone().slice([3..5, 0..x.dims()[1]]));
    }
    let lengths = |x: &Tensor<2>| (x.clone() * x.clone()).sum_dim(1);
    assert_close("length", lengths(&turned[0]), lengths(&x));
    let [kernels, composed] = turned;
    assert_close("turned", kernels, composed);
}

/// All scores at once, by the definition.
fn plain_attention(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>, sizes: Sizes) -> Tensor<2> {
    let Sizes { batch, length, heads, kv_heads, size, .. } = sizes;
    let split = |x: &Tensor<2>, heads: usize| {
        x.clone().reshape([batch, length, heads, size]).swap_dims(1, 2)
    };
    let each = |x: &Tensor<2>| {
        let x = split(x, kv_heads).reshape([batch, kv_heads, 1, length * size]);
        x.repeat_dim(2, heads / kv_heads).reshape([batch, heads, length, size])
    };
    let scores = split(q, heads).matmul(each(k).swap_dims(2, 3)) / (size as f32).sqrt();
    let future = Tensor::<2, burn::tensor::Bool>::tril_mask([length, length], 0, &device());
    let future = future.reshape([1, 1, length, length]).expand(scores.dims());
    let shares = burn::tensor::activation::softmax(scores.mask_fill(future, f32::NEG_INFINITY), 3);
    shares.matmul(each(v)).swap_dims(1, 2).reshape([batch * length, heads * size])
}

#[test]
fn attention_agrees_with_its_definition_and_automatic_differentiation() {
    // Lengths of less than a block, of blocks exactly, and with a rest; heads in groups and alone.
    for (length, heads, kv_heads) in [(5, 4, 2), (128, 2, 2), (150, 6, 2)] {
        let sizes = Sizes { batch: 2, length, past: 0, heads, kv_heads, size: 8 };
        let make = |heads: usize, seed| tensor([2 * length, heads * 8], seed) * 2.0;
        let (q, k, v, dout) =
            (make(heads, 1), make(kv_heads, 2), make(kv_heads, 3), make(heads, 4));
        let [qt, kt, vt] = [&q, &k, &v].map(tracked);
        let out = plain_attention(&qt, &kt, &vt, sizes);
        let graph = (out.clone() * Tensor::from_inner(dout.clone())).sum().backward();
        for ops in both() {
            let attended = ops.attention(&q, &k, &v, sizes);
            assert_close("out", attended.out.clone(), out.clone().inner());
            let [dq, dk, dv] = ops.attention_gradient(&dout, [&q, &k, &v], &attended, sizes);
            assert_close("dq", dq, qt.grad(&graph).unwrap());
            assert_close("dk", dk, kt.grad(&graph).unwrap());
            assert_close("dv", dv, vt.grad(&graph).unwrap());
        }
        let [kernels, composed] = both().map(|ops| ops.attention(&q, &k, &v, sizes).log_sums);
        assert_close("log sums", kernels, composed);
    }
}

#[test]
fn attention_with_a_past_agrees_with_the_last_rows_of_the_whole() {
    let (past, length, heads, kv_heads, size) = (70, 67, 4, 2, 8);
    let whole = Sizes { batch: 1, length: past + length, past: 0, heads, kv_heads, size };
    let make = |heads: usize, seed| tensor([past + length, heads * size], seed) * 2.0;
    let (q, k, v) = (make(heads, 1), make(kv_heads, 2), make(kv_heads, 3));
    let last = |x: &Tensor<2>| x.clone().slice([past..past + length, 0..heads * size]);
    for ops in both() {
        let expected = last(&ops.attention(&q, &k, &v, whole).out);
        let sizes = Sizes { length, past, ..whole };
        assert_close("out", ops.attention(&last(&q), &k, &v, sizes).out, expected);
    }
}

#[test]
fn embedding_rows_and_their_gradient_agree() {
    let (weight, dy, ids) = (tensor([9, 5], 1), tensor([4, 5], 2), [3, 0, 3, 8]);
    let [kernels, composed] = both();
    assert_close("rows", kernels.embed(&weight, &ids), composed.embed(&weight, &ids));
    for sum in [None, Some(tensor([9, 5], 3))] {
        let gradient = |ops: &Ops| ops.embedding_gradient(sum.clone(), &dy, &ids, 9);
        assert_close("gradient", gradient(&kernels), gradient(&composed));
    }
}

#[test]
fn head_agrees_in_losses_and_gradients_added_to_a_sum() {
    // More rows than a chunk, and not a multiple of it.
    let (hidden, weight, sum) = (tensor([600, 8], 1), tensor([8192, 8], 2), tensor([8192, 8], 3));
    let targets: Vec<u32> = (0..600).map(|row| row * 7 % 8192).collect();
    let scales: Vec<f32> = (0..600).map(|row| 0.001 + row as f32 * 1e-5).collect();
    let objective = Some(Objective { scales: &scales, z_loss: 0.01 });
    let [kernels, composed] =
        both().map(|ops| ops.head(&hidden, &weight, &targets, objective, Some(sum.clone())));
    assert_close("losses", kernels.losses_n1, composed.losses_n1);
    let ((a, b), (c, d)) = (kernels.gradients.unwrap(), composed.gradients.unwrap());
    assert_close("by hidden", a, c);
    assert_close("by weight", b, d);
}

#[test]
fn updates_agree_and_leave_other_holders_of_the_weights_alone() {
    let by = Update {
        scale: 0.5,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        rate: 1e-2,
        second_correction: 1.5,
        decay: 0.99,
    };
    let gradient = tensor([7, 33], 4);
    let updated = both().map(|ops| {
        let mut parameter = Parameter {
            shape: vec![7, 33],
            value: tensor([7, 33], 1),
            first_moment: tensor([7, 33], 2),
            second_moment: tensor([7, 33], 3).abs(),
        };
        let held = parameter.value.clone();
        ops.update(&mut parameter, &gradient, by);
        assert_close("held", held, tensor([7, 33], 1));
        parameter
    });
    let [kernels, composed] = updated;
    assert_close("value", kernels.value, composed.value);
    assert_close("first moment", kernels.first_moment, composed.first_moment);
    assert_close("second moment", kernels.second_moment, composed.second_moment);
}
