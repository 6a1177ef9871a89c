//! The snapshot as JSON. Numbers that JSON has no words for (infinite, not a number) become `null`.

use serde_json::{Map, Value as Json, json};

use super::source::{Family, Sample, Snapshot, Value};

/// The readiness, with the reason if there is one.
pub(super) fn ready(snapshot: &Snapshot) -> Json {
    match &snapshot.ready {
        Ok(()) => json!({ "ready": true }),
        Err(reason) => json!({ "ready": false, "reason": reason }),
    }
}

/// Every shard's state.
pub(super) fn health(snapshot: &Snapshot) -> Json {
    let healthy = snapshot.shards.iter().all(|shard| shard.healthy);
    let shards = snapshot.shards.iter();
    let shards: Vec<Json> = shards
        .map(|shard| json!({ "shard": shard.shard, "healthy": shard.healthy, "state": shard.state }))
        .collect();
    json!({ "healthy": healthy, "shards": shards })
}

/// All metrics.
pub(super) fn metrics(snapshot: &Snapshot) -> Json {
    let metrics: Vec<Json> = snapshot.families.iter().map(family).collect();
    json!({ "metrics": metrics })
}

fn family(family: &Family) -> Json {
    let samples: Vec<Json> = family.samples.iter().map(sample).collect();
    json!({ "name": family.name, "help": family.help, "type": family.kind.word(), "samples": samples })
}

fn sample(sample: &Sample) -> Json {
    let labels = sample.labels.iter().map(|(name, value)| ((*name).to_owned(), Json::from(value.as_str())));
    let labels: Map<String, Json> = labels.collect();
    let value = match &sample.value {
        Value::Integer(value) => json!(value),
        Value::Number(value) => json!(value),
        Value::Histogram(histogram) => {
            let quantile = |(quantile, value): &(f64, f64)| json!({ "quantile": quantile, "value": value });
            let quantiles: Vec<Json> = histogram.quantiles.iter().map(quantile).collect();
            json!({ "count": histogram.count, "sum": histogram.sum, "quantiles": quantiles })
        }
    };
    json!({ "labels": labels, "value": value })
}
