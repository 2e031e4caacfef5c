//! A launcher that notes what it is asked for, so that each kernel can be run again by itself.

use crate::error::Result;
use crate::ops::cuda::launcher::{Launch, Launcher, NumberFormat, Product, Region};
use std::cell::RefCell;
use std::rc::Rc;

/// A call that takes time on the device.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Launch(Launch),
    Product(Product),
    Zero(Region),
}

impl Call {
    /// Names it as the prediction does, by the model's vocabulary and the bytes of its gradients.
    pub(super) fn name(&self, vocabulary: usize, gradients: usize) -> &'static str {
        match self {
            Call::Zero(region) if region.bytes == gradients => "zero gradients",
            Call::Zero(_) => "zero",
            // One name for all numbers of query heads that share a key head.
            Call::Launch(launch) => launch.kernel.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit()),
            Call::Product(Product { shape: [rows, columns, inner], format, right, .. }) => match format {
                NumberFormat::F32 if *rows == vocabulary => "gradient of the head",
                NumberFormat::F32 => "products, gradients of weights",
                NumberFormat::Bf16 if *columns == vocabulary => "logits",
                NumberFormat::Bf16 if *inner == vocabulary => "gradient of the last norm",
                NumberFormat::Bf16 if right.transposed => "products, forward",
                NumberFormat::Bf16 => "products, gradients of inputs",
            },
        }
    }
}

/// Passes every call on, and notes those since [`Recorder::start`].
pub(super) struct Recorder<L>(Rc<Recording<L>>);

struct Recording<L> {
    launcher: L,
    calls: RefCell<Option<Vec<Call>>>,
}

impl<L> Clone for Recorder<L> {
    fn clone(&self) -> Recorder<L> {
        Recorder(self.0.clone())
    }
}

impl<L: Launcher> Recorder<L> {
    pub(super) fn new(launcher: L) -> Recorder<L> {
        Recorder(Rc::new(Recording { launcher, calls: RefCell::new(None) }))
    }

    /// Notes calls from now on.
    pub(super) fn start(&self) {
        self.0.calls.replace(Some(Vec::new()));
    }

    /// Those noted, in order; no more are.
    pub(super) fn stop(&self) -> Vec<Call> {
        self.0.calls.take().unwrap_or_default()
    }

    /// Makes a call again.
    ///
    /// # Errors
    /// As the call.
    pub(super) fn repeat(&self, call: &Call) -> Result<()> {
        match call {
            Call::Launch(launch) => self.0.launcher.launch(launch),
            Call::Product(product) => self.0.launcher.multiply(product),
            Call::Zero(region) => self.0.launcher.zero(*region),
        }
    }

    fn note(&self, call: impl FnOnce() -> Call) {
        if let Some(calls) = self.0.calls.borrow_mut().as_mut() {
            calls.push(call());
        }
    }
}

impl<L: Launcher> Launcher for Recorder<L> {
    type Memory = L::Memory;

    fn device(&self) -> String {
        self.0.launcher.device()
    }

    fn allocate(&self, bytes: usize) -> Result<L::Memory> {
        self.0.launcher.allocate(bytes)
    }

    fn upload(&self, to: Region, bytes: &[u8]) -> Result<()> {
        self.0.launcher.upload(to, bytes)
    }

    fn download(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        self.0.launcher.download(from, bytes)
    }

    fn zero(&self, region: Region) -> Result<()> {
        self.note(|| Call::Zero(region));
        self.0.launcher.zero(region)
    }

    fn copy(&self, from: Region, to: Region) -> Result<()> {
        self.0.launcher.copy(from, to)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.note(|| Call::Launch(launch.clone()));
        self.0.launcher.launch(launch)
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        self.note(|| Call::Product(*product));
        self.0.launcher.multiply(product)
    }
}
