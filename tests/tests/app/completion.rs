//! Completions, and chats beside the host's own sessions.

use super::*;

pub(crate) fn complete(
    model: &Arc<Model>,
    prompt: &str,
    options: CompletionOptions,
) -> (Arc<Completion>, Receiver<Heard>) {
    let (listener, heard) = collector(Box::new(|_| Ok(())));
    (Arc::clone(model).complete(prompt.to_owned(), options, listener).unwrap(), heard)
}

/// What the host's own session says, greedily.
pub(crate) fn greedily(bench: &Bench, format: PromptFormat, user: &str, most: usize) -> String {
    by_host(bench, RuntimeSampling::default(), format, user, most)
}

/// The same with these settings.
pub(crate) fn by_host(
    bench: &Bench,
    sampling: RuntimeSampling,
    format: PromptFormat,
    user: &str,
    most: usize,
) -> String {
    let mapped = MappedModel::read(&bench.path("m.thimble")).unwrap();
    let file = mapped.file().unwrap();
    let plan = InferencePlan::new(file.config(), &InferenceSettings::default()).unwrap();
    let mut memory = plan.allocate().unwrap();
    let pool = SpinPool::new(plan.threads()).unwrap();
    let generator = generator(&file, &plan, &mut memory, &pool).unwrap();
    let sampler = Sampler::new(sampling).unwrap();
    let model = LoadedModel {
        file,
        generator,
        sampler,
        format,
        kv_file: None,
        log_probabilities: None,
        adapters: Vec::new(),
    };
    let conversation = Conversation::default();
    let mut session = ChatSession {
        model,
        conversation,
        thinking: None,
        max_tokens: Some(most),
        stops: Vec::new(),
        tools: None,
        constraint: None,
    };
    let go = AtomicBool::new(false);
    session.answer::<ChatError>(user, &go, &mut |_| Ok(())).unwrap();
    session.conversation.turns.remove(0).answer
}

#[test]
fn the_text_is_that_of_the_host() {
    let bench = Bench::new();
    let model = bench.model();
    let greedy = Sampling { temperature: Some(0.0), repetition_penalty: Some(1.0), ..Sampling::default() };
    let (sampling, max_tokens) = (Some(greedy), Some(30));
    let options = ChatOptions { sampling: sampling.clone(), max_tokens, ..ChatOptions::default() };
    let chat = Chat::new(Arc::clone(&model), options).unwrap();
    let answer = ask(&chat, "hello").unwrap().1.text;
    assert_eq!(answer, greedily(&bench, PromptFormat::Chat, "hello", 30));
    assert!(answer.len() > 10);
    let options = CompletionOptions { sampling, max_tokens, ..CompletionOptions::default() };
    let (_completion, heard) = complete(&model, "hello", options);
    let continued = rest(&heard).unwrap().1.text;
    assert_eq!(continued, greedily(&bench, PromptFormat::Text, "hello", 30));
    assert_ne!(continued, answer);
}

#[test]
fn a_completion_is_stopped_by_a_text_by_a_call_and_with_its_object() {
    let bench = Bench::new();
    let model = bench.model();
    let sampling = options(0).sampling;
    let options = |max_tokens, stop: &[&str]| CompletionOptions {
        max_tokens: Some(max_tokens),
        sampling: sampling.clone(),
        stop: stop.iter().map(|&text| text.to_owned()).collect(),
        ..CompletionOptions::default()
    };
    let (_whole, heard) = complete(&model, "hello", options(40, &[]));
    let whole = rest(&heard).unwrap().1;
    assert_eq!(whole.finish, Finish::Length);
    // Characters of the second half that stand for themselves: what is no UTF-8 is shown as another one.
    let characters: Vec<char> = whole.text.chars().collect();
    let mut places = characters[characters.len() / 2..].windows(3);
    let middle: String = places.find(|place| !place.contains(&'\u{fffd}')).unwrap().iter().collect();
    let (_stopped, heard) = complete(&model, "hello", options(40, &["not there at all", &middle]));
    let (pieces, stopped) = rest(&heard).unwrap();
    assert_eq!((&*stopped.text, stopped.finish), (whole.text.split(&middle).next().unwrap(), Finish::Stop));
    assert_eq!(pieces.concat(), stopped.text);
    let (listener, heard, held) = holder();
    let cancelled = Arc::clone(&model).complete(String::new(), options(100_000, &[]), listener).unwrap();
    assert!(matches!(heard.recv_timeout(Duration::from_secs(60)).unwrap(), Heard::Piece(_)));
    cancelled.cancel();
    drop(held);
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Cancelled);
    let (dropped, heard) = complete(&model, "hello", options(100_000, &[]));
    dropped.pause();
    drop(dropped);
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Cancelled);
    let short = ModelOptions { context: Some(24), ..ModelOptions::default() };
    let short = Model::open(bench.text("m.thimble"), short).unwrap();
    let (_full, heard) = complete(&short, "hello", options(100_000, &[]));
    assert_eq!(rest(&heard).unwrap().1.finish, Finish::Context);
    let (listener, _) = collector(Box::new(|_| Ok(())));
    assert!(Arc::clone(&model).complete("x".to_owned(), options(1, &[""]), listener).is_err());
}

#[test]
fn a_completion_begins_with_the_token_that_the_tokenizer_adds() {
    let bench = Bench::new();
    let counts = || {
        let model = bench.model();
        let (_completion, heard) = complete(&model, "hello", CompletionOptions::default());
        let completed = rest(&heard).unwrap().1.prompt_tokens;
        let chat = Chat::new(Arc::clone(&model), options(1)).unwrap();
        let asked = ask(&chat, "hello").unwrap().1.prompt_tokens;
        (completed, asked, model.tokens("hello".to_owned()).unwrap().len())
    };
    let (completed, asked, tokens) = counts();
    assert_eq!(completed as usize, tokens);
    let mut folder = Folder::new(ODD, BlockType::F32);
    folder.tokenizer["post_processor"] = tiny::llama3_post_processor("<|im_start|>", 1);
    folder.write(&bench.path("hf"), 1);
    convert(&bench.path("hf"), &bench.path("m.thimble"), &ConversionOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(counts(), (completed + 1, asked, tokens), "a chat template writes the token itself");
}
