use super::*;
use crate::read::BlockType;
use crate::test_config::CONFIG;

fn tensors() -> Vec<SourceTensor> {
    let stored = |index| {
        let (role, layer) = TensorRole::at(&CONFIG, index);
        let (rows, columns) = role.shape(&CONFIG);
        let (name, kind) = (String::new(), BlockType::F32);
        SourceTensor {
            name,
            role,
            layer,
            kind,
            rows,
            columns,
            file: 0,
            offset: 0,
            interleaved: None,
            packed: None,
            stored: None,
        }
    };
    (0..TensorRole::count(&CONFIG)).map(stored).collect()
}

fn encodings(text: &str) -> Result<Vec<Encoding>, String> {
    let table = Table::parse(text, "table.toml").map_err(|e| e.to_string())?;
    table.encodings(&tensors(), Quant::Q8).map_err(|e| e.to_string())
}

#[test]
fn rules_name_tensors_and_the_last_one_counts() {
    let text = r#"
        base = "q4"
        [[tensor]]
        pattern = "layers.*.down"
        encoding = "q5nl"
        [[tensor]]
        pattern = "layers.0-1,11.*"
        encoding = "q6"
        [[tensor]]
        pattern = "layers.10.query,k*y"
        encoding = "q8"
        [[tensor]]
        pattern = "embedding"
        encoding = "q6"
    "#;
    for (tensor, encoding) in tensors().iter().zip(encodings(text).unwrap()) {
        let expected = match (tensor.role, tensor.layer) {
            (role, _) if role.is_vector() => Encoding::Vector,
            (TensorRole::Embedding, _) | (_, 0 | 1 | 11) => Encoding::Q6,
            (TensorRole::Query | TensorRole::Key, 10) => Encoding::Q8,
            (TensorRole::Down, _) => Encoding::Q5Nl,
            _ => Encoding::Q4Nl,
        };
        assert_eq!(encoding, expected, "{} {}", tensor.role, tensor.layer);
    }
    assert_eq!(
        encodings("").unwrap()[1 + 9 * 3 + 1],
        Encoding::Q8,
        "without a base it is the caller's recipe"
    );
}

#[test]
fn mistakes_are_named_with_the_nearest_name() {
    let rule = |pattern: &str, encoding: &str| {
        encodings(&format!("[[tensor]]\npattern = \"{pattern}\"\nencoding = \"{encoding}\"")).unwrap_err()
    };
    let error = rule("layers.*.down", "q5ln");
    assert!(
        error.contains("\"q5ln\"") && error.contains("did you mean q5nl") && error.contains("q4min"),
        "{error}"
    );
    assert!(error.starts_with("the recipe table.toml is invalid: no encoding"), "{error}");
    let error = rule("layers.3.donw", "q6");
    assert!(error.contains("layers.3.donw") && error.contains("layers.3.down"), "{error}");
    assert!(rule("layers.12-14.down", "q6").contains("matches no matrix"));
    assert!(rule("head", "q6").contains("matches no matrix"), "the head of this model is its embedding");
    assert!(rule("layers.*.ffn_norm", "q6").contains("matches no matrix"), "norms stay as they are");
    assert!(rule("layers.*.down", "f32 vector").contains("no encoding"));
    let error = encodings("[[tensor]]\npatern = \"x\"\nencoding = \"q6\"").unwrap_err();
    assert!(error.contains("table.toml") && error.contains("patern") && error.contains("pattern"), "{error}");
    assert!(encodings("base = \"q9\"").unwrap_err().contains("q9"));
}

#[test]
fn a_table_of_encodings_gives_them_back() {
    let choice = [Encoding::Q4Nl, Encoding::Q5Nl, Encoding::Q6, Encoding::Q8];
    let wanted: Vec<Encoding> = tensors()
        .iter()
        .enumerate()
        .map(|(i, t)| if t.role.is_vector() { Encoding::Vector } else { choice[i * i / 7 % 4] })
        .collect();
    let text = Table::of(&CONFIG, &wanted).to_toml();
    assert_eq!(encodings(&text).unwrap(), wanted, "{text}");
    let even: Vec<Encoding> =
        tensors().iter().map(|t| if t.role.is_vector() { Encoding::Vector } else { Encoding::Q6 }).collect();
    let table = Table::of(&CONFIG, &even);
    assert_eq!(table.rules.len(), 8, "{table:?}");
    assert_eq!(table.rules[1].pattern, "layers.0-11.query");
}
