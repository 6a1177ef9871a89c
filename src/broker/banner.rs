//! What a broker says when it is ready: what it is, where it is, what an ack means on it, and lines to try it with.

use std::fmt::Write;
use std::net::SocketAddr;

use corelane_shards::core::recovery::Report;

use crate::config::Settings;

/// What the lines are made of.
pub(super) struct Banner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) flush_method: &'static str,
    /// Where staging memory lies, or why there is none that outlives the process.
    pub(super) staging: Result<String, String>,
    pub(super) addresses: &'a [SocketAddr],
    pub(super) admin: SocketAddr,
    pub(super) report: &'a Report,
}

impl Banner<'_> {
    /// The lines, each with its end.
    pub(super) fn text(&self) -> String {
        let Settings { cpus, spin, log_dir, .. } = self.settings;
        let list = |items: Vec<String>| items.join(", ");
        let shared = if self.settings.cpus_shared().is_empty() { "" } else { " (shared)" };
        let cpus = list(cpus.iter().map(|cpu| cpu.0.to_string()).collect());
        let addresses = list(self.addresses.iter().map(ToString::to_string).collect());
        let mut text = format!("corelane {}\n", env!("CARGO_PKG_VERSION"));
        // Writing into a string cannot fail.
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<10} {value}");
        };
        line("shards", format!("{} on CPU {cpus}{shared}, spin {spin}", self.settings.cpus.len()));
        line("listeners", addresses);
        line("admin", format!("http://{}/metrics", self.admin));
        line("data", log_dir.display().to_string());
        line("journal", format!("flushed by {}", self.flush_method));
        match &self.staging {
            Ok(place) => {
                line("staging", format!("{place}; acks=1 survives kill -9, acks=all survives power loss"))
            }
            Err(reason) => {
                line("staging", format!("none ({reason}); acks=1 waits for the flush as acks=all does"))
            }
        }
        let replayed = self.report.replayed;
        line(
            "recovered",
            format!(
                "{} journal groups, {} of them from staging memory; {} entries; leader epoch {}",
                self.report.groups, self.report.groups_staged, replayed.entries, self.report.epoch
            ),
        );
        if let Some(address) = self.addresses.first() {
            text += "try\n";
            let _ = writeln!(text, "  echo hello | kcat -P -b {address} -t greetings");
            let _ = writeln!(text, "  kcat -C -b {address} -t greetings -o beginning -e");
        }
        text
    }
}
