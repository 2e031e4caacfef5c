//! Reduces a template to literals, from what it renders.

use super::test_conversations::{TestConversation, test_conversations};
use thimble_chat::template::JinjaTemplate;
use thimble_runtime::chat::{Literals, Message, MessageFormat, Role, SystemRule};

/// [`Literals`] that own their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnedLiterals {
    begin: String,
    default_system: String,
    generate: String,
    end: String,
    /// Prefix and suffix of system, user and assistant.
    around: [[String; 2]; 3],
    trim: [bool; 3],
    system_rule: SystemRule,
    regular_only: bool,
}

impl OwnedLiterals {
    pub(super) fn borrow(&self) -> Literals<'_> {
        let around = |index: usize| {
            let [prefix, suffix] = &self.around[index];
            MessageFormat { prefix, suffix, trim: self.trim[index] }
        };
        Literals {
            begin: &self.begin,
            default_system: &self.default_system,
            generate: &self.generate,
            end: &self.end,
            system: around(0),
            user: around(1),
            assistant: around(2),
            system_rule: self.system_rule,
            regular_only: self.regular_only,
        }
    }

    /// Whether these literals reproduce the template's rendering.
    fn reproduce(&self, sample: &TestConversation) -> bool {
        let mut text = String::new();
        let rendered = self.borrow().render(&sample.messages(), sample.generate, &mut |piece| {
            text.push_str(piece.text());
        });
        match (rendered, &sample.expected) {
            (Ok(()), Some(expected)) => text == *expected,
            (Err(_), None) => true,
            // Literals may refuse irregular conversations.
            (Err(_), Some(_)) => self.regular_only && !sample.regular,
            (Ok(()), None) => false,
        }
    }
}

/// Literals that reproduce the template on every test conversation, or `None`.
pub(super) fn reduce(compiled: &JinjaTemplate, template: &str, specials: [&str; 2]) -> Option<OwnedLiterals> {
    let samples = test_conversations(compiled, template, specials);
    // A template with the date must be rendered at run time.
    if compiled.depends_on_time() {
        return None;
    }
    let system: Vec<bool> =
        samples.iter().filter(|s| s.regular && s.has_system()).map(|s| s.expected.is_some()).collect();
    let refuses_system = system.iter().all(|&rendered| !rendered);
    if !refuses_system && system.contains(&false) {
        return None;
    }
    let probes = Probes::render(compiled, refuses_system)?;
    let mut candidates = probes.candidates(specials[0]);
    // Cuts inside a token last: the text is the same, but not the tokens.
    candidates.sort_by_key(|candidate| !candidate.clean);
    let mut checker = Checker { samples: &samples, last_failure: 0 };
    candidates.into_iter().find_map(|candidate| checker.complete(candidate.literals))
}

/// Checks literals against the test conversations.
struct Checker<'s> {
    samples: &'s [TestConversation],
    /// The conversation that the last candidate failed; the next one likely fails it too.
    last_failure: usize,
}

impl Checker<'_> {
    /// The literals with the first combination of flags that reproduces every conversation.
    fn complete(&mut self, literals: OwnedLiterals) -> Option<OwnedLiterals> {
        let folded = literals.system_rule == SystemRule::Folded;
        for regular_only in [false, true].into_iter().filter(|&only| only || !folded) {
            for bits in 0..8 {
                let trim = [1, 2, 4].map(|bit| bits & bit != 0);
                let found = OwnedLiterals { regular_only, trim, ..literals.clone() };
                if self.passes(&found) {
                    return Some(found);
                }
            }
        }
        None
    }

    fn passes(&mut self, literals: &OwnedLiterals) -> bool {
        if !literals.reproduce(&self.samples[self.last_failure]) {
            return false;
        }
        match self.samples.iter().position(|sample| !literals.reproduce(sample)) {
            None => true,
            Some(refuted) => {
                self.last_failure = refuted;
                false
            }
        }
    }
}

/// The texts before, between and after the messages of a few conversations.
struct Probes {
    /// Before the first user message.
    front: String,
    /// After a final user message, without and with the generation prompt.
    user_last: [String; 2],
    /// After a final assistant message, likewise.
    assistant_last: [String; 2],
    /// Between user and assistant, assistant and user.
    turns: [String; 2],
    /// Before a system message, and between it and the user's.
    system: Option<[String; 2]>,
}

struct Candidate {
    literals: OwnedLiterals,
    /// Whether no cut seems to be inside a token.
    clean: bool,
}

impl Probes {
    fn render(compiled: &JinjaTemplate, refuses_system: bool) -> Option<Probes> {
        use Role::{Assistant, System, User};
        let pieces = |roles: &[Role], generate| around_messages(compiled, roles, generate);
        let [front, user_plain] = pieces(&[User], false)?.try_into().ok()?;
        let [_, user_generate] = pieces(&[User], true)?.try_into().ok()?;
        let [_, _, assistant_plain] = pieces(&[User, Assistant], false)?.try_into().ok()?;
        let [_, _, assistant_generate] = pieces(&[User, Assistant], true)?.try_into().ok()?;
        let [_, to_assistant, to_user, _] = pieces(&[User, Assistant, User], false)?.try_into().ok()?;
        let system = match refuses_system {
            true => None,
            false => {
                let [before, between, _] = pieces(&[System, User], false)?.try_into().ok()?;
                Some([before, between])
            }
        };
        Some(Probes {
            front,
            user_last: [user_plain, user_generate],
            assistant_last: [assistant_plain, assistant_generate],
            turns: [to_assistant, to_user],
            system,
        })
    }

    /// Every way to split the probes into literals. One unknown, the user's suffix, determines nearly all others; longer
    /// suffixes come first.
    fn candidates(&self, bos: &str) -> Vec<Candidate> {
        let [plain, generate] = &self.user_last;
        let [to_assistant, to_user] = &self.turns;
        let most = common_prefix(&[plain, generate, to_assistant]);
        let mut found = Vec::new();
        for user_suffix in prefixes(most).rev() {
            let rest = user_suffix.len();
            let [end, generate, assistant_prefix] =
                [&plain[rest..], &generate[rest..], &to_assistant[rest..]];
            let Some(assistant_suffix) = self.assistant_last[0].strip_suffix(end) else { continue };
            if self.assistant_last[1].strip_suffix(generate) != Some(assistant_suffix) {
                continue;
            }
            let Some(user_prefix) = to_user.strip_prefix(assistant_suffix) else { continue };
            let Some(front) = self.front.strip_suffix(user_prefix) else { continue };
            let cuts = [
                (user_suffix, end),
                (user_suffix, generate),
                (user_suffix, assistant_prefix),
                (assistant_suffix, user_prefix),
                (front, user_prefix),
            ];
            let clean = cuts.iter().all(|(left, right)| is_clean_cut(left, right));
            let owned = |[prefix, suffix]: [&str; 2]| [prefix.to_owned(), suffix.to_owned()];
            for system in self.system_candidates(front, user_prefix, bos) {
                let around =
                    [system.around, [user_prefix, user_suffix], [assistant_prefix, assistant_suffix]];
                let literals = OwnedLiterals {
                    begin: system.begin.to_owned(),
                    default_system: system.default.to_owned(),
                    generate: generate.to_owned(),
                    end: end.to_owned(),
                    around: around.map(owned),
                    system_rule: system.rule,
                    ..OwnedLiterals::default()
                };
                found.push(Candidate { literals, clean: clean && system.clean });
            }
        }
        found
    }

    /// The candidates for the system message, given the text before the first user prefix.
    fn system_candidates<'p>(&'p self, front: &'p str, user_prefix: &str, bos: &str) -> Vec<System<'p>> {
        let Some([before, between]) = &self.system else {
            let rule = SystemRule::Refused;
            return vec![System { begin: front, default: "", around: ["", ""], rule, clean: true }];
        };
        let mut found = Vec::new();
        if let Some(suffix) = between.strip_suffix(user_prefix) {
            // The part of the front that stays with a system message: first the begin token, all or nothing, then
            // anything else.
            let mut begins: Vec<&str> = prefixes(common_prefix(&[front, before])).collect();
            begins.sort_by_key(|&begin| begin != bos && begin != front && !begin.is_empty());
            for begin in begins {
                let [default, prefix] = [&front[begin.len()..], &before[begin.len()..]];
                let clean = is_clean_cut(begin, default) && is_clean_cut(begin, prefix);
                let around = [prefix, suffix];
                found.push(System { begin, default, around, rule: SystemRule::Message, clean });
            }
        }
        let folded = before.strip_prefix(front).and_then(|rest| rest.strip_prefix(user_prefix));
        if let Some(prefix) = folded {
            let around = [prefix, between.as_str()];
            found.push(System { begin: front, default: "", around, rule: SystemRule::Folded, clean: true });
        }
        found
    }
}

/// A candidate for the handling of system messages.
struct System<'p> {
    begin: &'p str,
    default: &'p str,
    around: [&'p str; 2],
    rule: SystemRule,
    clean: bool,
}

/// The texts around the messages; `None` if the template refuses or does not render each message once and in order.
fn around_messages(compiled: &JinjaTemplate, roles: &[Role], generate: bool) -> Option<Vec<String>> {
    let texts: Vec<String> = (0..roles.len()).map(|index| format!("qzxj{index}jxzq")).collect();
    let messages: Vec<Message<'_>> =
        roles.iter().zip(&texts).map(|(&role, text)| Message { role, text }).collect();
    let rendered = compiled.render(&messages, generate).ok()?;
    let mut rest = rendered.as_str();
    let mut pieces = Vec::new();
    for text in &texts {
        let (before, after) = rest.split_once(text.as_str())?;
        pieces.push(before.to_owned());
        rest = after;
    }
    pieces.push(rest.to_owned());
    pieces.iter().all(|piece| !piece.contains("qzxj")).then_some(pieces)
}

/// The longest common prefix, in whole characters.
fn common_prefix<'t>(texts: &[&'t str]) -> &'t str {
    let Some((first, others)) = texts.split_first() else { return "" };
    let shared = |prefix: &&str| others.iter().all(|text| text.starts_with(*prefix));
    prefixes(first).take_while(shared).last().unwrap_or("")
}

/// Every prefix of `text`, shortest first.
fn prefixes(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    (0..=text.len()).filter_map(|at| text.get(..at))
}

/// Whether a cut between `left` and `right` is not inside `<...>` or a word.
fn is_clean_cut(left: &str, right: &str) -> bool {
    if left.is_empty() || right.is_empty() {
        return true;
    }
    let open =
        |text: &str, open: char, close: char| text.rfind(open).is_some_and(|at| !text[at..].contains(close));
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let in_word = word(left.chars().next_back()) && word(right.chars().next());
    !(open(left, '<', '>') || open(left, '[', ']') || in_word)
}
