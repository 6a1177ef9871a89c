//! The typed settings of a broker, after every check.
//!
//! Built once at start and never changed. What depends on the machine beyond the CPUs that the process may use (a
//! port that is taken, a disk that cannot be written) is found out by whoever uses the setting.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::cpus::{self, CpuId};
use crate::config::kind::size_text;
use crate::config::{Address, Error, Key, Listener, Spin, Values, keys};

/// What a journal block and an entry's header take beside a batch, generously.
const JOURNAL_OVERHEAD_BYTES: u64 = 64 * 1024;

/// Groups of the journal that may be under way at once; each may fill the journal as it is at start.
const GROUPS_UNDER_WAY: u64 = 2;

/// By which operation the journal becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMethod {
    /// Whichever suits the device, the spin policy and the CPUs.
    Auto,
    /// Each write is durable when it completes.
    Dsync,
    /// A flush follows the write.
    Fdatasync,
}

/// Which clock a record's timestamp comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

impl TimestampType {
    /// Of a value of `log.message.timestamp.type`, which its kind has checked.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "CreateTime" => Self::CreateTime,
            "LogAppendTime" => Self::LogAppendTime,
            other => panic!("{other} is no timestamp type, and its kind allows no other word"),
        }
    }
}

impl FlushMethod {
    fn of(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "dsync" => Self::Dsync,
            "fdatasync" => Self::Fdatasync,
            other => panic!("{other} is no flush method, and its kind allows no other word"),
        }
    }
}

/// Everything that a broker is told at its start. Fields are named as their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect; at least one, names and addresses differ, all PLAINTEXT.
    pub listeners: Vec<Listener>,
    /// What clients are told, one for each listener by its name. Port 0 stands for the port that was bound.
    pub advertised_listeners: Vec<Listener>,
    /// The data directory.
    pub log_dir: PathBuf,
    /// The broker's number.
    pub node_id: i32,
    /// Partitions of a topic created without a number; at least 1.
    pub num_partitions: u32,
    /// Whether asking for a topic creates it.
    pub auto_create_topics_enable: bool,
    /// The largest batch.
    pub message_max_bytes: u32,
    /// The largest request.
    pub socket_request_max_bytes: u32,
    /// How many bytes of requests may wait; none: only `memory_bytes` limits them.
    pub queued_max_request_bytes: Option<u64>,
    /// How long a connection may be idle; none: for ever.
    pub connections_max_idle: Option<Duration>,
    /// The largest segment file.
    pub log_segment_bytes: u32,
    /// How long a segment file takes records.
    pub log_roll: Duration,
    /// Which clock timestamps come from.
    pub log_message_timestamp_type: TimestampType,
    /// The CPU of each shard; at least one. A CPU that is there more than once is shared.
    pub cpus: Vec<CpuId>,
    /// What a shard without work does.
    pub spin: Spin,
    /// How the journal becomes durable.
    pub flush_method: FlushMethod,
    /// The size of each shard's journal at start.
    pub journal_bytes: u64,
    /// Each shard's staging memory.
    pub staging_bytes: u64,
    /// The ceiling of each shard's other memory.
    pub memory_bytes: u64,
    /// Where health and metrics are served.
    pub admin_listener: Address,
    /// The same settings by name, for DescribeConfigs and for topics' overrides.
    pub values: Values,
}

impl Settings {
    /// Checks the values against each other and against the CPUs that the process may use.
    pub fn new(values: Values, allowed_cpus: &BTreeSet<CpuId>) -> Result<Self, Error> {
        let listeners = listeners(&values)?;
        let advertised_listeners = advertised_listeners(&values, &listeners)?;
        check_admin_listener(&values, &listeners)?;
        check_idle(&values)?;
        check_sizes(&values)?;
        let cpus = cpus(&values, allowed_cpus)?;
        check_spin(&values, &cpus)?;
        Ok(Self {
            listeners,
            advertised_listeners,
            log_dir: PathBuf::from(values.text(&keys::LOG_DIRS)),
            node_id: values.integer(&keys::NODE_ID),
            num_partitions: values.integer(&keys::NUM_PARTITIONS),
            auto_create_topics_enable: values.boolean(&keys::AUTO_CREATE_TOPICS_ENABLE),
            message_max_bytes: values.integer(&keys::MESSAGE_MAX_BYTES),
            socket_request_max_bytes: values.integer(&keys::SOCKET_REQUEST_MAX_BYTES),
            queued_max_request_bytes: positive(&values, &keys::QUEUED_MAX_REQUEST_BYTES),
            connections_max_idle: positive(&values, &keys::CONNECTIONS_MAX_IDLE_MS)
                .map(Duration::from_millis),
            log_segment_bytes: values.integer(&keys::LOG_SEGMENT_BYTES),
            log_roll: Duration::from_millis(values.integer(&keys::LOG_ROLL_MS)),
            log_message_timestamp_type: TimestampType::of(values.text(&keys::LOG_MESSAGE_TIMESTAMP_TYPE)),
            cpus,
            spin: values.spin(&keys::SPIN),
            flush_method: FlushMethod::of(values.text(&keys::FLUSH_METHOD)),
            journal_bytes: values.size(&keys::JOURNAL_BYTES),
            staging_bytes: values.size(&keys::STAGING_BYTES),
            memory_bytes: values.size(&keys::MEMORY_BYTES),
            admin_listener: values.address(&keys::ADMIN_LISTENER).clone(),
            values,
        })
    }

    /// The CPUs that several shards share.
    pub fn cpus_shared(&self) -> BTreeSet<CpuId> {
        cpus::shared(&self.cpus)
    }
}

/// The value of a key that has -1 or 0 for "no limit".
fn positive(values: &Values, key: &Key) -> Option<u64> {
    u64::try_from(values.integer::<i64>(key)).ok().filter(|number| *number > 0)
}

fn listeners(values: &Values) -> Result<Vec<Listener>, Error> {
    let listeners = values.listeners(&keys::LISTENERS).expect("`listeners` has a default");
    served(values, &keys::LISTENERS, listeners)?;
    Ok(listeners.to_vec())
}

fn served(values: &Values, key: &Key, listeners: &[Listener]) -> Result<(), Error> {
    match listeners.iter().find(|listener| listener.protocol().is_none()) {
        None => Ok(()),
        Some(Listener { name, .. }) => {
            Err(Error::ListenerNotServed { setting: values.shown(key), protocol: name.clone() })
        }
    }
}

/// What clients are told to connect to. That must be an address that another machine could use.
fn advertised_listeners(values: &Values, listeners: &[Listener]) -> Result<Vec<Listener>, Error> {
    let key = &keys::ADVERTISED_LISTENERS;
    let Some(advertised) = values.listeners(key) else {
        return match listeners.iter().find(|listener| listener.address.is_wildcard()) {
            None => Ok(listeners.to_vec()),
            Some(listener) => Err(contradiction(
                values,
                &[&keys::LISTENERS, key],
                format!("clients cannot connect to {listener}; say in `{}` where they can", key.name),
            )),
        };
    };
    for Listener { name, address } in advertised {
        if !listeners.iter().any(|listener| listener.name == *name) {
            let rule = format!("no listener is named {name}");
            return Err(contradiction(values, &[key, &keys::LISTENERS], rule));
        }
        if address.is_wildcard() || address.port == 0 {
            let rule = format!("clients cannot connect to {address}");
            return Err(contradiction(values, &[key], rule));
        }
    }
    match listeners.iter().find(|listener| !advertised.iter().any(|other| other.name == listener.name)) {
        None => Ok(advertised.to_vec()),
        Some(listener) => {
            let rule = format!("{} has no advertised address", listener.name);
            Err(contradiction(values, &[key, &keys::LISTENERS], rule))
        }
    }
}

fn check_admin_listener(values: &Values, listeners: &[Listener]) -> Result<(), Error> {
    let admin = values.address(&keys::ADMIN_LISTENER);
    if listeners.iter().any(|listener| listener.address.collides(admin)) {
        let rule = "two listeners need two ports".to_owned();
        return Err(contradiction(values, &[&keys::ADMIN_LISTENER, &keys::LISTENERS], rule));
    }
    Ok(())
}

fn check_idle(values: &Values) -> Result<(), Error> {
    if values.integer::<i64>(&keys::CONNECTIONS_MAX_IDLE_MS) == 0 {
        let rule = "every connection would be closed at once; -1 keeps them for ever".to_owned();
        return Err(contradiction(values, &[&keys::CONNECTIONS_MAX_IDLE_MS], rule));
    }
    Ok(())
}

/// Whatever may arrive must fit into every place that it passes through.
fn check_sizes(values: &Values) -> Result<(), Error> {
    let request: u64 = values.integer(&keys::SOCKET_REQUEST_MAX_BYTES);
    let queued = positive(values, &keys::QUEUED_MAX_REQUEST_BYTES);
    let journal = values.size(&keys::JOURNAL_BYTES);
    check_batch(values)?;
    if queued.is_some_and(|queued| queued < request) {
        let rule = "one request of the largest size must fit".to_owned();
        return Err(contradiction(
            values,
            &[&keys::QUEUED_MAX_REQUEST_BYTES, &keys::SOCKET_REQUEST_MAX_BYTES],
            rule,
        ));
    }
    at_least(values, &keys::STAGING_BYTES, GROUPS_UNDER_WAY * journal, &keys::JOURNAL_BYTES)?;
    at_least(values, &keys::MEMORY_BYTES, request, &keys::SOCKET_REQUEST_MAX_BYTES)
}

/// The largest batch must fit into the journal. A topic's own limit is checked the same way.
///
/// It need not fit into a segment: as with Kafka, a batch that a segment cannot hold is refused when it comes.
pub(crate) fn check_batch(values: &Values) -> Result<(), Error> {
    let message: u64 = values.integer(&keys::MESSAGE_MAX_BYTES);
    at_least(values, &keys::JOURNAL_BYTES, message + JOURNAL_OVERHEAD_BYTES, &keys::MESSAGE_MAX_BYTES)
}

/// Fails unless a size is at least what another setting asks of it.
fn at_least(values: &Values, key: &Key, least: u64, because: &Key) -> Result<(), Error> {
    if values.size(key) >= least {
        return Ok(());
    }
    let rounded = size_text(least.next_multiple_of(1 << 20));
    let rule = format!("`{}` must be at least {rounded}", key.name);
    Err(contradiction(values, &[key, because], rule))
}

fn cpus(values: &Values, allowed: &BTreeSet<CpuId>) -> Result<Vec<CpuId>, Error> {
    values.cpus(&keys::CPUS).among(allowed).map_err(|refused| Error::CpuNotAllowed {
        setting: values.shown(&keys::CPUS),
        refused: cpus::ranges(&refused),
        allowed: cpus::ranges(allowed),
    })
}

/// A shard that never sleeps would keep the others on its CPU waiting for whole slices of time.
fn check_spin(values: &Values, cpus: &[CpuId]) -> Result<(), Error> {
    let shared = cpus::shared(cpus);
    if values.spin(&keys::SPIN) != Spin::Always || shared.is_empty() {
        return Ok(());
    }
    let rule = format!("shards that share a CPU must sleep; CPU {} has several", cpus::ranges(&shared));
    Err(contradiction(values, &[&keys::SPIN, &keys::CPUS], rule))
}

fn contradiction(values: &Values, keys: &[&Key], rule: String) -> Error {
    let shown: Vec<String> = keys.iter().map(|key| values.shown(key)).collect();
    Error::Contradiction { values: shown.join(" with "), rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn settings(given: &[(&str, &str)]) -> Result<Settings, String> {
        let mut values = Values::default();
        for (name, text) in given {
            values.set(name, text, Origin::Set).map_err(|error| error.to_string())?;
        }
        Settings::new(values, &[0, 1].map(CpuId).into()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_kafkas_and_fit_together() {
        let defaults = settings(&[]).unwrap();
        assert_eq!(defaults.listeners, defaults.advertised_listeners);
        assert_eq!(defaults.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
        assert_eq!(defaults.message_max_bytes, 1024 * 1024 + 12);
        assert_eq!(defaults.socket_request_max_bytes, 100 * 1024 * 1024);
        assert_eq!(defaults.queued_max_request_bytes, None);
        assert_eq!(defaults.connections_max_idle, Some(Duration::from_secs(600)));
        assert_eq!(defaults.log_segment_bytes, 1024 * 1024 * 1024);
        assert_eq!(defaults.log_roll, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(defaults.log_message_timestamp_type, TimestampType::CreateTime);
        assert_eq!(defaults.cpus, [CpuId(0), CpuId(1)]);
        assert_eq!((defaults.spin, defaults.flush_method), (Spin::Microseconds(50), FlushMethod::Dsync));
    }

    #[test]
    fn given_values_arrive() {
        let given = settings(&[
            ("listeners", "PLAINTEXT://0.0.0.0:0"),
            ("advertised.listeners", "PLAINTEXT://broker:9092"),
            ("connections.max.idle.ms", "-1"),
            ("queued.max.request.bytes", "104857600"),
            ("log.message.timestamp.type", "LogAppendTime"),
            ("corelane.flush.method", "auto"),
            ("corelane.cpus", "1"),
        ])
        .unwrap();
        assert_eq!(given.advertised_listeners[0].address.host, "broker");
        assert_eq!(given.connections_max_idle, None);
        assert_eq!(given.queued_max_request_bytes, Some(104_857_600));
        assert_eq!(given.log_message_timestamp_type, TimestampType::LogAppendTime);
        assert_eq!((given.flush_method, given.cpus), (FlushMethod::Auto, vec![CpuId(1)]));
    }

    #[test]
    fn shards_may_share_a_cpu_unless_they_never_sleep() {
        let shared = settings(&[("corelane.cpus", "0,1,0,0")]).unwrap();
        assert_eq!(shared.cpus, [0, 1, 0, 0].map(CpuId));
        assert_eq!(shared.cpus_shared(), [CpuId(0)].into());
        let alone = settings(&[("corelane.cpus", "1,0"), ("corelane.spin", "always")]).unwrap();
        assert!(alone.cpus_shared().is_empty());
        let error = settings(&[("corelane.cpus", "0,1,0"), ("corelane.spin", "always")]).unwrap_err();
        assert_eq!(
            error,
            "`corelane.spin` = `always` (--set) with `corelane.cpus` = `0-1,0` (--set): \
             shards that share a CPU must sleep; CPU 0 has several"
        );
    }

    #[test]
    fn a_large_batch_asks_for_a_large_journal() {
        settings(&[("message.max.bytes", "10485760")]).expect("10 MiB pass through the default journal");
        let error = settings(&[("message.max.bytes", "16777216")]).unwrap_err();
        assert_eq!(
            error,
            "`corelane.journal.bytes` = `16777216` (default) with `message.max.bytes` = `16777216` (--set): \
             `corelane.journal.bytes` must be at least 17MiB"
        );
        settings(&[("message.max.bytes", "16777216"), ("corelane.journal.bytes", "17MiB")]).unwrap();
    }

    #[test]
    fn advertised_listeners_belong_to_listeners() {
        for (advertised, rule) in [
            ("SSL://broker:9092", "no listener is named SSL"),
            ("PLAINTEXT://broker:0", "clients cannot connect to broker:0"),
            ("PLAINTEXT://0.0.0.0:9092", "clients cannot connect to 0.0.0.0:9092"),
            ("PLAINTEXT://:9092", "clients cannot connect to :9092"),
        ] {
            let error = settings(&[("advertised.listeners", advertised)]).unwrap_err();
            assert!(error.ends_with(&format!(": {rule}")), "{error}");
        }
    }

    #[test]
    fn an_advertised_address_for_each_listener() {
        let mut values = Values::default();
        values.set("advertised.listeners", "PLAINTEXT://a:1", Origin::Set).unwrap();
        let listeners = Listener::parse_list("PLAINTEXT://a:1,SSL://a:2").unwrap();
        let error = advertised_listeners(&values, &listeners).unwrap_err().to_string();
        assert!(error.ends_with(": SSL has no advertised address"), "{error}");
    }
}
