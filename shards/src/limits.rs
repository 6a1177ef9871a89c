//! The bound of every queue, buffer, loop and in-flight count in the engine, each with its reason.

/// The unit of direct I/O and of trust: a disk keeps or loses 4 KiB blocks, and only whole ones are vouched for. Bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Size classes of a slab: one block up to 128 MiB, which holds the largest request frame Kafka allows by default.
pub const SLAB_CLASSES: usize = 16;

/// Free buffers kept for reuse in each class of a slab.
pub const SLAB_FREE_PER_CLASS: usize = 64;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());
