//! The tables that [`thimble_runtime::tokenizer::Tokenizer::parse`] reads.

use super::{AddedToken, Vocabulary};
use std::collections::{HashMap, HashSet};
use thimble_runtime::tokenizer::layout::{self, Sizes, field};

/// The longest token that is looked up as a whole word; longer words are merged.
const LONGEST_WORD: usize = 256;

impl Vocabulary {
    /// The tokenizer section of a model file.
    pub fn emit(&self) -> Vec<u8> {
        let merges = self.merge_map();
        let mut ranked: Vec<_> = merges.iter().map(|(&pair, &(rank, merged))| (rank, pair, merged)).collect();
        ranked.sort_unstable();
        let words = self.words(&merges);
        let base = merged_base(&ranked);
        let pair_table = pair_table(&ranked);
        let word_table = self.word_table(&words);
        let (second, first): (Vec<&AddedToken>, Vec<&AddedToken>) =
            self.added.iter().partition(|a| a.normalized);
        let passes = [Pass::new(first), Pass::new(second)];
        let text_len: usize = self.tokens.iter().map(Vec::len).sum();
        let sizes = Sizes {
            tokens: self.tokens.len() as u32,
            merged: if base.is_none() { ranked.len() as u32 } else { 0 },
            pair_slots: pair_table.len() as u32,
            word_slots: word_table.len() as u32,
            added: self.added.len() as u64,
            text: text_len as u32,
        };

        let mut header = [0; layout::HEADER_LEN];
        let mut set = |range: std::ops::Range<usize>, value: u32| {
            header[range].copy_from_slice(&value.to_le_bytes());
        };
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = layout::pattern_flags(self.pattern)
            | flag(self.whole_words, layout::FLAG_WHOLE_WORDS)
            | flag(self.nfc, layout::FLAG_NFC)
            | flag(self.adds_bos, layout::FLAG_ADDS_BOS);
        set(field::FLAGS, flags);
        set(field::TOKENS, sizes.tokens);
        set(field::MERGES, ranked.len() as u32);
        set(field::MERGED_BASE, base.unwrap_or(layout::NONE));
        set(field::PAIR_SLOTS, sizes.pair_slots);
        set(field::WORD_SLOTS, sizes.word_slots);
        set(field::ADDED_FIRST, passes[0].records.len() as u32);
        set(field::ADDED_SECOND, passes[1].records.len() as u32);
        set(field::TEXT_LEN, sizes.text);
        let longest = words.iter().map(|&id| self.tokens[id as usize].len()).max();
        set(field::LONGEST_WORD, longest.unwrap_or(0) as u32);
        header[field::STARTS_FIRST].copy_from_slice(&passes[0].starts);
        header[field::STARTS_SECOND].copy_from_slice(&passes[1].starts);

        let mut section = header.to_vec();
        let mut put = |value: u32| section.extend_from_slice(&value.to_le_bytes());
        self.bytes.iter().for_each(|id| put(id.unwrap_or(layout::NONE)));
        let mut offset = 0;
        put(offset);
        for token in &self.tokens {
            offset += token.len() as u32;
            put(offset);
        }
        pair_table.iter().for_each(|slot| section.extend_from_slice(&slot.to_le_bytes()));
        word_table.iter().for_each(|slot| section.extend_from_slice(&slot.to_le_bytes()));
        if base.is_none() {
            ranked.iter().for_each(|(_, _, merged)| section.extend_from_slice(&merged.to_le_bytes()));
        }
        for (id, prefix) in passes.iter().flat_map(|pass| &pass.records) {
            section.extend_from_slice(&id.to_le_bytes());
            section.extend_from_slice(&prefix.to_le_bytes());
        }
        let mut special = vec![0_u8; self.tokens.len().div_ceil(8)];
        for added in self.added.iter().filter(|added| added.special) {
            special[added.id as usize / 8] |= 1 << (added.id % 8);
        }
        section.extend_from_slice(&special);
        self.tokens.iter().for_each(|token| section.extend_from_slice(token));
        debug_assert_eq!(section.len() as u64, sizes.section());
        section
    }

    /// The tokens that can be looked up as whole words: those that merging their bytes reproduces, or all that are no added
    /// tokens.
    fn words(&self, merges: &HashMap<(u32, u32), (u32, u32)>) -> Vec<u32> {
        if self.whole_words {
            let added: HashSet<u32> = self.added.iter().map(|added| added.id).collect();
            let ids = (0..self.tokens.len() as u32).filter(|id| !added.contains(id));
            return ids.filter(|&id| self.tokens[id as usize].len() > 1).collect();
        }
        let tokens = self.tokens.iter().zip(0..);
        let tokens = tokens.filter(|(token, _)| (2..=LONGEST_WORD).contains(&token.len()));
        tokens.filter(|&(token, id)| self.merge(token, merges) == [id]).map(|(_, id)| id).collect()
    }

    /// Merges `word` naively.
    fn merge(&self, word: &[u8], merges: &HashMap<(u32, u32), (u32, u32)>) -> Vec<u32> {
        let mut ids: Vec<u32> = word.iter().filter_map(|&byte| self.bytes[usize::from(byte)]).collect();
        loop {
            let pairs = ids.windows(2).enumerate();
            let known = pairs.filter_map(|(at, pair)| Some((*merges.get(&(pair[0], pair[1]))?, at)));
            let Some(((_, merged), at)) = known.min_by_key(|&((rank, _), at)| (rank, at)) else { return ids };
            ids.splice(at..at + 2, [merged]);
        }
    }

    fn word_table(&self, words: &[u32]) -> Vec<u32> {
        let hashed = |&id: &u32| (layout::word_hash(&self.tokens[id as usize]), id);
        let hashed: Vec<(u64, u32)> = words.iter().map(hashed).collect();
        let home = |slots: u32| hashed.iter().map(move |&(hash, _)| layout::word_home(hash, slots)).collect();
        table(hashed.len(), home, |index| layout::word_slot(hashed[index].0, hashed[index].1), layout::NONE)
    }
}

/// The id of the first merge, if the others are consecutive.
fn merged_base(ranked: &[(u32, (u32, u32), u32)]) -> Option<u32> {
    let base = ranked.first().map_or(0, |&(_, _, merged)| merged);
    let follows = ranked.iter().zip(base..).all(|(&(_, _, merged), expected)| merged == expected);
    follows.then_some(base)
}

fn pair_table(ranked: &[(u32, (u32, u32), u32)]) -> Vec<u64> {
    let key = |&(_, (left, right), _): &(u32, (u32, u32), u32)| layout::pair_key(left, right);
    let keys: Vec<u64> = ranked.iter().map(key).collect();
    let home = |slots: u32| keys.iter().map(move |&key| layout::pair_home(key, slots)).collect();
    // Consecutive ranks, even with duplicate pairs.
    table(keys.len(), home, |index| layout::pair_slot(keys[index], index as u32), layout::NO_PAIR)
}

/// An open-addressing hash table with a load of about 3/4 and at most [`layout::MAX_PROBES`] probes (Robin Hood hashing:
/// an entry far from its home displaces one closer to its own).
fn table<T: Copy>(
    count: usize,
    homes: impl Fn(u32) -> Vec<usize>,
    content: impl Fn(usize) -> T,
    empty: T,
) -> Vec<T> {
    let mut slots = count + count / 3 + 1;
    loop {
        let homes = homes(slots as u32);
        if let Some(places) = place(&homes, slots) {
            return places.into_iter().map(|entry| entry.map_or(empty, &content)).collect();
        }
        slots += slots / 8 + 1;
    }
}

/// The entry of each slot; `None` if an entry ends too far from its home.
fn place(homes: &[usize], slots: usize) -> Option<Vec<Option<usize>>> {
    let mut places: Vec<Option<usize>> = vec![None; slots];
    let distance = |entry: usize, slot: usize| (slot + slots - homes[entry]) % slots;
    for (entry, &home) in homes.iter().enumerate() {
        let (mut entry, mut slot) = (entry, home);
        loop {
            if distance(entry, slot) >= layout::MAX_PROBES {
                return None;
            }
            match places[slot] {
                None => break places[slot] = Some(entry),
                Some(other) if distance(other, slot) < distance(entry, slot) => {
                    places[slot] = Some(entry);
                    entry = other;
                }
                Some(_) => {}
            }
            slot = layout::probe(slot, 1, slots);
        }
    }
    Some(places)
}

/// The records of the added tokens of one pass.
struct Pass {
    /// Id, and index of the longest prefix plus one.
    records: Vec<(u32, u32)>,
    /// A bit for each first byte of a text.
    starts: [u8; 32],
}

impl Pass {
    fn new(mut added: Vec<&AddedToken>) -> Self {
        added.sort_unstable_by(|a, b| a.text.as_bytes().cmp(b.text.as_bytes()));
        let mut starts = [0; 32];
        let mut records: Vec<(u32, u32)> = Vec::with_capacity(added.len());
        for (index, token) in added.iter().enumerate() {
            if let Some(first) = token.text.as_bytes().first() {
                starts[usize::from(first / 8)] |= 1 << (first % 8);
            }
            // The longest prefix is the previous text, or one of its prefixes.
            let mut prefix = index;
            while let Some(before) = prefix.checked_sub(1)
                && !token.text.starts_with(&added[before].text)
            {
                prefix = records[before].1 as usize;
            }
            records.push((token.id, prefix as u32));
        }
        Pass { records, starts }
    }
}
