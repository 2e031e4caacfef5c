//! Vectors as lines of JSON, as a NumPy file, and compared.

use super::texts::Text;
use crate::failure::Failure;
use crate::json;
use serde_json::Value;
use std::io::Write;

/// The text's object with its vector.
pub(super) fn write_line(stdout: &mut dyn Write, text: &Text, vector: &[f32]) -> Result<(), Failure> {
    let mut object = text.object.clone();
    object.insert("embedding".to_string(), vector.iter().map(|&x| number(x)).collect());
    json::write(stdout, &object)
}

/// The texts' objects with their similarity to the query, the most similar first.
pub(super) fn write_ranking(
    stdout: &mut dyn Write,
    texts: &[Text],
    vectors: &[Vec<f32>],
    query: &[f32],
) -> Result<(), Failure> {
    let similarities = vectors.iter().map(|vector| dot(vector, query));
    let mut ranked: Vec<(f64, &Text)> = similarities.zip(texts).collect();
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (similarity, text) in ranked {
        let mut object = text.object.clone();
        object.insert("similarity".to_string(), number(similarity as f32));
        json::write(stdout, &object)?;
    }
    Ok(())
}

/// Version 1.0 of NumPy's format (numpy.lib.format), `[vectors, hidden]` of little-endian f32.
pub(super) fn write_npy(stdout: &mut dyn Write, vectors: &[Vec<f32>], hidden: usize) -> Result<(), Failure> {
    let rows = vectors.len();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {hidden}), }}");
    // Magic, version and the header's length are 10 bytes; the data begins at a multiple of 64.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header = format!("{header:<width$}\n", width = padded - 1);
    stdout.write_all(b"\x93NUMPY\x01\x00")?;
    stdout.write_all(&(padded as u16).to_le_bytes())?;
    stdout.write_all(header.as_bytes())?;
    for vector in vectors {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        stdout.write_all(&bytes)?;
    }
    Ok(())
}

/// The mean of all vectors, `[hidden]`.
pub(super) fn mean(vectors: &[Vec<f32>], hidden: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; hidden];
    for vector in vectors {
        sum.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    sum.iter().map(|sum| (sum / vectors.len().max(1) as f64) as f32).collect()
}

/// Subtracts the mean, if there is one, and scales the vector to length 1 again. A vector that equals the mean becomes zeros.
pub(super) fn center(vector: &mut [f32], mean: Option<&[f32]>) {
    let Some(mean) = mean else { return };
    vector.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// The scalar product; of two vectors of length 1 it is the cosine of their angle.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The shortest decimal of an f32: a conversion to f64 would show its rounding error.
fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
