//! Options that differ between the layers of a model.

use core::fmt;

/// What one layer does differently from a plain Llama's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerOptions {
    /// Whether RoPE is applied to queries and keys.
    pub rope: bool,
    /// Positions that a token attends to, itself included; `None`: all of them.
    pub window: Option<usize>,
}

impl LayerOptions {
    /// A plain Llama's layer.
    pub const PLAIN: LayerOptions = LayerOptions { rope: true, window: None };

    /// The factor of attention's scores: 1 / sqrt(head_dim) (Vaswani et al. 2017, eq. 1).
    pub fn score_scale(&self, head_dim: usize) -> f32 {
        1.0 / libm::sqrtf(head_dim as f32)
    }

    /// First position that a token at `position` attends to.
    #[inline]
    pub fn first_attended(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

impl fmt::Display for LayerOptions {
    /// Lists the differences from a plain Llama's layer; empty if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rope {
            f.write_str("no RoPE")?;
        }
        match self.window {
            Some(window) if self.rope => write!(f, "a window of {window}"),
            Some(window) => write!(f, ", a window of {window}"),
            None => Ok(()),
        }
    }
}

/// The layers with each option: a pattern that repeats after `period` layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerPattern {
    period: u32,
    /// Bit `layer % period`: the layer has no RoPE.
    no_rope: u64,
    /// Bit `layer % period`: the layer has a sliding window.
    sliding: u64,
}

impl LayerPattern {
    /// RoPE in every layer, and no sliding windows.
    pub const PLAIN: LayerPattern = LayerPattern { period: 1, no_rope: 0, sliding: 0 };
    /// Longest period.
    pub const MAX_PERIOD: usize = 64;

    /// The pattern of `layers` layers: `option(layer)` tells whether a layer has RoPE, and whether it has a sliding window.
    /// `None` if no period of at most [`LayerPattern::MAX_PERIOD`] layers describes it.
    pub fn new(layers: usize, option: impl Fn(usize) -> (bool, bool)) -> Option<LayerPattern> {
        let repeats = |period: &usize| (*period..layers).all(|layer| option(layer) == option(layer % period));
        let period = (1..=Self::MAX_PERIOD).find(repeats)?;
        let bits = |has: &dyn Fn(usize) -> bool| {
            (0..period.min(layers)).fold(0, |bits, layer| bits | u64::from(has(layer)) << layer)
        };
        let (no_rope, sliding) = (bits(&|layer| !option(layer).0), bits(&|layer| option(layer).1));
        Some(LayerPattern { period: period as u32, no_rope, sliding })
    }

    fn bit(&self, mask: u64, layer: usize) -> bool {
        mask >> (layer % self.period as usize) & 1 == 1
    }

    /// Whether the layer has RoPE.
    pub fn has_rope(&self, layer: usize) -> bool {
        !self.bit(self.no_rope, layer)
    }

    /// Whether the layer has a sliding window.
    pub fn is_sliding(&self, layer: usize) -> bool {
        self.bit(self.sliding, layer)
    }

    /// Whether any layer has a sliding window.
    pub fn any_sliding(&self) -> bool {
        self.sliding != 0
    }

    /// Number of layers before `layer` that have a sliding window.
    pub fn sliding_before(&self, layer: usize) -> usize {
        let period = self.period as usize;
        let rest = self.sliding & ((1 << (layer % period)) - 1);
        layer / period * self.sliding.count_ones() as usize + rest.count_ones() as usize
    }

    /// Whether any layer has no RoPE.
    pub fn any_without_rope(&self) -> bool {
        self.no_rope != 0
    }

    /// The words of the configuration section: period (0: plain), layers without RoPE, layers with a sliding window.
    pub(super) fn words(&self) -> [u32; 5] {
        if *self == Self::PLAIN {
            return [0; 5];
        }
        let halves = |mask: u64| [mask as u32, (mask >> 32) as u32];
        let ([a, b], [c, d]) = (halves(self.no_rope), halves(self.sliding));
        [self.period, a, b, c, d]
    }

    /// The pattern in these words; `None` unless [`LayerPattern::words`] of a pattern for `layers` layers makes them.
    pub(super) fn parse([period, a, b, c, d]: [u32; 5], layers: usize) -> Option<LayerPattern> {
        let mask = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let found = LayerPattern { period: period.clamp(1, 64), no_rope: mask(a, b), sliding: mask(c, d) };
        let canonical = LayerPattern::new(layers, |layer| (found.has_rope(layer), found.is_sliding(layer)))?;
        (canonical.words() == [period, a, b, c, d]).then_some(canonical)
    }
}

#[cfg(test)]
mod tests {
    use super::LayerPattern;

    #[test]
    fn patterns_are_stored_and_found_again() {
        type Option<'a> = &'a dyn Fn(usize) -> (bool, bool);
        let patterns: [(usize, Option<'_>, u32); 6] = [
            (32, &|_| (true, false), 0),
            (36, &|layer| ((layer + 1) % 4 != 0, false), 4),
            (48, &|_| (true, true), 1),
            (28, &|layer| (true, layer >= 21), 28),
            (64, &|layer| (layer != 63, layer % 2 == 0), 64),
            (1000, &|layer| (true, layer % 6 != 5), 6),
        ];
        for (layers, option, period) in patterns {
            let pattern = LayerPattern::new(layers, option).unwrap();
            assert_eq!(pattern.words()[0], period);
            assert_eq!(LayerPattern::parse(pattern.words(), layers), Some(pattern));
            for layer in 0..layers {
                assert_eq!((pattern.has_rope(layer), pattern.is_sliding(layer)), option(layer), "{layer}");
                let before = (0..layer).filter(|layer| option(*layer).1).count();
                assert_eq!(pattern.sliding_before(layer), before, "{layer}");
            }
        }
        assert_eq!(LayerPattern::new(80, |layer| (layer < 70, false)), None);
    }

    #[test]
    fn other_words_are_rejected() {
        for words in [
            [1, 0, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [65, 1, 0, 0, 0],
            [2, 3, 0, 0, 0],
            [3, 1, 0, 8, 0],
            [u32::MAX, 1, 0, 0, 0],
        ] {
            assert_eq!(LayerPattern::parse(words, 12), None, "{words:?}");
        }
    }
}
