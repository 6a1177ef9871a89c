//! Which path answers what. Nothing here reads a request's body.

use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value as Json, json};

use super::{json, prometheus, source::Source};

const JSON: &str = "application/json";
const PATHS: [&str; 3] = ["/health", "/metrics", "/ready"];

/// The answer to one request.
pub(super) fn answer<B>(request: &Request<B>, source: &impl Source) -> Response<String> {
    let path = request.uri().path();
    if !PATHS.contains(&path) {
        return json_response(StatusCode::NOT_FOUND, &json!({ "error": "no such path", "paths": PATHS }));
    }
    // hyper leaves the body out of an answer to HEAD.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let error = json!({ "error": "only GET and HEAD are served here" });
        let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &error);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let snapshot = source.snapshot();
    let available = |yes: bool| if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match path {
        "/ready" => json_response(available(snapshot.ready.is_ok()), &json::ready(&snapshot)),
        "/health" => {
            let healthy = snapshot.shards.iter().all(|shard| shard.healthy);
            json_response(available(healthy), &json::health(&snapshot))
        }
        _ if wants_json(request) => json_response(StatusCode::OK, &json::metrics(&snapshot)),
        _ => response(StatusCode::OK, prometheus::CONTENT_TYPE, prometheus::encode(&snapshot)),
    }
}

fn wants_json<B>(request: &Request<B>) -> bool {
    let asked = request.uri().query().is_some_and(|query| query.split('&').any(|one| one == "format=json"));
    let accepts = |value: &HeaderValue| {
        let ranges = value.to_str().unwrap_or_default().split(',');
        let mut media_types = ranges.map(|range| range.split(';').next().unwrap_or_default().trim());
        media_types.any(|media_type| media_type.eq_ignore_ascii_case(JSON))
    };
    asked || request.headers().get_all(ACCEPT).iter().any(accepts)
}

fn json_response(status: StatusCode, body: &Json) -> Response<String> {
    response(status, JSON, format!("{body}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
