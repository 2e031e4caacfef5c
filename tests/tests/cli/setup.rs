//! A folder with a tiny model for each test, and the real binary.

use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Where one test works: `tiny.thimble`, the Hugging Face folder `hf` that it was made from, and a home of its own.
pub(crate) struct Bench {
    folder: TempDir,
}

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A fresh bench; `name` tells tests apart in temporary folders.
pub(crate) fn setup(name: &str) -> Bench {
    static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
    let folder = tempfile::Builder::new().prefix(&format!("thimble-{name}-")).tempdir().unwrap();
    let bench = Bench { folder };
    write_model(&bench.path("hf"));
    let model = MODEL.get_or_init(|| {
        bench.run(&["convert", "hf", "-o", "tiny.thimble", "--quant", "f32"], b"").succeeds();
        fs::read(bench.path("tiny.thimble")).unwrap()
    });
    fs::write(bench.path("tiny.thimble"), model).unwrap();
    bench
}

impl Bench {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S], stdin: &[u8]) -> Output {
        let child = self.command(arguments).spawn().unwrap();
        finish(child, stdin)
    }

    /// Runs it with its output in a file.
    pub(crate) fn run_into(&self, arguments: &[&str], stdout: fs::File) -> Output {
        let mut command = self.command(arguments);
        finish(command.stdout(stdout).spawn().unwrap(), b"")
    }

    /// Runs it with more in its environment.
    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(arguments);
        finish(command.envs(environment.iter().copied()).spawn().unwrap(), b"")
    }

    /// Runs it with files limited to so many blocks of 512 or 1024 bytes: writing more fails as on a full disk.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_limited(&self, arguments: &[&str], blocks: u32) -> Output {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = self.prepared(Command::new("sh"));
        command.args(["-c", &script, "sh"]).arg(binary()).args(arguments);
        finish(command.spawn().unwrap(), b"")
    }

    /// Starts the command and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts the command with its output in pipes.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command that prints one JSON object.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let out = self.run(arguments, b"");
        out.succeeds();
        serde_json::from_str(&out.stdout).unwrap()
    }

    /// Reads a few bytes of the output and closes the pipe.
    pub(crate) fn run_and_leave(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        let out = child.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    }

    /// Puts the tiny model where `pull` would have put this name.
    pub(crate) fn install(&self, name: &str) {
        fs::create_dir_all(self.path("home/models")).unwrap();
        fs::copy(self.path("tiny.thimble"), self.path("home/models").join(format!("{name}.thimble")))
            .unwrap();
    }

    /// Cuts the folder's weights into two files and an index, as large models have them.
    pub(crate) fn shard(&self) {
        let single = self.path("hf/model.safetensors");
        let whole = fs::read(&single).unwrap();
        let start = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&whole[8..start]).unwrap();
        let tensors: Vec<_> = header.as_object().unwrap().iter().collect();
        let mut map = serde_json::Map::new();
        for (number, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
            let name = format!("model-{:05}-of-00002.safetensors", number + 1);
            let (mut listed, mut data) = (serde_json::Map::new(), Vec::new());
            for (tensor, record) in part {
                let at = |end: usize| start + record["data_offsets"][end].as_u64().unwrap() as usize;
                let from = data.len();
                data.extend_from_slice(&whole[at(0)..at(1)]);
                let mut record = (*record).clone();
                record["data_offsets"] = json!([from, data.len()]);
                listed.insert(tensor.to_string(), record);
                map.insert(tensor.to_string(), json!(name));
            }
            let listed = Value::Object(listed).to_string().into_bytes();
            let file = [&(listed.len() as u64).to_le_bytes()[..], &listed, &data].concat();
            fs::write(self.path("hf").join(name), file).unwrap();
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        fs::write(self.path("hf/model.safetensors.index.json"), index.to_string()).unwrap();
        fs::remove_file(single).unwrap();
    }

    /// Unfinished files in the home.
    pub(crate) fn staging(&self) -> usize {
        let entries = fs::read_dir(self.path("home/models")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".thimble") && !name.ends_with(".lock")).count()
    }

    /// The command in this bench, not started yet.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.prepared(Command::new(binary()));
        command.args(arguments);
        command
    }

    /// The program in this bench's folder and environment.
    fn prepared(&self, mut command: Command) -> Command {
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command
            .current_dir(self.folder.path())
            .env("THIMBLE_HOME", self.path("home"))
            .env("HF_HOME", self.path("hub-cache"))
            // Without it a layer of Mesa's complains on stderr.
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env_remove("THIMBLE_BACKEND")
            .env_remove("HF_ENDPOINT")
            .env_remove("HF_TOKEN")
            .env_remove("HF_TOKEN_PATH")
            .env_remove("THIMBLE_DATA")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn finish(mut child: Child, stdin: &[u8]) -> Output {
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that does not read its input closes it.
        let _ = pipe.write_all(&stdin);
    });
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let [stdout, stderr] = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Output { code: out.status.code(), stdout, stderr }
}

impl Output {
    #[track_caller]
    pub(crate) fn succeeds(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }

    /// It ended with this code and one sentence that contains `word`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, word: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains("error:") && self.stderr.contains(word), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// The command, built with the profile of this test: cargo builds no other package's binaries for a test.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let release = std::env::current_exe().unwrap().components().any(|c| c.as_os_str() == "release");
        let profile = if release { "release" } else { "dev" };
        let built = Command::new(env!("CARGO"))
            // All of the workspace, as for the tests: fewer packages would want fewer features of their dependencies, and
            // those would be built once more.
            .args(["build", "--quiet", "--workspace", "--bin", "thimble", "--profile", profile])
            .args(["--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(built.status.success(), "the command does not build");
        let messages = String::from_utf8(built.stdout).unwrap();
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(PathBuf::from(message["executable"].as_str()?))
        });
        executable.expect("cargo tells where the executable is")
    })
}

const VOCAB: usize = 260;
const HIDDEN: usize = 64;
const LAYERS: usize = 2;
const FFN: usize = 96;

/// A Llama with random weights over bytes and three special tokens.
fn write_model(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string()).unwrap();
    write(
        "config.json",
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": FFN, "vocab_size": VOCAB,
            "max_position_embeddings": 256, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": true, "bos_token_id": 257, "eos_token_id": 258, "torch_dtype": "float32",
        }),
    );
    let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "id": 256 + index, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let bytes = byte_characters().into_iter().enumerate().map(|(byte, c)| (c.to_string(), json!(byte)));
    let special = special.iter().enumerate().map(|(index, text)| (text.to_string(), json!(256 + index)));
    let vocab: serde_json::Map<String, Value> = bytes.chain(special).collect();
    write(
        "tokenizer.json",
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
            },
            "post_processor": null,
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
            },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false, "vocab": vocab, "merges": [],
            },
        }),
    );
    let template = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
                    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
                    {{ '<|im_start|>assistant\n' }}{% endif %}";
    write(
        "tokenizer_config.json",
        json!({
            "tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
            "chat_template": template,
        }),
    );
    fs::write(folder.join("model.safetensors"), weights()).unwrap();
}

/// GPT-2's printable stand-in for each byte.
fn byte_characters() -> Vec<char> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    let mut stand_in = |byte: u32| match printable(byte) {
        true => byte,
        false => {
            next += 1;
            next - 1
        }
    };
    (0..256).map(|byte| char::from_u32(stand_in(byte)).unwrap()).collect()
}

fn weights() -> Vec<u8> {
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![VOCAB, HIDDEN])];
    for layer in 0..LAYERS {
        let tensors: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj", &[HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", &[HIDDEN / 2, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("mlp.gate_proj", &[FFN, HIDDEN]),
            ("mlp.up_proj", &[FFN, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, FFN]),
        ];
        for (name, shape) in tensors {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        }
    }
    shapes.push(("model.norm.weight".to_string(), vec![HIDDEN]));
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    let mut state = 1u64;
    for (name, shape) in shapes {
        let start = data.len();
        for _ in 0..shape.iter().product() {
            // Knuth's MMIX generator; the upper bits are good enough for weights.
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
            let weight = if shape.len() == 1 { 1.0 } else { (unit - 0.5) * 0.6 };
            data.extend_from_slice(&f32::to_le_bytes(weight));
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.append(&mut header);
    file.append(&mut data);
    file
}
