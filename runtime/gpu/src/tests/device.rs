//! Options, the pipeline cache, and the loss of a device.

use super::Random;
use super::device;
use super::model::{config, mixed, model, options};
use crate::{Device, Gpu, GpuError, GpuOptions};
use thimble_needs::{Need, skip};
use thimble_runtime::Token;
use thimble_runtime::format::Encoding;
use thimble_runtime::kernels::KvKind;
use thimble_runtime::model::{Backend, Batch, Weights};

#[test]
fn wrong_options_are_refused() {
    let Some(device) = device() else { return };
    let file = model(&config(96, (6, 2, 16), 160, true), mixed, &mut Random(13));
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let good = options(KvKind::F16, 32, 1);
    for bad in [
        GpuOptions { context: 0, ..good },
        GpuOptions { context: 257, ..good },
        GpuOptions { batch: 161, ..good },
        GpuOptions { logit_rows: 33, ..good },
    ] {
        assert!(matches!(Gpu::new(&device, &weights, &bad), Err(GpuError::Option { .. })), "{bad:?}");
    }
    let narrow = GpuOptions { binding_bytes: Some(100), ..good };
    assert!(matches!(Gpu::new(&device, &weights, &narrow), Err(GpuError::TooLarge { .. })));
    assert!(matches!(Device::open(Some("no such adapter")), Err(GpuError::NoAdapter { .. })));
}

/// A second start finds the pipelines of the first, and a damaged file does no harm.
#[test]
fn pipelines_are_kept() {
    let Some(device) = device() else { return };
    let file = model(&config(96, (6, 2, 16), 160, true), |_, _| Encoding::Q4, &mut Random(17));
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("pipelines");
    let files = || -> Vec<_> {
        let list = std::fs::read_dir(&inside).map(|list| list.map(|file| file.unwrap().path()).collect());
        list.unwrap_or_default()
    };
    let run = || {
        let name = device.report().name.clone();
        // SAFETY: a folder of this test's own.
        let device = unsafe { Device::open(Some(&name)).unwrap().with_pipeline_cache(&inside) };
        let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
        gpu.logits_after(&Batch { tokens: &[Token(1)], position: 0 }).unwrap().to_vec()
    };
    let expected = run();
    let [path] = &files()[..] else {
        return skip(Need::AdapterFeature, "this adapter leaves pipelines to its driver");
    };
    let bytes = std::fs::read(path).unwrap();
    println!("{} bytes of pipelines", bytes.len());
    assert!(run() == expected);
    for damage in [0, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[damage] ^= 0x55;
        std::fs::write(path, &damaged).unwrap();
        assert!(run() == expected);
        assert!(std::fs::read(path).unwrap() != damaged, "written anew");
    }
    assert_eq!(files().len(), 1, "no temporary file stays");
}

#[test]
fn a_lost_device_is_told() {
    let Some(device) = device() else { return };
    let file = model(&config(96, (6, 2, 16), 160, true), mixed, &mut Random(15));
    let file = file.model();
    let weights = Weights::new(&file).unwrap();
    let mut gpu = Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)).unwrap();
    assert!(gpu.logits_after(&Batch { tokens: &[Token(1)], position: 0 }).is_ok());
    device.device.destroy();
    let after = gpu.logits_after(&Batch { tokens: &[Token(2)], position: 1 });
    assert!(matches!(after, Err(GpuError::Device { .. })));
    assert!(gpu.logits().iter().all(|logit| *logit == 0.0));
    assert!(matches!(
        Gpu::new(&device, &weights, &options(KvKind::F16, 32, 1)),
        Err(GpuError::Device { .. })
    ));
}
