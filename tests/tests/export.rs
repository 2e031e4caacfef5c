//! Hugging Face folders out: the converter reads back what went in. tests/golden/against_transformers.py asks
//! transformers itself. ONNX folders out: their files and numbers.
#![allow(clippy::unwrap_used, reason = "these files are nothing but tests")]
#![allow(dead_code, reason = "the tiny models have more to them")]

mod tiny;

use std::fs;
use std::path::Path;
use thimble_chat::RecommendedSampling;
use thimble_chat::template;
use thimble_converter::export::{Dtype, ExportSummary, export};
use thimble_converter::onnx::{OnnxType, export_onnx};
use thimble_converter::read;
use thimble_converter::write_gguf::{GgufType, write_gguf};
use thimble_converter::{BlockType, ConversionOptions, ConvertError, Quant, convert};
use thimble_files::MappedModel;
use thimble_runtime::chat::{Message, Role};
use thimble_runtime::format::SectionKind;
use tiny::{BLOCKS, Folder, GgufFile, ODD, Shape, float_bytes, random_blocks};

fn exported(source: &Path, folder: &Path, dtype: Dtype) -> Result<ExportSummary, ConvertError> {
    let mut last = 0;
    export(&read::open(source)?, folder, dtype, &mut |progress| {
        assert!(progress.done >= last && progress.done <= progress.total, "progress goes forward");
        last = progress.done;
    })
}

fn converted(source: &Path, target: &Path, quant: Quant) -> MappedModel {
    convert(source, target, &ConversionOptions { quant, ..ConversionOptions::default() }, &mut |_| {})
        .unwrap();
    MappedModel::read(target).unwrap()
}

/// The bytes of a section, header and all that lies before it aside.
fn tensors(model: &MappedModel) -> Vec<Vec<u8>> {
    let file = model.file().unwrap();
    file.tensors().iter().map(|record| file.tensor_bytes(&record).to_vec()).collect()
}

fn section(model: &MappedModel, kind: SectionKind) -> Vec<u8> {
    let file = model.file().unwrap();
    let directory = thimble_runtime::format::Directory::parse(file.bytes()).unwrap();
    directory.bytes(file.bytes(), kind).unwrap().to_vec()
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let cases = [
        (ODD, BlockType::F32, Dtype::F32),
        (BLOCKS, BlockType::F16, Dtype::F16),
        (Shape { tied: false, ..BLOCKS }, BlockType::BF16, Dtype::BF16),
        (BLOCKS, BlockType::F16, Dtype::F32),
    ];
    for (shape, kind, dtype) in cases {
        let at = tempfile::tempdir().unwrap();
        let path = |name: &str| at.path().join(name);
        fs::create_dir(path("in")).unwrap();
        Folder::new(shape, kind).write(&path("in"), 1);
        let first = converted(&path("in"), &path("first.thimble"), Quant::F32);
        let kept = converted(&path("in"), &path("kept.thimble"), Quant::Keep);
        let summary = exported(&path("kept.thimble"), &path("out"), dtype).unwrap();
        assert_eq!(summary.rounding, 0.0, "these numbers fit every type");
        let length = fs::metadata(path("out/model.safetensors")).unwrap().len();
        assert_eq!(summary.bytes, length);
        let second = converted(&path("out"), &path("second.thimble"), Quant::F32);
        assert_eq!(tensors(&first), tensors(&second), "{kind} as {dtype}");
        assert_eq!(first.file().unwrap().config(), second.file().unwrap().config());
        for section_kind in [SectionKind::Tokenizer, SectionKind::Chat] {
            assert_eq!(section(&kept, section_kind), section(&second, section_kind), "{section_kind:?}");
        }
        let again = read::open(&path("out")).unwrap();
        assert_eq!(again.origin.licence.as_deref(), Some("apache-2.0"));
        let kinds = again.tensors().iter().all(|t| t.kind.to_string() == dtype.name().to_uppercase());
        assert!(kinds, "every tensor is {dtype}");
    }
}

#[test]
fn named_and_added_tokens_come_along() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    fs::create_dir(path("in")).unwrap();
    let mut folder = Folder::new(Shape { vocab: 304, ..ODD }, BlockType::F32);
    folder.tokenizer = tiny::tokenizer_json(300);
    let config = &mut folder.tokenizer_config;
    config["pad_token"] = "<pad>".into();
    config["extra_special_tokens"] = serde_json::json!({"tool_token": "<tool>"});
    config["chat_template"] = "{{ messages[0]['content'] }}{{ pad_token }}{{ tool_token }}".into();
    folder.write(&path("in"), 1);
    exported(&path("in"), &path("out"), Dtype::F32).unwrap();
    let [first, second] = ["in", "out"].map(|name| converted(&path(name), &path("m.thimble"), Quant::Keep));
    for kind in [SectionKind::Tokenizer, SectionKind::Chat] {
        assert_eq!(section(&first, kind), section(&second, kind), "{kind:?}");
    }
    let file = second.file().unwrap();
    let message = Message { role: Role::User, text: "hi" };
    let pieces =
        template::render(&file.chat().unwrap(), &[message], template::TemplateOptions::ANSWER).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.text()).collect::<String>(), "hi<pad><tool>");
}

#[test]
fn quantized_files_become_the_numbers_they_stand_for() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    let file = GgufFile::new(BLOCKS, BlockType::Q4_1, |spec| random_blocks(BlockType::Q4_1, spec));
    fs::write(path("q.gguf"), file.bytes()).unwrap();
    let expected = converted(&path("q.gguf"), &path("first.thimble"), Quant::F32);
    converted(&path("q.gguf"), &path("kept.thimble"), Quant::Keep);
    for source in ["q.gguf", "kept.thimble"] {
        let folder = path(&format!("{source}-out"));
        exported(&path(source), &folder, Dtype::F32).unwrap();
        let found = converted(&folder, &path("second.thimble"), Quant::F32);
        assert_eq!(tensors(&found), tensors(&expected), "{source}");
        assert_eq!(found.file().unwrap().config(), expected.file().unwrap().config());
    }
    let summary = exported(&path("kept.thimble"), &path("narrow"), Dtype::BF16).unwrap();
    assert!(summary.rounding > 1e-4 && summary.rounding < 4e-3, "{}", summary.rounding);
}

#[test]
fn a_thimble_file_keeps_its_encodings() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    fs::create_dir(path("source")).unwrap();
    Folder::new(ODD, BlockType::F32).write(&path("source"), 1);
    for quant in Quant::ALL {
        let first = converted(&path("source"), &path("first.thimble"), quant);
        let options = ConversionOptions::default();
        let summary = convert(&path("first.thimble"), &path("again.thimble"), &options, &mut |_| {}).unwrap();
        let again = MappedModel::read(&path("again.thimble")).unwrap();
        assert!(tensors(&first) == tensors(&again), "{quant}");
        assert_eq!(summary.rounding, 0.0, "{quant}");
        // More bits than it has, and it stays what it is.
        let options = ConversionOptions { quant: Quant::Q8, ..options };
        let summary = convert(&path("again.thimble"), &path("wide.thimble"), &options, &mut |_| {}).unwrap();
        let few = !matches!(quant, Quant::Keep | Quant::F32 | Quant::F16 | Quant::BF16 | Quant::Q3);
        assert!(!few || summary.rounding == 0.0, "{quant}: {:?}", summary.notes);
        let notes = summary.notes.iter().filter(|note| note.contains("no chat template")).count();
        assert!(notes <= 1, "{:?}", summary.notes);
    }
}

#[test]
fn chats_are_rendered_alike_whoever_speaks() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    fs::create_dir(path("in")).unwrap();
    Folder::new(ODD, BlockType::F32).write(&path("in"), 1);
    let first = converted(&path("in"), &path("first.thimble"), Quant::Keep);
    exported(&path("first.thimble"), &path("out"), Dtype::F32).unwrap();
    let exported = read::open(&path("out")).unwrap();
    let source = exported.chat_template.as_deref().unwrap();
    let compiled = template::JinjaTemplate::compile(source, "", "").unwrap();
    let chat = first.file().unwrap().chat().unwrap();
    let said = [(Role::System, "a\n"), (Role::User, "it's \\ '"), (Role::Assistant, " <|im_end|>")];
    let messages = said.map(|(role, text)| Message { role, text });
    for generate in [false, true] {
        let pieces =
            template::render(&chat, &messages, template::TemplateOptions { generate, thinking: None })
                .unwrap();
        let expected: String = pieces.iter().map(|piece| piece.text()).collect();
        assert_eq!(compiled.render(&messages, generate).unwrap(), expected);
    }
}

#[test]
fn what_cannot_be_exported_leaves_nothing_behind() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    let files = || fs::read_dir(at.path()).unwrap().count();
    fs::create_dir(path("in")).unwrap();
    let mut folder = Folder::new(BLOCKS, BlockType::F32);
    folder.write(&path("in"), 1);
    let refused = |error: Result<ExportSummary, ConvertError>| error.unwrap_err().to_string();
    assert!(refused(exported(&path("in"), &path("in"), Dtype::F32)).contains("exists already"));
    assert!(exported(&path("nothing"), &path("out"), Dtype::F32).is_err());
    let projection = "model.layers.0.self_attn.k_proj.weight, row 3";
    for (value, dtype, sentence) in [
        (f32::NAN, Dtype::F32, "a weight is infinite or not a number"),
        (1e6, Dtype::F16, "a weight is too large for F16"),
    ] {
        folder.tensors[3].3[4 * 96 * 3..][..4].copy_from_slice(&value.to_le_bytes());
        folder.write(&path("in"), 1);
        let found = refused(exported(&path("in"), &path("out"), dtype));
        assert!(found.contains(&format!("{projection}: {sentence}")), "{found}");
        assert_eq!(files(), 1, "only the source is there");
    }
    let bytes = float_bytes(BlockType::F32, &[0.5; 4]);
    fs::write(path("short.thimble"), bytes).unwrap();
    assert!(exported(&path("short.thimble"), &path("out"), Dtype::F32).is_err());
    assert!("f8".parse::<Dtype>().unwrap_err().to_string().contains("bf16"));
}

/// What `generation_config.json` recommends stays with the model through every format; what it says of beams does not.
#[test]
fn recommended_sampling_stays_with_the_model() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    fs::create_dir(path("in")).unwrap();
    Folder::new(BLOCKS, BlockType::F32).write(&path("in"), 1);
    let none = converted(&path("in"), &path("none.thimble"), Quant::Keep);
    assert_eq!(RecommendedSampling::of(&none.file().unwrap()), RecommendedSampling::default());
    assert!(!none.file().unwrap().provenance().contains("sampling"));
    let cases = [
        r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "num_beams": 4}"#,
        r#"{"min_p": 0.05, "repetition_penalty": 1.1}"#,
        r#"{"do_sample": false}"#,
    ];
    for (number, text) in cases.into_iter().enumerate() {
        fs::write(path("in/generation_config.json"), text).unwrap();
        let expected = RecommendedSampling::read(&serde_json::from_str(text).unwrap());
        assert_ne!(expected, RecommendedSampling::default());
        let name = |end: &str| path(&format!("{number}{end}"));
        converted(&path("in"), &name("a.thimble"), Quant::Keep);
        let checkpoint = read::open(&name("a.thimble")).unwrap();
        write_gguf(&checkpoint, &name("b.gguf"), GgufType::Keep, &mut |_| {}).unwrap();
        let third = converted(&name("b.gguf"), &name("c.thimble"), Quant::Keep);
        assert_eq!(RecommendedSampling::of(&third.file().unwrap()), expected, "{text}");
        exported(&name("c.thimble"), &name("d"), Dtype::F32).unwrap();
        assert_eq!(read::open(&name("d")).unwrap().origin.sampling, expected, "{text}");
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(name("d/generation_config.json")).unwrap()).unwrap();
        assert_eq!(json["do_sample"], expected.temperature != Some(0.0));
    }
}

/// The graph's own tests are in `converter/src/onnx`; tests/golden/against_onnxruntime.py asks onnxruntime.
#[test]
fn an_onnx_folder_has_the_graph_its_data_and_the_tokenizer() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    fs::create_dir(path("in")).unwrap();
    let folder = Folder::new(ODD, BlockType::F32);
    folder.write(&path("in"), 1);
    let source = read::open(&path("in")).unwrap();
    for (dtype, file, name) in [
        (OnnxType::F32, "model.onnx", "fp32"),
        (OnnxType::F16, "model_fp16.onnx", "fp16"),
        (OnnxType::Q4, "model_q4.onnx", "q4"),
    ] {
        let out = path(name);
        let mut last = 0;
        let summary = export_onnx(&source, &out, dtype, &mut |progress| {
            assert!(progress.done >= last && progress.done <= progress.total, "progress goes forward");
            last = progress.done;
        })
        .unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        let loaded = &config["transformers.js_config"];
        assert_eq!((&loaded["dtype"], &loaded["use_external_data_format"][file]), (&name.into(), &1.into()));
        for json in
            ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"]
        {
            assert!(out.join(json).exists(), "{json}");
        }
        let data = fs::read(out.join("onnx").join(format!("{file}_data"))).unwrap();
        let graph = fs::metadata(out.join("onnx").join(file)).unwrap().len();
        assert!(summary.bytes > graph && summary.bytes <= graph + data.len() as u64);
        if dtype == OnnxType::F32 {
            assert_eq!(summary.rounding, 0.0);
            // Cosines, sines, embedding, norm, query projection, each from a page of its own.
            let mut start = 0;
            let table = source.config.context * source.config.head_dim / 2 * 4;
            for (length, tensor) in [(table, None), (table, None), (300 * 96 * 4, Some(0)), (96 * 4, Some(1))]
            {
                let expected = tensor.map(|tensor: usize| folder.tensors[tensor].3.as_slice());
                let found = &data[start..start + length];
                assert!(expected.is_none_or(|expected| expected == found), "tensor {tensor:?}");
                start = (start + length).next_multiple_of(4096);
            }
            let rows = &folder.tensors[2].3;
            for at in 0..96 * 96 {
                let (column, row) = (at / 96, at % 96);
                assert_eq!(data[start + 4 * at..][..4], rows[4 * (row * 96 + column)..][..4], "transposed");
            }
            let position = 5 * source.config.head_dim / 2 * 4;
            let cosine = f32::from_le_bytes(data[position..][..4].try_into().unwrap());
            assert_eq!(cosine, source.config.rope.rotation(5, 1.0)[0]);
        }
    }
    let again = export_onnx(&source, &path("q4"), OnnxType::Q4, &mut |_| {});
    assert!(again.unwrap_err().to_string().contains("exists already"));
}

#[test]
fn an_onnx_export_that_fails_leaves_nothing_behind() {
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    fs::create_dir(path("in")).unwrap();
    let mut folder = Folder::new(BLOCKS, BlockType::F32);
    for (value, dtype, sentence) in [
        (f32::NAN, OnnxType::F32, "row 3: a weight is infinite or not a number"),
        (f32::INFINITY, OnnxType::Q4, "row 3: a weight is infinite or not a number"),
        (1e6, OnnxType::F16, "row 3: a weight is too large for F16"),
        (1e7, OnnxType::Q4, "row 3: a weight is too large for 4-bit blocks"),
    ] {
        folder.tensors[3].3[4 * 96 * 3..][..4].copy_from_slice(&value.to_le_bytes());
        folder.write(&path("in"), 1);
        let source = read::open(&path("in")).unwrap();
        let found = export_onnx(&source, &path("out"), dtype, &mut |_| {}).unwrap_err().to_string();
        assert!(found.contains(sentence), "{found}");
        assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1, "only the source is there");
    }
    assert!("bf16".parse::<OnnxType>().unwrap_err().to_string().contains("known: f32, f16, q4"));
}
