//! The snapshot in Prometheus' text format, version 0.0.4.

use std::fmt::{Arguments, Write as _};

use super::source::{Family, Sample, Snapshot, Value};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families, each behind its HELP and TYPE lines.
pub(super) fn encode(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for Family { name, help, kind, samples } in &snapshot.families {
        assert!(is_name(name), "a metric is named {name:?}");
        line(&mut text, format_args!("# HELP {name} {}", escape(help)));
        line(&mut text, format_args!("# TYPE {name} {}", kind.word()));
        for sample in samples {
            encode_sample(&mut text, name, sample);
        }
    }
    text
}

fn encode_sample(text: &mut String, name: &str, sample: &Sample) {
    let labels = labels(sample, None);
    match &sample.value {
        Value::Integer(value) => line(text, format_args!("{name}{labels} {value}")),
        Value::Number(value) => line(text, format_args!("{name}{labels} {}", number(*value))),
        Value::Histogram(histogram) => {
            let all = [(f64::INFINITY, histogram.count)];
            for (bound, count) in histogram.buckets.iter().chain(&all) {
                let labels = self::labels(sample, Some(*bound));
                line(text, format_args!("{name}_bucket{labels} {count}"));
            }
            line(text, format_args!("{name}_sum{labels} {}", number(histogram.sum)));
            line(text, format_args!("{name}_count{labels} {}", histogram.count));
        }
    }
}

fn line(text: &mut String, line: Arguments<'_>) {
    writeln!(text, "{line}").expect("writing into a string cannot fail");
}

fn labels(sample: &Sample, bound: Option<f64>) -> String {
    let pair = |(name, value): &(&str, String)| {
        assert!(is_name(name), "a label is named {name:?}");
        format!("{name}=\"{}\"", escape(value).replace('"', "\\\""))
    };
    let mut pairs: Vec<String> = sample.labels.iter().map(pair).collect();
    pairs.extend(bound.map(|bound| format!("le=\"{}\"", number(bound))));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

/// What help and label values escape alike; label values escape the quote as well.
fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n")
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        other => other.to_string(),
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::source::{Histogram, Kind};

    fn sample(labels: &[(&'static str, &str)], value: Value) -> Sample {
        Sample { labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), value }
    }

    #[test]
    fn text_is_escaped_and_complete() {
        let buckets = vec![(0.000_008_192, 1), (0.25, 2)];
        let histogram = Histogram { count: 3, sum: 1.5, buckets, quantiles: vec![(0.5, 0.25)] };
        let awkward = sample(&[("shard", "0"), ("topic", "a\"b\\c\nd")], Value::Integer(1));
        let counters = vec![sample(&[], Value::Integer(u64::MAX)), awkward];
        let gauges = vec![sample(&[], Value::Number(f64::NAN)), sample(&[("x", "")], Value::Number(-0.5))];
        let histograms = vec![sample(&[("s", "1")], Value::Histogram(histogram))];
        let families = vec![
            Family { name: "a_total", help: "Line\nand \\ and \"", kind: Kind::Counter, samples: counters },
            Family { name: "b", help: "Gauge.", kind: Kind::Gauge, samples: gauges },
            Family { name: "d_seconds", help: "Times.", kind: Kind::Histogram, samples: histograms },
        ];
        let expected = r##"# HELP a_total Line\nand \\ and "
# TYPE a_total counter
a_total 18446744073709551615
a_total{shard="0",topic="a\"b\\c\nd"} 1
# HELP b Gauge.
# TYPE b gauge
b NaN
b{x=""} -0.5
# HELP d_seconds Times.
# TYPE d_seconds histogram
d_seconds_bucket{s="1",le="0.000008192"} 1
d_seconds_bucket{s="1",le="0.25"} 2
d_seconds_bucket{s="1",le="+Inf"} 3
d_seconds_sum{s="1"} 1.5
d_seconds_count{s="1"} 3
"##;
        assert_eq!(encode(&Snapshot { ready: Ok(()), shards: Vec::new(), families }), expected);
    }

    #[test]
    fn only_prometheus_names_are_names() {
        assert!(is_name("a_b9") && is_name("_x"));
        assert!(!is_name("") && !is_name("9a") && !is_name("a-b") && !is_name("ä"));
    }
}
