//! What a request costs that arrives on the wrong core: a call on another shard's log and back, without and with an append,
//! between two pinned shards over a real data directory. On one CPU the shards share it, and the figures mean nothing.

mod pair;
#[allow(dead_code, reason = "each bench needs a part of it")]
#[path = "../support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use corelane_shards::core::Acks;
use corelane_shards::driver::Spin;
use corelane_shards::memory::Slice;
use corelane_shards::router::Logs;
use corelane_shards::types::ShardIndex;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use pair::Pair;
use support::batches::batch;
use support::heart::log;

const ELSEWHERE: ShardIndex = ShardIndex(1);

/// Longer than any measurement may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Far longer than a call takes: who spins so long does not park while it is measured.
const SPIN: Duration = Duration::from_millis(1);

/// What the first shard is to do, one after the other.
#[derive(Clone, Copy)]
enum Errand {
    /// Ask the other shard for something that costs it nothing.
    Call,
    /// Append 1 KiB to the other shard's log, to be answered before it is flushed.
    Append,
}

fn hops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hop to another shard and back");
    group.throughput(Throughput::Elements(1));
    for (spin, name) in [(Spin::For(SPIN), "spinning"), (Spin::Park, "parked")] {
        let (errands, waiting) = mpsc::channel();
        let (times, taken) = mpsc::channel();
        let waiting = Mutex::new(Some(waiting));
        let pair = Pair::start(spin, move |logs| {
            if logs.home().shard().index() == ShardIndex(0) {
                let waiting = waiting.lock().expect("whole").take().expect("there is one first shard");
                logs.home().shard().spawn_local(run(logs.clone(), waiting, times.clone()));
            }
        });
        for (errand, what) in [(Errand::Call, "call"), (Errand::Append, "append")] {
            group.bench_function(BenchmarkId::new(what, name), |bencher| {
                bencher.iter_custom(|count| {
                    errands.send((errand, count)).expect("the shard lives");
                    taken.recv_timeout(PATIENCE).expect("every call is answered")
                });
            });
        }
        drop(errands);
        pair.stop();
    }
}

/// Runs errands as they come, so many times each, and says how long each took. Between them it asks and asks, since a shard
/// cannot wait for a thread.
async fn run(logs: Logs, errands: Receiver<(Errand, u64)>, times: Sender<Duration>) {
    let batch = Slice::from_vec(batch(1, 1 << 10));
    loop {
        match errands.try_recv() {
            Ok((errand, count)) => {
                let begin = Instant::now();
                for _ in 0..count {
                    run_once(&logs, errand, &batch).await;
                }
                times.send(begin.elapsed()).expect("the bench waits");
            }
            Err(TryRecvError::Empty) => run_once(&logs, Errand::Call, &batch).await,
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

async fn run_once(logs: &Logs, errand: Errand, batch: &Slice) {
    match errand {
        Errand::Call => {
            let answer = logs.ask(log(1), |log| log.shard().index()).await;
            assert_eq!(answer, Ok(ELSEWHERE));
        }
        Errand::Append => {
            let answer = logs.append(log(1), batch, Acks::Leader).await;
            answer.expect("nothing fails");
        }
    }
}

criterion_group!(benches, hops);
criterion_main!(benches);
