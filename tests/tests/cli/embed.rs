//! `thimble embed`: vectors, rankings, and what is refused.

use crate::setup::{Bench, setup};
use serde_json::{Value, json};
use std::fs;

/// The lines that a run printed.
fn lines(bench: &Bench, arguments: &[&str]) -> Vec<Value> {
    let out = bench.run(&[&["embed", "tiny.thimble"][..], arguments].concat(), b"");
    out.succeeds();
    out.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn vector(line: &Value) -> Vec<f64> {
    line["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn each_text_becomes_a_vector_of_length_one() {
    let bench = setup("embed");
    let texts = ["one", "two words", "🙂 <|im_end|>"];
    let arguments = lines(&bench, &texts);
    fs::write(bench.path("in.txt"), texts.join("\n\n") + "\n").unwrap();
    assert_eq!(lines(&bench, &["--input", "in.txt"]), arguments);
    let objects = texts.map(|text| format!("{}\n", json!({"id": text.len(), "text": text})));
    fs::write(bench.path("in.jsonl"), objects.concat()).unwrap();
    let hidden = bench.json(&["inspect", "tiny.thimble", "--json"])["config"]["hidden"].as_u64().unwrap();
    for (line, text) in lines(&bench, &["--input", "in.jsonl"]).iter().zip(texts) {
        assert_eq!((&line["text"], &line["id"]), (&json!(text), &json!(text.len())));
        let vector = vector(line);
        assert_eq!(vector.len() as u64, hidden);
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5);
    }
    let one_token = |pooling: &str| vector(&lines(&bench, &["--pooling", pooling, "x"])[0]);
    assert_eq!(one_token("mean"), one_token("last"), "of one token both are its state");
    let two = |pooling: &str| vector(&lines(&bench, &["--pooling", pooling, "xy"])[0]);
    assert_ne!(two("mean"), two("last"));
}

#[test]
fn numpy_reads_the_same_numbers() {
    let bench = setup("embed-npy");
    let file = bench.path("out.npy");
    let out = fs::File::create(&file).unwrap();
    bench.run_into(&["embed", "tiny.thimble", "a", "bc", "--format", "npy"], out).succeeds();
    let bytes = fs::read(&file).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(header % 64, 0);
    let expected = lines(&bench, &["a", "bc"]).iter().map(vector).collect::<Vec<_>>();
    let text = std::str::from_utf8(&bytes[10..header]).unwrap();
    let shape = format!("'shape': (2, {}), }}", expected[0].len());
    assert!(
        text.contains("'descr': '<f4', 'fortran_order': False") && text.trim_end().ends_with(&shape),
        "{text}"
    );
    assert!(text.ends_with('\n'));
    let (numbers, rest) = bytes[header..].as_chunks::<4>();
    assert!(rest.is_empty());
    let found: Vec<f32> = numbers.iter().map(|&four| f32::from_le_bytes(four)).collect();
    let expected: Vec<f32> = expected.concat().into_iter().map(|x| x as f32).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_query_ranks_the_texts() {
    let bench = setup("embed-query");
    let texts = ["the sea", "a mountain", "the sea and the shore", "zzz"];
    for center in [false, true] {
        let flags = if center { &["--center"][..] } else { &[] };
        let ranked = lines(&bench, &[&texts[..], &["--query", "the sea"], flags].concat());
        assert_eq!(ranked.len(), texts.len());
        assert_eq!(ranked[0]["text"], "the sea");
        let similarities: Vec<f64> = ranked.iter().map(|line| line["similarity"].as_f64().unwrap()).collect();
        assert!((similarities[0] - 1.0).abs() < 1e-5 && similarities.is_sorted_by(|a, b| a >= b));
        // The figures are those of the vectors.
        let vectors = lines(&bench, &[&texts[..], flags].concat());
        for line in &ranked {
            let of = |text: &Value| vector(vectors.iter().find(|line| line["text"] == *text).unwrap());
            let cosine = dot(&of(&line["text"]), &of(&json!("the sea")));
            assert!((cosine - line["similarity"].as_f64().unwrap()).abs() < 1e-5, "{line}");
        }
        if center {
            let mut sum = vec![0.0; vector(&vectors[0]).len()];
            let plain = lines(&bench, &texts);
            plain
                .iter()
                .for_each(|line| sum.iter_mut().zip(vector(line)).for_each(|(sum, x)| *sum += x / 4.0));
            let away: Vec<f64> = vector(&plain[3]).iter().zip(&sum).map(|(x, mean)| x - mean).collect();
            let length = dot(&away, &away).sqrt();
            let found = vector(&vectors[3]);
            assert!(away.iter().zip(found).all(|(x, found)| (x / length - found).abs() < 1e-4));
        }
    }
}

#[test]
fn texts_that_do_not_fit_are_refused_or_cut() {
    let bench = setup("embed-long");
    let long = "x".repeat(300);
    fs::write(bench.path("in.txt"), format!("short\n{long}\n")).unwrap();
    let embed = ["embed", "tiny.thimble", "--input", "in.txt"];
    bench.run(&embed, b"").fails(1, "in.txt, line 2: it has 300 tokens, but the context has room for 256");
    let cut = bench.run(&[&embed[..], &["--truncate"]].concat(), b"");
    cut.succeeds();
    assert!(cut.stderr.contains("1 of 2 texts cut to 256 tokens"), "{}", cut.stderr);
    let line: Value = serde_json::from_str(cut.stdout.lines().nth(1).unwrap()).unwrap();
    assert_eq!(vector(&line), vector(&lines(&bench, &[&long[..256]])[0]));
    bench.run(&["embed", "tiny.thimble", "abcd", "--context", "3"], b"").fails(1, "text 1: it has 4 tokens");
    bench.run(&["embed", "tiny.thimble", "a", "--query", ""], b"").fails(1, "--query: it is empty");
    bench.run(&["embed", "tiny.thimble", "a", ""], b"").fails(1, "text 2: it is empty");
    bench.run(&["embed", "tiny.thimble"], b"").fails(2, "there is no text to embed");
    fs::write(bench.path("in.jsonl"), "{\"text\": \"a\"}\n{\"text\": 1}\n").unwrap();
    let objects = bench.run(&["embed", "tiny.thimble", "--input", "in.jsonl"], b"");
    objects.fails(1, "in.jsonl, line 2: expected a string in the field \"text\"");
    bench.run(&["embed", "tiny.thimble", "--input", "-"], b"\n\n").fails(1, "stdin has no text");
}
