// Exports a model as ONNX graphs and holds them against `--exact` in transformers.js: greedy tokens of texts and chats.
//
//     cd FOLDER_OF_PACKAGES        # where `npm install --ignore-scripts @huggingface/transformers` ran
//     node .../against_transformers_js.mjs THIMBLE MODEL [FOLDER]   # MODEL: a .thimble or a GGUF file, or a folder
//
// FOLDER keeps the exported folders f32, f16 and q4, or has them already. f32 must give the same tokens; of the others it
// prints how many agree before the first difference.

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const { AutoModelForCausalLM, AutoTokenizer, env } =
    createRequire(join(process.cwd(), "package.json"))("@huggingface/transformers");

const TOKENS = 80;
const PROMPTS = [
    "The tide comes in because",
    "In 1969, 2 astronauts walked on the moon; 38 years later",
    "def fibonacci(n):\n",
    "Once upon a time there was a fox who",
];
const CHATS = ["Why is the sky blue?", "Write a haiku about the sea."];

const [thimblePath, model, kept] = process.argv.slice(2);

function thimble(...args) {
    const done = spawnSync(thimblePath, args.map(String), { encoding: "utf8", maxBuffer: 1 << 28 });
    if (done.status !== 0) throw new Error(done.stderr);
    return done.stdout;
}

const base = resolve(kept ?? mkdtempSync(join(tmpdir(), "thimble-onnx-")));
env.allowRemoteModels = false;
env.localModelPath = base;
const greedy = ["--exact", "--temperature", 0, "--repetition-penalty", 1, "--tokens", TOKENS, "--json", "--lookup", 0];
const cases = [...PROMPTS.map((text) => [text, false]), ...CHATS.map((text) => [text, true])];
const exact = cases.map(([text, chat]) =>
    JSON.parse(thimble("run", model, "--prompt", text, ...greedy, ...(chat ? ["--chat"] : []))).ids);
let right = true;
for (const dtype of ["f32", "f16", "q4"]) {
    const folder = join(base, dtype);
    if (!existsSync(folder)) thimble("export", model, "-o", folder, "--to", "onnx", "--dtype", dtype);
    const tokenizer = await AutoTokenizer.from_pretrained(dtype);
    // The type is in config.json: "auto" reads it there.
    const network = await AutoModelForCausalLM.from_pretrained(dtype, { dtype: "auto" });
    let same = 0, total = 0, agree = 0;
    for (const [index, [text, chat]] of cases.entries()) {
        if (chat && !tokenizer.chat_template) continue;
        const inputs = chat
            ? tokenizer.apply_chat_template([{ role: "user", content: text }], { add_generation_prompt: true, return_dict: true })
            : tokenizer(text);
        // A text continues past the model's end-of-text token there, but not here.
        const stops = [network.generation_config.eos_token_id ?? []].flat();
        const end = exact[index].findIndex((token) => stops.includes(token));
        const wanted = end < 0 ? exact[index] : exact[index].slice(0, end + 1);
        const output = await network.generate({
            ...inputs, do_sample: false, repetition_penalty: 1, max_new_tokens: wanted.length,
        });
        const found = Array.from(output.data, Number).slice(inputs.input_ids.dims.at(-1));
        let first = found.findIndex((token, at) => token !== wanted[at]);
        if (first < 0) first = found.length;
        agree += first;
        total += wanted.length;
        same += first >= wanted.length ? 1 : 0;
        if (dtype === "f32" && first < wanted.length) {
            right = false;
            console.log(`  ${JSON.stringify(text)}: token ${first} differs: ${wanted[first]}, transformers.js ${found[first]}`);
        }
    }
    console.log(`${dtype}: ${same} of ${cases.length} texts have the same greedy tokens; ${agree} of ${total} before a difference`);
    await network.dispose();
}
if (!kept) rmSync(base, { recursive: true });
process.exit(right ? 0 : 1);
