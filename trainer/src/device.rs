//! Devices: the CPU, and CUDA where it was built in and is there.
