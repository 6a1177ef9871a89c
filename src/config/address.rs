//! Addresses: `host:port`, and Kafka's `NAME://host:port`.

use std::fmt;

/// A host and a port. Nothing is resolved here: the host is what the user wrote, without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, an IPv4 or an IPv6 address; empty for every interface.
    pub host: String,
    /// 0 stands for any free port.
    pub port: u16,
}

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, in capitals; without a map from names to protocols it is the protocol's name too.
    pub name: String,
    /// Where it listens, or what is advertised.
    pub address: Address,
}

/// How a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
}

impl Address {
    /// Reads `host:port`, with an IPv6 address in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port"))?;
        let port = port.parse().map_err(|_| format!("the port `{port}` is not a number from 0 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(format!("an IPv6 address stands in brackets, as in [{host}]:{port}"));
        }
        let host = bracketed.unwrap_or(host);
        if bracketed.is_some() && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("`{host}` is not an IPv6 address"));
        }
        if host.chars().any(|c| !(c.is_ascii_alphanumeric() || "-_.:".contains(c))) {
            return Err(format!("`{host}` is not a host"));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Whether it means every interface, to which no client can connect.
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty()
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// Whether two listeners cannot have these addresses at once, as far as can be told without resolving names.
    pub fn collides(&self, other: &Self) -> bool {
        let same_host = self.is_wildcard() || other.is_wildcard() || self.host == other.host;
        self.port != 0 && self.port == other.port && same_host
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Listener {
    /// Reads a list of `NAME://host:port` whose names and addresses all differ.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut listeners: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let listener = Self::parse(part.trim())?;
            for earlier in &listeners {
                if earlier.name == listener.name {
                    return Err(format!("the name {} is there twice", listener.name));
                }
                if earlier.address.collides(&listener.address) {
                    return Err(format!("{earlier} and {listener} are one address"));
                }
            }
            listeners.push(listener);
        }
        Ok(listeners)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a listener is missing".to_owned());
        }
        let (name, address) = text.split_once("://").ok_or_else(|| format!("`{text}` has no protocol"))?;
        if name.is_empty() || name.chars().any(|c| !(c.is_ascii_alphanumeric() || "_-".contains(c))) {
            return Err(format!("`{name}` is not a listener's name"));
        }
        Ok(Self { name: name.to_ascii_uppercase(), address: Address::parse(address)? })
    }

    /// The protocol of this listener, if it is served.
    pub fn protocol(&self) -> Option<Protocol> {
        (self.name == "PLAINTEXT").then_some(Protocol::Plaintext)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:9092", "[::1]:9092", "broker-1.example:0", ":9092", "[::]:65535"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_addresses_say_why() {
        for (text, reason) in [
            ("localhost", "`localhost` has no port"),
            ("localhost:", "the port `` is not a number from 0 to 65535"),
            ("localhost:65536", "the port `65536` is not a number from 0 to 65535"),
            ("::1:9092", "an IPv6 address stands in brackets, as in [::1]:9092"),
            ("[::g]:9092", "`::g` is not an IPv6 address"),
            ("a b:9092", "`a b` is not a host"),
            ("a/b:9092", "`a/b` is not a host"),
        ] {
            assert_eq!(Address::parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn addresses_collide_on_one_port_of_one_host() {
        let address = |text| Address::parse(text).unwrap();
        assert!(address("a:1").collides(&address("a:1")));
        assert!(address("0.0.0.0:1").collides(&address("a:1")));
        assert!(address("a:1").collides(&address("[::]:1")));
        assert!(!address("a:1").collides(&address("b:1")));
        assert!(!address("a:1").collides(&address("a:2")));
        assert!(!address("a:0").collides(&address("a:0")), "two free ports differ");
    }

    #[test]
    fn listeners_differ_in_name_and_address() {
        let list = Listener::parse_list("PLAINTEXT://a:1, ssl://a:2").unwrap();
        assert_eq!(
            list.iter().map(Listener::to_string).collect::<Vec<_>>(),
            ["PLAINTEXT://a:1", "SSL://a:2"]
        );
        for (text, reason) in [
            ("PLAINTEXT://a:1,PLAINTEXT://a:2", "the name PLAINTEXT is there twice"),
            ("PLAINTEXT://a:1,SSL://a:1", "PLAINTEXT://a:1 and SSL://a:1 are one address"),
            ("PLAINTEXT://a:1,", "a listener is missing"),
            ("a:1", "`a:1` has no protocol"),
            ("://a:1", "`` is not a listener's name"),
        ] {
            assert_eq!(Listener::parse_list(text), Err(reason.to_owned()), "{text}");
        }
    }
}
