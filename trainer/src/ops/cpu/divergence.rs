//! Heads of a student and its teacher, and the divergence of their predictions, in chunks of tokens: the student's
//! logits become their own gradient in place, and neither's are ever held whole.

use super::gemm::{MatrixView, WriteMode, matmul};
use super::loss::{LEAST_ROWS, ROWS, head_backward};
use super::math::{DivergenceSums, exp_sums};
use super::threads::Threads;
use rayon::prelude::*;

/// The normed final activations of one model, and its head.
pub(super) struct Predictions<'a, H> {
    pub(super) hidden: H,
    pub(super) head: &'a [f32],
}

/// Writes each token's KL(teacher || student) in nats to `losses`; with `gradient`, replaces the student's activations by
/// their gradient, each token's times its weight, and adds to the head's where it is trained. `logits` is scratch for at least two tokens'
/// classes.
pub(super) fn divergence(
    threads: &Threads,
    student: Predictions<&mut [f32]>,
    teacher: Predictions<&[f32]>,
    (weights, losses): (&[f32], &mut [f32]),
    logits: &mut [f32],
    mut gradient: Option<Option<&mut [f32]>>,
) {
    let width = student.hidden.len() / losses.len();
    let classes = student.head.len() / width;
    let chunk = logits.len() / 2 / classes;
    let rows = (chunk / 8).clamp(LEAST_ROWS, ROWS);
    let heads = [student.head, teacher.head].map(|head| MatrixView::new(head, width));
    let (student_logits, teacher_logits) = logits.split_at_mut(chunk * classes);
    let hidden = student.hidden.chunks_mut(chunk * width).zip(teacher.hidden.chunks(chunk * width));
    let targets = weights.chunks(chunk).zip(losses.chunks_mut(chunk));
    for ((hidden, teacher_hidden), (weights, losses)) in hidden.zip(targets) {
        let count = weights.len() * classes;
        let (student_logits, teacher_logits) = (&mut student_logits[..count], &mut teacher_logits[..count]);
        let with_gradient = gradient.is_some();
        threads.run(|simd| {
            let part = rows * classes;
            let logits = student_logits.par_chunks_mut(part).zip(teacher_logits.par_chunks_mut(part));
            let inputs = hidden.par_chunks(rows * width).zip(teacher_hidden.par_chunks(rows * width));
            let targets = weights.par_chunks(rows).zip(losses.par_chunks_mut(rows));
            logits.zip(inputs).zip(targets).for_each(
                |(((s, t), (hidden, teacher_hidden)), (weights, losses))| {
                    let times = |out: &mut [f32], hidden, head: MatrixView| {
                        let hidden = MatrixView::new(hidden, width);
                        matmul(out, classes, WriteMode::Replace, 1.0, hidden, head.transpose());
                    };
                    times(s, hidden, heads[0]);
                    times(t, teacher_hidden, heads[1]);
                    simd.dispatch(
                        #[inline(always)]
                        || {
                            let logits = s.chunks_exact_mut(classes).zip(t.chunks_exact_mut(classes));
                            for ((s, t), (&weight, loss)) in logits.zip(weights.iter().zip(losses)) {
                                *loss = token(s, t, with_gradient.then_some(weight));
                            }
                        },
                    );
                },
            );
        });
        if let Some(d_head) = &mut gradient {
            head_backward(threads, heads[0], MatrixView::new(student_logits, classes), hidden, d_head, rows);
        }
    }
}

/// KL(teacher || student) of one token. With a weight, the student's logits become their gradient, `weight x (softmax of
/// the student - softmax of the teacher)`.
#[inline(always)]
fn token(student: &mut [f32], teacher: &mut [f32], weight: Option<f32>) -> f32 {
    let sums: DivergenceSums = exp_sums(student, teacher);
    if let Some(weight) = weight {
        let (of_student, of_teacher) = (weight / sums.student, weight / sums.teacher);
        student.iter_mut().zip(teacher).for_each(|(s, t)| *s = *s * of_student - *t * of_teacher);
    }
    sums.difference / sums.teacher + (sums.student / sums.teacher).ln()
}
