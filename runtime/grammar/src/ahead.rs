//! Masks that are computed while the caller does something else.

use crate::failure::failure;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use thimble_chat::ConstraintError;

type Mask = Result<SimpleVob, ConstraintError>;

/// A matcher that is here, or away with a thread that computes its mask.
pub(crate) struct Ahead {
    /// `None` while it is away.
    matcher: Option<Box<Matcher>>,
    /// The mask of the matcher's state, if it is known.
    mask: Option<Mask>,
    thread: Option<MaskThread>,
}

/// Ends with its sender. Not joined: it may be within a mask, which is bounded by the grammar's limits.
struct MaskThread {
    matchers: Sender<Box<Matcher>>,
    masks: Receiver<(Box<Matcher>, Mask)>,
}

impl Ahead {
    pub(crate) fn new(matcher: Matcher) -> Ahead {
        Ahead { matcher: Some(Box::new(matcher)), mask: None, thread: None }
    }

    /// The matcher, to change its state: waits for its mask and drops it.
    pub(crate) fn here(&mut self) -> Result<&mut Matcher, ConstraintError> {
        self.fetch();
        self.mask = None;
        self.matcher.as_deref_mut().ok_or_else(ended)
    }

    /// Whether the mask is known or asked for.
    pub(crate) fn has_mask(&self) -> bool {
        self.mask.is_some() || self.matcher.is_none()
    }

    /// Begins to compute the mask, unless there is no thread to be had: then [`Ahead::mask`] does it.
    pub(crate) fn ask(&mut self) {
        if self.has_mask() {
            return;
        }
        if self.thread.is_none() {
            self.thread = MaskThread::start();
        }
        let (Some(thread), Some(matcher)) = (&self.thread, self.matcher.take()) else { return };
        self.matcher = thread.matchers.send(matcher).err().map(|refused| refused.0);
    }

    /// The mask of the current state.
    pub(crate) fn mask(&mut self) -> Mask {
        self.fetch();
        match self.mask.take() {
            Some(mask) => mask,
            None => compute(self.matcher.as_deref_mut().ok_or_else(ended)?),
        }
    }

    /// Waits until the matcher is here.
    fn fetch(&mut self) {
        if let (None, Some(thread)) = (&self.matcher, &self.thread)
            && let Ok((matcher, mask)) = thread.masks.recv()
        {
            (self.matcher, self.mask) = (Some(matcher), Some(mask));
        }
    }
}

impl MaskThread {
    fn start() -> Option<MaskThread> {
        let (matchers, asked) = channel::<Box<Matcher>>();
        let (done, masks) = channel();
        let work = move || {
            for mut matcher in asked {
                let mask = compute(&mut matcher);
                if done.send((matcher, mask)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("mask".to_string()).spawn(work).ok()?;
        Some(MaskThread { matchers, masks })
    }
}

fn compute(matcher: &mut Matcher) -> Mask {
    matcher.compute_mask_or_eos().map_err(|_| failure(matcher))
}

fn ended() -> ConstraintError {
    ConstraintError::TooComplex { reason: "the thread that computed the next tokens ended".to_string() }
}
