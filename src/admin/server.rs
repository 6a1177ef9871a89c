//! Connections of the admin listener, on the control thread's runtime.
//!
//! Bounds: so many connections (the next one waits in the kernel's queue), headers of so many bytes and
//! fields, a time for the headers to arrive and one for the whole exchange. One request per connection: a
//! probe needs no more, and so nobody can hold one.
//!
//! Cancellation: dropping the future of [`serve`] closes the listener and every connection.

use std::{convert::Infallible, rc::Rc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{routes::answer, source::Source};

/// Connections open at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers, which is the read buffer too; the least that hyper takes.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// Header fields of a request.
pub const HEADERS_MAX: usize = 64;
/// Time for a request's line and headers to arrive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the whole exchange.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a failed accept, such as one for want of descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on `listener` until the future is dropped.
pub async fn serve(listener: TcpListener, source: impl Source + 'static) -> Infallible {
    serve_within(listener, source, HEADER_TIMEOUT).await
}

pub(super) async fn serve_within(
    listener: TcpListener,
    source: impl Source + 'static,
    header_timeout: Duration,
) -> Infallible {
    let source = Rc::new(source);
    LocalSet::new().run_until(accept(listener, source, header_timeout)).await
}

async fn accept(
    listener: TcpListener,
    source: Rc<impl Source + 'static>,
    header_timeout: Duration,
) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() == CONNECTIONS_MAX {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                _ = connections.spawn_local(exchange(stream, Rc::clone(&source), header_timeout));
            }
            Err(error) => {
                warn!(%error, "the admin listener cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request and its answer.
async fn exchange(stream: TcpStream, source: Rc<impl Source>, header_timeout: Duration) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let response = answer(&request, &*source);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(EXCHANGE_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an admin connection ended early"),
        Err(_) => debug!("an admin connection took too long"),
    }
}
