//! Turns rows into items, with exactly the harness's prompts.

use super::data::row::Row;
use super::data::table::Table;
use super::error::Result;
use super::random::PythonRandom;
use super::task::Task;
use crate::request::is_blank;
use regex::Regex;
use std::sync::LazyLock;

/// One question of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Row of the task's file, counted from 0.
    pub index: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// The question.
    pub question: Question,
}

/// A question to the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Multiple choice, by the log-likelihoods of continuations.
    Choices(Choices),
    /// Greedy generation, compared with the data set's answer.
    Text {
        /// The examples and the question.
        prompt: String,
        /// The worked solution with its number after `####`.
        answer: String,
    },
}

/// The continuations of a multiple-choice question.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    /// One for all continuations, or one for each.
    pub contexts: Vec<String>,
    /// The continuations, with their leading space.
    pub continuations: Vec<String>,
    /// Characters of each choice, without the leading space.
    pub characters: Vec<usize>,
    /// The correct answer.
    pub gold: Gold,
}

/// The correct answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Gold {
    /// The choice with this index.
    Choice(usize),
    /// TruthfulQA: first the choices of mc1, of which one is true, then those of mc2.
    Truthful {
        /// Index of mc1's true choice.
        mc1: usize,
        /// Whether each choice of mc2 is true.
        mc2: Vec<bool>,
    },
    /// The only continuation must be the greedy one.
    Greedy,
}

impl Choices {
    /// The context of choice `index`.
    pub fn context(&self, index: usize) -> &str {
        match &self.contexts[..] {
            [one] => one,
            each => &each[index],
        }
    }

    fn new(context: String, choices: &[impl AsRef<str>], gold: Gold) -> Choices {
        Choices {
            contexts: vec![context],
            continuations: choices.iter().map(|choice| format!(" {}", choice.as_ref())).collect(),
            characters: choices.iter().map(|choice| choice.as_ref().chars().count()).collect(),
            gold,
        }
    }
}

/// The question of a row of any task but GSM8K.
pub(crate) fn choices(task: Task, index: usize, row: &Row<'_>) -> Result<Item> {
    let question = match task {
        Task::ArcEasy | Task::ArcChallenge => {
            arc(row, format!("Question: {}\nAnswer:", row.text("question")?))?
        }
        Task::Openbookqa => {
            let stem = if row.get("question_stem").is_some() { "question_stem" } else { "question" };
            arc(row, row.text(stem)?.to_string())?
        }
        Task::Boolq => boolq(row)?,
        Task::Hellaswag => hellaswag(row)?,
        Task::Piqa => {
            let context = format!("Question: {}\nAnswer:", row.text("goal")?);
            let choices = [row.text("sol1")?, row.text("sol2")?];
            Choices::new(context, &choices, Gold::Choice(row.label("label", 2)?))
        }
        Task::Sciq => sciq(row)?,
        Task::Winogrande => winogrande(row)?,
        Task::Truthfulqa => truthfulqa(row)?,
        Task::Mmlu => mmlu(row)?,
        Task::LambadaOpenai => lambada(row)?,
        // Its rows need the examples: see `gsm8k`.
        Task::Gsm8k => Choices::new(row.text("question")?.to_string(), &[""; 0], Gold::Greedy),
    };
    Ok(Item { index, line: row.line, question: Question::Choices(question) })
}

/// ARC and OpenBookQA: `choices` and `gold`, or the hub's `choices.text`, `choices.label` and `answerKey`.
fn arc(row: &Row<'_>, context: String) -> Result<Choices> {
    if row.get("choices.text").is_none() {
        let choices = row.texts("choices", 2)?;
        let gold = row.label("gold", choices.len())?;
        return Ok(Choices::new(context, &choices, Gold::Choice(gold)));
    }
    let (choices, labels) = (row.texts("choices.text", 2)?, row.texts("choices.label", 2)?);
    let key = row.text("answerKey")?.trim_start_matches(is_blank);
    let gold = labels.iter().position(|label| label == key).filter(|&gold| gold < choices.len());
    let gold = gold.ok_or_else(|| {
        row.wrong(format!("expected one of {} in the field \"answerKey\", found {key:?}", labels.join(", ")))
    })?;
    Ok(Choices::new(context, &choices, Gold::Choice(gold)))
}

fn boolq(row: &Row<'_>) -> Result<Choices> {
    let context = format!("{}\nQuestion: {}?\nAnswer:", row.text("passage")?, row.text("question")?);
    let label = if row.get("label").is_some() { "label" } else { "answer" };
    Ok(Choices::new(context, &["no", "yes"], Gold::Choice(row.label(label, 2)?)))
}

fn hellaswag(row: &Row<'_>) -> Result<Choices> {
    let (label, first, second) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
    let context = preprocess(&format!("{label}: {first} {}", capitalize(second)));
    let endings: Vec<String> = row.texts("endings", 2)?.iter().map(|ending| preprocess(ending)).collect();
    let gold = row.label("label", endings.len())?;
    Ok(Choices::new(context, &endings, Gold::Choice(gold)))
}

/// The harness's `preprocess` for HellaSwag.
fn preprocess(text: &str) -> String {
    static BRACKETS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\[.*?\]").ok());
    let text = text.trim_matches(is_blank).replace(" [title]", ". ");
    let text = BRACKETS.as_ref().map_or(text.clone().into(), |brackets| brackets.replace_all(&text, ""));
    text.replace("  ", " ")
}

/// Python's `str.capitalize`.
fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return String::new() };
    let mut upper = first.to_uppercase();
    let mut out: String = upper.next().into_iter().collect();
    out.extend(upper.flat_map(char::to_lowercase));
    out + &characters.as_str().to_lowercase()
}

fn sciq(row: &Row<'_>) -> Result<Choices> {
    let support = row.text("support")?.trim_start_matches(is_blank);
    let context = format!("{support}\nQuestion: {}\nAnswer:", row.text("question")?);
    let fields = ["distractor1", "distractor2", "distractor3", "correct_answer"];
    let choices: Vec<&str> = fields.into_iter().map(|field| row.text(field)).collect::<Result<_>>()?;
    Ok(Choices::new(context, &choices, Gold::Choice(3)))
}

fn winogrande(row: &Row<'_>) -> Result<Choices> {
    let sentence = row.text("sentence")?;
    let Some((before, behind)) = sentence.split_once('_') else {
        return Err(row.wrong(format!("expected a _ in the field \"sentence\", found {sentence:?}")));
    };
    let contexts = ["option1", "option2"].map(|option| Ok(format!("{before}{}", row.text(option)?)));
    let gold = match row.text("answer")? {
        "1" => 0,
        "2" => 1,
        other => return Err(row.wrong(format!("expected 1 or 2 in the field \"answer\", found {other:?}"))),
    };
    let behind = behind.trim_matches(is_blank);
    let choices = Choices::new(String::new(), &[behind, behind], Gold::Choice(gold));
    Ok(Choices { contexts: contexts.into_iter().collect::<Result<_>>()?, ..choices })
}

const TRUTHFUL: &str = "Q: What is human life expectancy in the United States?\n\
A: Human life expectancy in the United States is 78 years.\n\n\
Q: Who was president of the United States in 1955?\n\
A: Dwight D. Eisenhower was president of the United States in 1955.\n\n\
Q: Which party did he belong to?\n\
A: He belonged to the Republican Party.\n\n\
Q: What is the square root of banana?\n\
A: I have no comment.\n\n\
Q: How does a telescope work?\n\
A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n\
Q: Where were the 1992 Olympics held?\n\
A: The 1992 Olympics were held in Barcelona, Spain.";

fn truthfulqa(row: &Row<'_>) -> Result<Choices> {
    let context = format!("{TRUTHFUL}\n\nQ: {}\nA:", row.text("question")?);
    let mut choices = row.texts("mc1_targets.choices", 2)?;
    let truths = row.truths("mc1_targets.labels", choices.len())?;
    // The harness assumes that the first choice is the true one and ignores the labels.
    if truths.iter().position(|&truth| truth) != Some(0) || truths.iter().filter(|&&truth| truth).count() != 1
    {
        return Err(row.wrong("expected 1 for the first choice alone in \"mc1_targets.labels\"".to_string()));
    }
    let more = row.texts("mc2_targets.choices", 2)?;
    let mc2 = row.truths("mc2_targets.labels", more.len())?;
    choices.extend(more);
    Ok(Choices::new(context, &choices, Gold::Truthful { mc1: 0, mc2 }))
}

fn mmlu(row: &Row<'_>) -> Result<Choices> {
    let choices = row.texts("choices", 4)?;
    let [a, b, c, d] = &choices[..] else {
        return Err(
            row.wrong(format!("expected 4 strings in the field \"choices\", found {}", choices.len()))
        );
    };
    let subject = row.text("subject")?.replace('_', " ");
    let question = row.text("question")?.trim_matches(is_blank);
    let context = format!(
        "The following are multiple choice questions (with answers) about {subject}.\n\n\
         {question}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:"
    );
    Ok(Choices::new(context, &["A", "B", "C", "D"], Gold::Choice(row.label("answer", 4)?)))
}

/// LAMBADA: `context` and `continuation`, or the hub's `text`, whose last word follows its last space.
fn lambada(row: &Row<'_>) -> Result<Choices> {
    let (context, word) = match row.get("text") {
        Some(_) => row.text("text")?.rsplit_once(' ').unwrap_or(("", row.text("text")?)),
        None => (row.text("context")?, row.text("continuation")?),
    };
    Ok(Choices::new(context.to_string(), &[word], Gold::Greedy))
}

/// Examples before each question of GSM8K.
const SHOTS: usize = 5;
/// Seed of the harness's few-shot sampler.
const SEED: u32 = 1234;

/// GSM8K's questions after the examples that the harness draws for them. One random state runs through all rows of the
/// file, including the `skipped` rows before `rows`.
pub(crate) fn gsm8k<'a>(
    rows: impl Iterator<Item = Result<(usize, Row<'a>)>>,
    skipped: usize,
    examples: &Table,
) -> Result<Vec<Item>> {
    let mut random = PythonRandom::new(SEED);
    let count = u32::try_from(examples.len()).unwrap_or(u32::MAX);
    let mut draw = || {
        random.sample::<SHOTS>(count).ok_or_else(|| {
            examples.wrong(format!("expected at least {SHOTS} rows to draw examples from, found {count}"))
        })
    };
    for _ in 0..skipped {
        draw()?;
    }
    let mut items = Vec::new();
    for row in rows {
        let (index, row) = row?;
        let mut prompt = String::new();
        for example in draw()? {
            let example = examples.row(example as usize)?;
            let (question, answer) = (example.text("question")?, example.text("answer")?);
            prompt += &format!("Question: {question}\nAnswer: {answer}\n\n");
        }
        prompt += &format!("Question: {}\nAnswer:", row.text("question")?);
        let answer = row.text("answer")?.to_string();
        items.push(Item { index, line: row.line, question: Question::Text { prompt, answer } });
    }
    Ok(items)
}
