//! The slab of a shard's connections, and the order of their deadlines.

use std::collections::BTreeSet;

use super::connection::Connection;
use crate::clock::Moment;
use crate::ring::Token;

/// Names a connection within its shard. It never comes to name another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionKey {
    index: u32,
    generation: u32,
}

impl ConnectionKey {
    pub(super) fn to_token(self) -> Token {
        Token(u64::from(self.generation) << 32 | u64::from(self.index))
    }

    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn from_token(token: Token) -> ConnectionKey {
        ConnectionKey { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

#[derive(Default)]
struct Entry {
    generation: u32,
    /// Whether the key is in use; its connection is away while it is worked on.
    used: bool,
    connection: Option<Box<Connection>>,
}

/// The connections of a shard.
#[derive(Default)]
pub(super) struct Connections {
    entries: Vec<Entry>,
    free: Vec<u32>,
    used: usize,
    /// At most one for each connection.
    deadlines: BTreeSet<(Moment, ConnectionKey)>,
}

impl Connections {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// A name for a new connection.
    pub(super) fn reserve(&mut self) -> ConnectionKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            u32::try_from(self.entries.len() - 1).expect("connections are bounded")
        });
        let entry = &mut self.entries[index as usize];
        entry.used = true;
        self.used += 1;
        ConnectionKey { index, generation: entry.generation }
    }

    /// Takes a connection out to work on it, if it is still there.
    pub(super) fn take(&mut self, key: ConnectionKey) -> Option<Box<Connection>> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation == key.generation { entry.connection.take() } else { None }
    }

    /// Puts a connection in, or back.
    pub(super) fn put(&mut self, connection: Box<Connection>) {
        let entry = &mut self.entries[connection.key.index as usize];
        assert!(
            entry.used && entry.generation == connection.key.generation,
            "a connection returns to its place"
        );
        entry.connection = Some(connection);
    }

    /// Forgets a connection that was taken out.
    pub(super) fn forget(&mut self, mut connection: Box<Connection>) {
        assert!(connection.is_free(), "a connection is forgotten when the kernel has nothing of it");
        self.unschedule(&mut connection);
        let entry = &mut self.entries[connection.key.index as usize];
        entry.used = false;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(connection.key.index);
        self.used -= 1;
    }

    /// All names in use.
    pub(super) fn keys(&self) -> Vec<ConnectionKey> {
        let present = self.entries.iter().filter_map(|entry| entry.connection.as_ref());
        present.map(|connection| connection.key).collect()
    }

    /// Notes that `connection` must be looked at by `deadline`, if that is earlier than what is noted.
    pub(super) fn schedule(&mut self, connection: &mut Connection, deadline: Option<Moment>) {
        let Some(deadline) = deadline else { return };
        if connection.scheduled.is_none_or(|noted| deadline < noted) {
            self.unschedule(connection);
            self.deadlines.insert((deadline, connection.key));
            connection.scheduled = Some(deadline);
        }
    }

    /// Forgets what is noted for `connection`.
    pub(super) fn unschedule(&mut self, connection: &mut Connection) {
        if let Some(noted) = connection.scheduled.take() {
            let found = self.deadlines.remove(&(noted, connection.key));
            assert!(found, "a noted deadline is in the order of deadlines");
        }
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(moment, _)| *moment)
    }

    /// A connection whose deadline has come.
    pub(super) fn due(&self, now: Moment) -> Option<ConnectionKey> {
        self.deadlines.first().filter(|(moment, _)| *moment <= now).map(|(_, key)| *key)
    }
}
