//! How long a producer waits: a closed loop of one-record requests on a number of connections, over a number of
//! partitions, at an ack level.
//!
//! Each connection is a thread with one request in flight, so the load is what the broker's latency allows. Latency runs
//! from before the send of a request that was encoded beforehand until its answer has come, before that is looked at: the
//! client's own wake-up is inside, its codec is not, just as in the floors that [`crate::floor`] measures.

use std::fmt;
use std::net::ToSocketAddrs;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::client::connection::{self, Connection};
use crate::client::messages::create_topics::CreateTopicsRequest;
use crate::client::messages::produce::ProduceRequest;
use crate::client::messages::{decode_response, encode_request};
use crate::client::records::{Record, record::encode_batch};

/// Versions that every broker of the last years speaks.
const PRODUCE_VERSION: i16 = 9;
const CREATE_TOPICS_VERSION: i16 = 5;

/// Kafka's code for a topic that is there already.
const TOPIC_EXISTS: i16 = 36;

/// The correlation id of every produce request: one is in flight at a time.
const CORRELATION: i32 = 7;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Clone, Debug, Args, PartialEq)]
pub struct AckArguments {
    /// The broker
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub broker: String,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Partitions of the topic that the requests go around
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// 0, 1 or all
    #[arg(long, default_value = "all", value_parser = acks)]
    pub acks: i16,
    /// Bytes of each record's value
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// Seconds to measure, after one second of warm-up
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// The CPU to run on
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Ask for the answer again and again instead of sleeping until it comes
    #[arg(long)]
    pub spin: bool,
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        _ => Err("1 or all: an unacknowledged request has no latency".to_owned()),
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct AckReport {
    arguments: AckArguments,
    latency: Histogram<u64>,
    elapsed: Duration,
    client_cpu: Duration,
}

/// The measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] connection::Error),
    /// The broker refused something.
    #[error("the broker answered {what} with Kafka's error {code}")]
    Refused {
        /// Which request.
        what: &'static str,
        /// Kafka's code.
        code: i16,
    },
    /// The answer has another shape than the request.
    #[error("the broker's answer to {0} says nothing of what was asked")]
    Unexpected(&'static str),
    /// The CPU cannot be had.
    #[error("cannot run on CPU {0}: {1}")]
    Cpu(usize, rustix::io::Errno),
    /// A time that makes no sense.
    #[error("{0} seconds cannot be measured")]
    Seconds(f64),
    /// A connection's thread ended with a panic.
    #[error("a client thread panicked")]
    Panicked,
}

/// Creates the topic if it is missing, warms up for a second and measures.
pub fn run(arguments: AckArguments) -> Result<AckReport, Error> {
    let time =
        Duration::try_from_secs_f64(arguments.seconds).map_err(|_| Error::Seconds(arguments.seconds))?;
    if let Some(cpu) = arguments.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| Error::Cpu(cpu, error))?;
    }
    let topic = format!("perf-ack-{}", arguments.partitions);
    create(&arguments, &topic)?;
    let start = Barrier::new(arguments.connections + 1);
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..arguments.connections)
            .map(|at| {
                let (arguments, topic, start) = (&arguments, &topic, &start);
                scope.spawn(move || produce(arguments, topic, at, time, start))
            })
            .collect();
        start.wait();
        let (began, cpu_before) = (Instant::now(), cpu_time());
        let mut latency = histogram();
        for one in loops {
            let counted = one.join().map_err(|_| Error::Panicked)??;
            latency.add(counted).expect("all histograms have one range");
        }
        let (elapsed, client_cpu) = (began.elapsed(), cpu_time().saturating_sub(cpu_before));
        Ok(AckReport { arguments: arguments.clone(), latency, elapsed, client_cpu })
    })
}

fn create(arguments: &AckArguments, topic: &str) -> Result<(), Error> {
    let mut connection = Connection::connect(address(&arguments.broker), PATIENCE)?;
    let request = CreateTopicsRequest::one(topic, arguments.partitions);
    let response = connection.call(&request, CREATE_TOPICS_VERSION)?;
    match response.topics.first().map(|topic| topic.error_code) {
        Some(0 | TOPIC_EXISTS) => Ok(()),
        Some(code) => Err(Error::Refused { what: "CreateTopics", code }),
        None => Err(Error::Unexpected("CreateTopics")),
    }
}

fn address(text: &str) -> impl ToSocketAddrs + '_ {
    text
}

/// One connection's loop: a second that does not count, then the time that does.
fn produce(
    arguments: &AckArguments,
    topic: &str,
    at: usize,
    time: Duration,
    start: &Barrier,
) -> Result<Histogram<u64>, Error> {
    let connected = Connection::connect(address(&arguments.broker), PATIENCE);
    let requests = requests(arguments, topic);
    let mut next = (at + 1) % requests.len();
    let mut send = |connection: &mut Connection| {
        let request = &requests[next];
        next = (next + 1) % requests.len();
        once(connection, request)
    };
    let warmed = connected.map_err(Error::from).and_then(|mut connection| {
        connection.set_spinning(arguments.spin);
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            send(&mut connection)?;
        }
        Ok(connection)
    });
    // The others wait for this one, failed or not.
    start.wait();
    let mut connection = warmed?;
    let mut latency = histogram();
    let until = Instant::now() + time;
    while Instant::now() < until {
        let took = send(&mut connection)?;
        latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(latency)
}

/// One request for each partition, as bytes: the same one is sent again and again.
fn requests(arguments: &AckArguments, topic: &str) -> Vec<Vec<u8>> {
    let records = encode_batch(&[Record::of(0, vec![b'x'; arguments.bytes])]);
    let encoded = |partition| {
        let request = ProduceRequest::one(arguments.acks, topic, partition, records.clone());
        encode_request(&request, PRODUCE_VERSION, CORRELATION, None)
    };
    (0..arguments.partitions).map(encoded).collect()
}

/// One request and its answer: how long it took.
fn once(connection: &mut Connection, request: &[u8]) -> Result<Duration, Error> {
    let before = Instant::now();
    connection.send_bytes(request)?;
    let frame = connection.receive_frame()?;
    let took = before.elapsed();
    let Some((correlation, body)) = frame.split_first_chunk::<4>() else {
        return Err(Error::Unexpected("Produce"));
    };
    if i32::from_be_bytes(*correlation) != CORRELATION {
        return Err(Error::Unexpected("Produce"));
    }
    let response =
        decode_response::<ProduceRequest>(PRODUCE_VERSION, body).map_err(connection::Error::from)?;
    match response.only().map(|partition| partition.error_code) {
        Some(0) => Ok(took),
        Some(code) => Err(Error::Refused { what: "Produce", code }),
        None => Err(Error::Unexpected("Produce")),
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a minute in nanoseconds with three digits")
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl fmt::Display for AckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AckArguments { connections, partitions, acks, bytes, spin, .. } = &self.arguments;
        let spinning = if *spin { ", client spinning" } else { "" };
        let acks = if *acks == -1 { "all".to_owned() } else { acks.to_string() };
        let seconds = self.elapsed.as_secs_f64();
        let micro = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        write!(
            f,
            "acks={acks} {bytes} B, {connections} connections, {partitions} partitions{spinning}: {:.0} acks/s, \
             p50 {:.1} p99 {:.1} p99.9 {:.1} max {:.1} us, client CPU {:.0} %",
            self.latency.len() as f64 / seconds,
            micro(0.5),
            micro(0.99),
            micro(0.999),
            self.latency.max() as f64 / 1000.0,
            self.client_cpu.as_secs_f64() / seconds * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_levels_are_words() {
        assert_eq!((acks("all"), acks("1")), (Ok(-1), Ok(1)));
        assert!(acks("0").is_err() && acks("2").is_err());
    }

    #[test]
    fn a_broker_that_is_not_there_is_told() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let arguments = AckArguments {
            broker: nobody.to_string(),
            connections: 2,
            partitions: 1,
            acks: -1,
            bytes: 10,
            seconds: 0.1,
            cpu: None,
            spin: false,
        };
        assert!(matches!(run(arguments), Err(Error::Connection(_))));
    }
}
