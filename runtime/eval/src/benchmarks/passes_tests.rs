//! Passes cover every asked log-probability once, whatever the requests.

use super::{Pass, Work, passes};
use crate::request::Request;
use std::collections::BTreeSet;
use thimble_runtime::Token;

fn request(tokens: &[u32], from: usize) -> Request {
    Request { tokens: tokens.iter().copied().map(Token).collect(), from }
}

/// What the passes read on a session that holds `held`: for each request the depths with a log-probability.
fn read(requests: &[Request], held: &[Token]) -> Vec<Vec<usize>> {
    let mut session = held.to_vec();
    let mut read = vec![Vec::new(); requests.len()];
    for Pass { request, run, ask, sharers } in passes(requests, held) {
        let tokens = &requests[request].tokens;
        assert!(run.start < run.end && run.end < tokens.len(), "tokens to run, the last one is not");
        assert_eq!(session[..run.start], tokens[..run.start], "what is kept is the request's");
        session.truncate(run.start);
        session.extend(&tokens[run.clone()]);
        assert!(ask >= run.start && sharers[0].0 == request);
        let mut rows_asked = BTreeSet::new();
        for &(sharer, shared) in &sharers {
            let Request { tokens: other, from } = &requests[sharer];
            assert_eq!(other[..shared.min(run.end)], tokens[..shared.min(run.end)]);
            for next in (ask + 1).max(*from)..=run.end.min(shared).min(other.len() - 1) {
                read[sharer].push(next);
                rows_asked.insert(next);
            }
        }
        assert_eq!(rows_asked.first(), Some(&(ask + 1)), "the first row is asked");
    }
    read
}

fn check(requests: &[Request], held: &[u32]) {
    let held: Vec<Token> = held.iter().copied().map(Token).collect();
    for (read, request) in read(requests, &held).into_iter().zip(requests) {
        let expected: Vec<usize> = (request.from..request.tokens.len()).collect();
        let mut sorted = read.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{requests:?} on {held:?}");
    }
}

#[test]
fn one_token_choices_cost_one_pass_and_one_row() {
    let requests = [4, 9, 2, 7].map(|choice| request(&[1, 2, 3, choice], 3));
    let found = passes(&requests, &[]);
    assert_eq!(found.len(), 1);
    let work = Work::sum(&found);
    assert_eq!((work.passes, work.tokens, work.head_rows, work.attended), (1, 3, 1, 6));
    check(&requests, &[]);
    check(&requests, &[1, 2, 3, 4]);
}

#[test]
fn what_other_items_left_is_kept_up_to_the_first_asked_row() {
    let requests = [request(&[1, 2, 3, 4, 5], 3), request(&[1, 2, 3, 6], 3)];
    let found = passes(&requests, &[1, 2, 3, 4, 5].map(Token));
    assert_eq!(found[0].run, 2..4, "the row behind token 2 has to be computed again");
    assert_eq!(found.len(), 1, "the second choice's only token is read there too");
    check(&requests, &[1, 2, 3, 4, 5]);
}

#[test]
fn equal_requests_and_prefixes_of_each_other() {
    check(&[request(&[1, 2, 3], 1), request(&[1, 2, 3], 1)], &[]);
    check(&[request(&[1, 2, 3], 2), request(&[1, 2, 3], 1), request(&[1, 2], 1)], &[1, 2, 3]);
    check(&[request(&[1, 2, 3, 4], 3), request(&[1, 2, 5, 4], 2), request(&[7, 2], 1)], &[1, 2, 3]);
    assert!(passes(&[request(&[1, 2], 2)], &[]).is_empty(), "nothing is asked");
}

/// Xorshift; small numbers so that prefixes are common.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn tokens(&mut self, most: u64) -> Vec<u32> {
        (0..1 + self.below(most)).map(|_| self.below(2) as u32).collect()
    }
}

#[test]
fn random_requests_are_covered() {
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..20_000 {
        let context = random.tokens(4);
        let one_context = random.below(2) == 0;
        let requests: Vec<Request> = (0..1 + random.below(5))
            .map(|_| {
                let context = if one_context { context.clone() } else { random.tokens(4) };
                let choice = random.tokens(4);
                request(&[&context[..], &choice].concat(), context.len())
            })
            .collect();
        let held = random.tokens(8);
        check(&requests, &held);
    }
}
