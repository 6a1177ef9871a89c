//! What a seed's world is like: how busy, how hostile, how large.

use super::random::Random;

/// Weights of events, and chances in a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Logs at the start.
    pub partitions: usize,
    /// The largest number of shards of an opening.
    pub shards_max: usize,
    /// A shard's slab. Bytes.
    pub slab_bytes: usize,
    /// Chunks of a shard's staging memory.
    pub staging_chunks: usize,
    /// The longest run of small batches. Bytes.
    pub lazy_run_bytes: u64,
    /// Weight: a client sends.
    pub append: u32,
    /// Weight: an operation completes.
    pub complete: u32,
    /// Weight: a shard turns.
    pub turn: u32,
    /// Weight: a consumer fetches.
    pub fetch: u32,
    /// Weight: somebody looks for a time.
    pub seek: u32,
    /// Weight: indexes are written that need not be yet.
    pub write_indexes: u32,
    /// Per mille of restarts: an index file is damaged, cut, lost, or an old one comes back.
    pub hurt_index: u32,
    /// Memory for indexes. Bytes.
    pub index_bytes: usize,
    /// Weight: a consumer waits for a record.
    pub watch: u32,
    /// Weight: a checkpoint is asked for.
    pub checkpoint: u32,
    /// Weight: some milliseconds pass.
    pub wait: u32,
    /// Weight: the clock jumps by hours, forth or back.
    pub jump: u32,
    /// Weight: records are deleted.
    pub delete_records: u32,
    /// Weight: a topic is deleted and created again.
    pub recreate: u32,
    /// Weight: the process is killed.
    pub kill: u32,
    /// Weight: the power fails.
    pub power: u32,
    /// Weight: the broker is stopped and started.
    pub stop: u32,
    /// Weight: a bit flips on disk and the process restarts.
    pub damage: u32,
    /// Weight: the living state is compared with its replay.
    pub fork: u32,
    /// Per mille of batches: large.
    pub large: u32,
    /// Per mille of operations: fail.
    pub errors: u32,
    /// Per mille of appends: the process dies inside.
    pub die_in_append: u32,
    /// Per mille of recoveries: the process dies inside.
    pub die_in_recovery: u32,
    /// Whether clients send batches twice.
    pub duplicates: bool,
    /// Per mille of flushes: fail.
    pub flush_errors: u32,
    /// Per mille of reads: give fewer blocks than there are.
    pub short_reads: u32,
    /// Per mille of segment and journal writes: land at another block of their file.
    pub misdirected: u32,
    /// Weight: the disk is full from here to the next restart.
    pub full: u32,
    /// Per mille of restarts: the metadata store has forgotten a log, to know it again later.
    pub forget: u32,
    /// Whether clients send batches that leave a gap.
    pub gaps: bool,
    /// Whether torn sectors may hold garbage.
    pub garbage: bool,
}

impl Profile {
    /// Draws a world.
    pub fn draw(random: &mut Random) -> Profile {
        let sometimes = |random: &mut Random, chance: u32, weight: u32| {
            if random.per_mille(chance) { weight } else { 0 }
        };
        let mut profile = Profile {
            partitions: random.between(1, 4),
            shards_max: random.between(1, 3),
            slab_bytes: (256 << 10) << random.below(5),
            staging_chunks: random.between(3, 8),
            lazy_run_bytes: (4 << 10) << (2 * random.below(4)),
            append: 300,
            complete: [60, 250, 500][random.below(3)],
            turn: [100, 300][random.below(2)],
            fetch: 80,
            seek: 15,
            write_indexes: sometimes(random, 500, 20),
            hurt_index: sometimes(random, 500, 700),
            index_bytes: [300, 2_000, 1 << 20][random.below(3)],
            watch: sometimes(random, 500, 30),
            checkpoint: sometimes(random, 600, 10),
            wait: 20,
            jump: sometimes(random, 100, 5),
            delete_records: sometimes(random, 400, 10),
            recreate: sometimes(random, 400, 6),
            kill: sometimes(random, 600, 8),
            power: sometimes(random, 600, 8),
            damage: sometimes(random, 200, 3),
            fork: sometimes(random, 500, 15),
            large: [0, 150, 500][random.below(3)],
            errors: sometimes(random, 150, 8),
            die_in_append: sometimes(random, 400, 8),
            die_in_recovery: sometimes(random, 500, 400),
            duplicates: random.per_mille(500),
            gaps: random.per_mille(500),
            garbage: random.per_mille(500),
            flush_errors: sometimes(random, 100, 40),
            short_reads: sometimes(random, 200, 50),
            misdirected: sometimes(random, 100, 5),
            full: sometimes(random, 100, 3),
            forget: sometimes(random, 300, 200),
            stop: sometimes(random, 300, 4),
        };
        if random.per_mille(100) {
            profile.calm_down();
        }
        profile
    }

    /// A world without faults and restarts, where everything must simply go on: a restart heals what is stuck.
    fn calm_down(&mut self) {
        let weights = [
            &mut self.kill,
            &mut self.power,
            &mut self.stop,
            &mut self.damage,
            &mut self.full,
            &mut self.jump,
        ];
        weights.into_iter().for_each(|weight| *weight = 0);
        let chances = [
            &mut self.errors,
            &mut self.flush_errors,
            &mut self.short_reads,
            &mut self.misdirected,
            &mut self.die_in_append,
            &mut self.die_in_recovery,
        ];
        chances.into_iter().for_each(|chance| *chance = 0);
    }

    /// Whether nothing ever fails or dies here.
    pub fn is_calm(&self) -> bool {
        self.kill + self.power + self.damage + self.full + self.errors + self.flush_errors + self.misdirected
            == 0
            && self.die_in_append == 0
    }
}
