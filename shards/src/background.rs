//! Blocking file jobs beside a shard's thread: creating, opening, trimming and removing segment files, growing journals,
//! replacing manifests.
//!
//! They run on the executor's pool thread, one after the other for each shard, so a job sees what the ones before it did.
//! A job owns what it touches and gives back a value; it knows no state of the shard.

use crate::runtime::Shard;

/// Runs `job` on the shard's pool thread, then `done` with its value on the shard itself.
pub fn run<T: Send + 'static>(
    shard: &Shard,
    job: impl FnOnce() -> T + Send + 'static,
    done: impl FnOnce(T) + 'static,
) {
    shard.spawn_background(async move {
        let value = glommio::executor().spawn_blocking(job).await;
        done(value);
    });
}
