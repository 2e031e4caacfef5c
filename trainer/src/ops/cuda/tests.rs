//! Which kernels the engine calls, without a device.

use super::kernels::kernels;
use super::launcher::{Address, Argument, DeviceMemory, Launch, Launcher, Product, Region, check_copy};
use super::{CudaOps, Ops};
use crate::data::TrainingBatch;
use crate::error::Result;
use crate::model::{Engine, EngineOptions, Parameters};
use crate::ops::{AdamW, Buffer, WeightCopy};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use thimble_runtime::format::Config;

/// Takes every call, computes nothing, and finds zeros wherever it reads.
#[derive(Clone, Default)]
struct Recorder {
    end: Rc<RefCell<u64>>,
    launches: Rc<RefCell<Vec<Launch>>>,
    products: Rc<RefCell<Vec<Product>>>,
}

struct Recorded(Region);

impl DeviceMemory for Recorded {
    fn address(&self) -> Address {
        self.0.address
    }

    fn bytes(&self) -> usize {
        self.0.bytes
    }
}

impl Launcher for Recorder {
    type Memory = Recorded;

    fn device(&self) -> String {
        "recorder".into()
    }

    fn allocate(&self, bytes: usize) -> Result<Recorded> {
        let mut end = self.end.borrow_mut();
        let address = Address((*end + 256).next_multiple_of(256));
        *end = address.0 + bytes as u64;
        Ok(Recorded(Region { address, bytes }))
    }

    fn upload(&self, to: Region, bytes: &[u8]) -> Result<()> {
        check_copy(bytes.len(), to)
    }

    fn download(&self, from: Region, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        check_copy(bytes.len(), from)
    }

    fn zero(&self, _region: Region) -> Result<()> {
        Ok(())
    }

    fn copy(&self, from: Region, to: Region) -> Result<()> {
        check_copy(from.bytes, to)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.launches.borrow_mut().push(launch.clone());
        Ok(())
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        product.checked_shape()?;
        self.products.borrow_mut().push(*product);
        Ok(())
    }
}

fn config(heads: usize, kv_heads: usize) -> Config {
    Config { hidden: 128, layers: 2, heads, kv_heads, head_dim: 64, ffn: 200, vocab: 299, ..Config::PLAIN }
}

fn step(recorder: &Recorder, config: &Config) {
    let parameters = Parameters::new(config);
    let ops = CudaOps::new(recorder.clone(), parameters.len, 1e-5).unwrap();
    let options = EngineOptions { document_mask: true, distillation: true, ..EngineOptions::default() };
    let mut engine = Engine::new(config, options, ops);
    let weights = vec![0.0; parameters.len];
    engine.write(Buffer::Weights, &weights).unwrap();
    engine.write_copy(WeightCopy::Teacher, &weights).unwrap();
    engine.write_copy(WeightCopy::Rounded, &weights).unwrap();
    let batch = TrainingBatch::new(2, 40, vec![7; 82], vec![0; 80]);
    engine.accumulate(&batch).unwrap();
    engine.distill(&batch).unwrap();
    engine.gradient_norm().unwrap();
    let step = AdamW {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
        gradient_scale: 1.0,
        decayed: 0,
    };
    engine.update(step).unwrap();
}

/// Arguments are checked against `kernels.def` as they are launched. Here: nothing in the table goes unused, every region
/// lies in some memory, and vectors are aligned.
#[test]
fn the_engine_calls_every_kernel() {
    let recorder = Recorder::default();
    for (heads, kv_heads) in [(1, 1), (2, 1), (3, 1), (4, 1)] {
        step(&recorder, &config(heads, kv_heads));
    }
    let launches = recorder.launches.borrow();
    let called: BTreeSet<&str> = launches.iter().map(|launch| launch.kernel).collect();
    assert_eq!(called, kernels().unwrap().keys().copied().collect::<BTreeSet<&str>>());
    let end = *recorder.end.borrow();
    for launch in launches.iter() {
        assert!(launch.grid.iter().all(|&blocks| blocks > 0), "{launch:?}");
        for argument in &launch.arguments {
            if let Argument::Bf16s(region) | Argument::F32s(region) = argument {
                assert!(region.address.0 + region.bytes as u64 <= end, "{launch:?}");
                assert_eq!(region.address.0 % 4, 0, "{launch:?}");
            }
        }
    }
}

/// A layer takes four products forward, and two backward for each of them.
#[test]
fn products_are_counted() {
    let recorder = Recorder::default();
    let config = config(2, 1);
    let ops = CudaOps::new(recorder.clone(), Parameters::new(&config).len, 1e-5).unwrap();
    assert_eq!((ops.activation_bytes(), ops.statistic_elements()), (2, 2));
    let mut engine = Engine::new(&config, EngineOptions::default(), ops);
    engine.accumulate(&TrainingBatch::new(1, 40, vec![7; 41], vec![0; 40])).unwrap();
    let products = recorder.products.borrow();
    // The head: logits, and two gradients.
    assert_eq!(products.len(), 12 * config.layers + 3);
    let tokens = 40;
    let multiplications: usize = products.iter().map(|product| product.shape.iter().product::<usize>()).sum();
    let matrices = config.parameters() as usize - (2 * config.layers + 1) * config.hidden;
    assert_eq!(multiplications, 3 * tokens * matrices);
}
