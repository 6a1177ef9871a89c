//! Producers that keep many requests unanswered, and remember exactly what they were promised.
//!
//! Every record's value names its topic, partition, producer and number, and is filled from these, so that each record
//! can be compared to the last byte without being kept. Numbers count for each producer and log; batches are
//! encoded anew for a resend and come out the same.
//!
//! An idempotent producer keeps its unanswered batches and sends them again, in order and with the same sequences, when
//! it runs next; any other gives them up, since it cannot know what became of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelane_perf::client::connection::{Connection, Error, Ticket};
use corelane_perf::client::messages::create_topics::CreateTopicsRequest;
use corelane_perf::client::messages::init_producer_id::InitProducerIdRequest;
use corelane_perf::client::messages::produce::ProduceRequest;
use corelane_perf::client::messages::{decode_response, encode_request};
use corelane_perf::client::records::BatchHeader;
use corelane_perf::client::records::record::{self, Record};

use crate::broker::Broker;
use crate::powercut::Random;

pub(crate) const TOPICS: usize = 4;
pub(crate) const PARTITIONS: usize = 4;
pub(crate) const LOGS: usize = TOPICS * PARTITIONS;

/// How long a single answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that a producer keeps unanswered.
const WINDOW: usize = 40;

/// Of these, the most for one log of an idempotent producer: a broker remembers five batches (KIP-98).
const WINDOW_PER_LOG: usize = 5;

/// Requests of the volley that ends with the broker's death.
const VOLLEY: usize = 16;

/// Requests before these that give the journal's disk something to do.
const HEAVY: usize = 4;

/// Answers that a burst has before its volley.
const BURST_MAX: u64 = 300;

const PRODUCE_VERSION: i16 = 11;

/// acks=1: the broker's death is survived.
pub(crate) const LEADER: i16 = 1;

/// acks=all: loss of power is survived.
pub(crate) const ALL: i16 = -1;

/// The name of the topic that a log belongs to.
pub(crate) fn topic(log: usize) -> String {
    format!("durable-{}", log / PARTITIONS)
}

/// A log's number in its topic.
pub(crate) fn partition(log: usize) -> i32 {
    i32::try_from(log % PARTITIONS).expect("a few partitions")
}

/// How a record burdens the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Small,
    Heavy,
    Large,
}

/// What a record's value says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) log: usize,
    pub(crate) producer: usize,
    pub(crate) number: u64,
}

impl Name {
    /// One record in a hundred is large enough to go to its segment rather than into the journal, two are just too small
    /// for that.
    fn weight(self) -> Weight {
        match self.seed() % 100 {
            0 => Weight::Large,
            1 | 2 => Weight::Heavy,
            _ => Weight::Small,
        }
    }

    fn seed(self) -> u64 {
        Random::new(self.number << 16 | (self.producer as u64) << 8 | self.log as u64).next()
    }

    /// The value: the name in words, then bytes that follow from it.
    pub(crate) fn value(self) -> Vec<u8> {
        let mut random = Random::new(self.seed());
        let bytes = match self.weight() {
            Weight::Large => (130 << 10) + random.below(170 << 10),
            Weight::Heavy => (100 << 10) + random.below(20 << 10),
            Weight::Small => 100 + random.below(924),
        };
        let mut value = format!("{}/{}/{};", self.log, self.producer, self.number).into_bytes();
        let named = value.len();
        value.resize(usize::try_from(bytes).expect("below 300 KiB"), 0);
        random.fill(&mut value[named..]);
        value
    }

    /// Reads the name in words.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let words = value.split(|byte| *byte == b';').next()?;
        let mut words = std::str::from_utf8(words).ok()?.split('/');
        let log = words.next()?.parse().ok()?;
        let producer = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        Some(Self { log, producer, number })
    }
}

/// A batch of successive records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) first: Name,
    pub(crate) records: u64,
    /// The sequence of the first, of an idempotent producer.
    sequence: Option<i32>,
    pub(crate) acks: i16,
    /// Where the broker said it begins, once acknowledged.
    pub(crate) offset: i64,
    is_resent: bool,
}

impl Batch {
    /// Its records, each with its place behind the batch's offset.
    pub(crate) fn names(&self) -> impl Iterator<Item = (i64, Name)> {
        let first = self.first;
        (0..)
            .zip(first.number..first.number + self.records)
            .map(move |(at, number)| (at, Name { number, ..first }))
    }

    fn request(&self, id: Option<(i64, i16)>) -> ProduceRequest {
        let records: Vec<Record> = self
            .names()
            .map(|(_, name)| Record::of(name.number.try_into().expect("small"), name.value()))
            .collect();
        let header = BatchHeader::of(&records);
        let header = match (id, self.sequence) {
            (Some((id, epoch)), Some(sequence)) => header.from_producer(id, epoch, sequence),
            _ => header,
        };
        let log = self.first.log;
        ProduceRequest::one(self.acks, &topic(log), partition(log), header.encode(&record::encode(&records)))
    }
}

/// One producer, over all logs and any number of connections.
#[derive(Debug)]
pub(crate) struct Producer {
    index: usize,
    acks: i16,
    is_idempotent: bool,
    /// Id and epoch.
    id: Option<(i64, i16)>,
    random: Random,
    next: [u64; LOGS],
    /// The number whose sequence is 0.
    sequence_from: [u64; LOGS],
    /// Sent and not answered, oldest first.
    unanswered: VecDeque<Batch>,
    pub(crate) acked: Vec<Batch>,
    /// Resent batches that the log had already.
    pub(crate) duplicates: u64,
    /// An answer that says no; the connection was given up at the first.
    pub(crate) refusal: Option<String>,
}

impl Producer {
    fn new(index: usize, acks: i16, is_idempotent: bool, seed: u64) -> Self {
        Self {
            index,
            acks,
            is_idempotent,
            id: None,
            random: Random::new(seed + index as u64),
            next: [0; LOGS],
            sequence_from: [0; LOGS],
            unanswered: VecDeque::new(),
            acked: Vec::new(),
            duplicates: 0,
            refusal: None,
        }
    }

    /// Produces until the connection breaks, the broker refuses, or `stop` is set and everything is answered.
    fn run(
        &mut self,
        address: SocketAddr,
        ends: &[i64; LOGS],
        stop: &AtomicBool,
        told: &Sender<i16>,
    ) -> Result<(), Error> {
        let mut connection = Connection::connect(address, PATIENCE)?;
        self.identify(&mut connection)?;
        let mut tickets = VecDeque::new();
        for batch in &mut self.unanswered {
            batch.is_resent = true;
            tickets.push_back(connection.send(&batch.request(self.id), PRODUCE_VERSION)?);
        }
        loop {
            while tickets.len() < WINDOW && !stop.load(Ordering::Relaxed) {
                let batch = self.next_batch();
                self.unanswered.push_back(batch);
                tickets.push_back(connection.send(&batch.request(self.id), PRODUCE_VERSION)?);
            }
            let Some(ticket) = tickets.pop_front() else { return Ok(()) };
            if !self.receive(&mut connection, &ticket, ends)? {
                return Ok(());
            }
            // Nobody may be listening any more.
            let _ = told.send(self.acks);
        }
    }

    fn identify(&mut self, connection: &mut Connection) -> Result<(), Error> {
        if self.is_idempotent && self.id.is_none() {
            let answer = connection.call(&InitProducerIdRequest::default(), 4)?;
            assert_eq!(answer.error_code, 0, "an id is given to every producer");
            self.id = Some((answer.producer_id, answer.producer_epoch));
            self.sequence_from = self.next;
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Batch {
        let log = loop {
            let log = usize::try_from(self.random.below(LOGS as u64)).expect("a log's index");
            let waiting = self.unanswered.iter().filter(|batch| batch.first.log == log).count();
            if !self.is_idempotent || waiting < WINDOW_PER_LOG {
                break log;
            }
        };
        let first = Name { log, producer: self.index, number: self.next[log] };
        let sequence = i32::try_from(first.number - self.sequence_from[log]).expect("a short test");
        let records = 1 + self.random.below(3);
        self.next[log] += records;
        let sequence = self.is_idempotent.then_some(sequence);
        Batch { first, records, sequence, acks: self.acks, offset: -1, is_resent: false }
    }

    /// False when the broker refused.
    fn receive(
        &mut self,
        connection: &mut Connection,
        ticket: &Ticket<ProduceRequest>,
        ends: &[i64; LOGS],
    ) -> Result<bool, Error> {
        let answer = connection.receive(ticket)?;
        let answer = answer.only().expect("one partition was asked for");
        let batch = self.unanswered.front().expect("a ticket's batch is unanswered");
        if answer.error_code != 0 {
            self.refusal = Some(format!("error {} for {batch:?}", answer.error_code));
            return Ok(false);
        }
        assert_eq!(answer.partition, partition(batch.first.log), "the answer names its partition");
        let batch = Batch { offset: answer.base_offset, ..*batch };
        self.unanswered.pop_front();
        self.duplicates += u64::from(batch.is_resent && batch.offset < ends[batch.first.log]);
        self.acked.push(batch);
        Ok(true)
    }

    /// Sends small batches, a few at a time, until `count` were answered. Then sends some that keep the journal's disk
    /// busy and a volley of small ones behind them, which find their way into a group that cannot be written yet; calls
    /// `kill` while these are answered, and takes the answers that were on their way.
    fn burst(&mut self, address: SocketAddr, count: usize, kill: impl FnOnce()) -> Result<(), Error> {
        let mut connection = Connection::connect(address, PATIENCE)?;
        let mut batches: Vec<_> = (0..VOLLEY + count).map(|_| self.next_of(Weight::Small)).collect();
        batches.extend((0..HEAVY).map(|_| self.next_of(Weight::Heavy)));
        batches.extend((0..VOLLEY).map(|_| self.next_of(Weight::Small)));
        let encode = |(correlation, batch): (i32, &Batch)| {
            encode_request(&batch.request(None), PRODUCE_VERSION, correlation, None)
        };
        let frames: Vec<_> = (0..).zip(&batches).map(encode).collect();
        for (at, (batch, frame)) in batches.into_iter().zip(frames).enumerate() {
            if (VOLLEY..VOLLEY + count).contains(&at) {
                self.receive_raw(&mut connection)?;
            }
            self.unanswered.push_back(batch);
            connection.send_bytes(&frame)?;
        }
        kill();
        loop {
            self.receive_raw(&mut connection)?;
        }
    }

    /// The next batch of such records alone. What is passed over is never sent: a plain producer's numbers may have gaps.
    fn next_of(&mut self, weight: Weight) -> Batch {
        loop {
            let batch = self.next_batch();
            if batch.names().all(|(_, name)| name.weight() == weight) {
                return batch;
            }
        }
    }

    fn receive_raw(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let frame = connection.receive_frame()?;
        let answer = decode_response::<ProduceRequest>(PRODUCE_VERSION, &frame[4..])?;
        let answer = answer.only().expect("one partition was asked for");
        let batch = self.unanswered.pop_front().expect("an answer has its request");
        assert_eq!((answer.error_code, answer.partition), (0, partition(batch.first.log)), "{batch:?}");
        self.acked.push(Batch { offset: answer.base_offset, ..batch });
        Ok(())
    }

    /// Gives up what is unanswered, and the sequences with it.
    fn forget(&mut self) {
        self.unanswered.clear();
        self.id = None;
    }
}

/// All producers, at rest.
#[derive(Debug)]
pub(crate) struct Load {
    /// The last one produces only when the broker is killed in its burst.
    pub(crate) producers: Vec<Producer>,
}

/// All producers, at work.
pub(crate) struct Running {
    handles: Vec<JoinHandle<Producer>>,
    bursting: Producer,
    stop: Arc<AtomicBool>,
    told: Receiver<i16>,
}

impl Load {
    /// Idempotent and plain producers with both kinds of acks.
    pub(crate) fn new(seed: u64) -> Self {
        let kinds = [(LEADER, true), (ALL, true), (LEADER, false), (ALL, false), (LEADER, false)];
        let producers = (0..)
            .zip(kinds)
            .map(|(index, (acks, is_idempotent))| Producer::new(index, acks, is_idempotent, seed));
        Self { producers: producers.collect() }
    }

    /// Starts every producer; `ends` are the ends of the logs that they find.
    pub(crate) fn start(mut self, address: SocketAddr, ends: [i64; LOGS]) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, told) = channel();
        let bursting = self.producers.pop().expect("there are several");
        let run = |mut producer: Producer| {
            let (stop, sender) = (Arc::clone(&stop), sender.clone());
            thread::spawn(move || {
                // How the connection broke does not matter: the broker is killed under it.
                let _ = producer.run(address, &ends, &stop, &sender);
                producer
            })
        };
        Running { handles: self.producers.into_iter().map(run).collect(), bursting, stop, told }
    }

    /// Requests without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.producers.iter().map(|producer| producer.unanswered.len()).sum()
    }

    /// Takes note of a killed broker: who cannot ask what became of a batch gives it up.
    pub(crate) fn after_kill(&mut self) {
        self.producers.iter_mut().filter(|p| !p.is_idempotent).for_each(Producer::forget);
    }

    /// Takes note of a loss of power, which may have taken what acks=1 acknowledged, and with it the sequences.
    pub(crate) fn after_cut(&mut self) {
        self.producers.iter_mut().filter(|p| !p.is_idempotent || p.acks != ALL).for_each(Producer::forget);
    }

    /// Answers that said no.
    pub(crate) fn take_refusals(&mut self) -> Vec<String> {
        self.producers.iter_mut().filter_map(|producer| producer.refusal.take()).collect()
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.producers.iter().map(|producer| producer.duplicates).sum()
    }
}

impl Running {
    /// Waits until so many batches more were acknowledged, the last of them with acks=1.
    pub(crate) fn await_acks(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            let acks = self.told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            seen += 1;
            match acks {
                Ok(LEADER) if seen >= count => return,
                Ok(_) => {}
                Err(error) => panic!("{seen} batches were acknowledged, {count} are awaited: {error}"),
            }
        }
    }

    /// Kills the broker right after acks=1 answers to one producer's burst, and waits for all producers.
    pub(crate) fn kill_in_a_burst(mut self, broker: Broker, random: &mut Random) -> Load {
        let answers = 1 + random.below(BURST_MAX);
        let mut broker = Some(broker);
        let address = broker.as_ref().expect("just given").address();
        let answers = usize::try_from(answers).expect("a few");
        let end = self.bursting.burst(address, answers, || broker.take().into_iter().for_each(Broker::kill));
        assert!(broker.is_none(), "the burst was not answered: {end:?}");
        self.join()
    }

    /// Waits for the producers, whose connections were broken.
    pub(crate) fn join(self) -> Load {
        let join = |handle: JoinHandle<Producer>| handle.join().expect("a producer does not panic");
        let at_work = self.handles.into_iter().map(join);
        Load { producers: at_work.chain([self.bursting]).collect() }
    }

    /// Lets everything be answered.
    pub(crate) fn finish(self) -> Load {
        self.stop.store(true, Ordering::Relaxed);
        let mut load = self.join();
        assert_eq!(load.unanswered(), 0, "a producer lost its connection: {:?}", load.take_refusals());
        load
    }
}

/// Creates the topics.
pub(crate) fn create_topics(address: SocketAddr) {
    let mut connection = Connection::connect(address, PATIENCE).expect("the broker serves");
    for at in 0..TOPICS {
        let partitions = i32::try_from(PARTITIONS).expect("a few partitions");
        let request = CreateTopicsRequest::one(&topic(at * PARTITIONS), partitions);
        let answer = connection.call(&request, 7).expect("the broker serves");
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    }
}
