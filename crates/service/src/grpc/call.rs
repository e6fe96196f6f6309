//! One call from its arrival to its status: a span and a duration, by the semantic conventions of RPC (1.44, release
//! candidate): <https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/>.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use telemetry::{Counted, TraceId};
use tonic::{Code, transport::server::TcpConnectInfo};
use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::method::{FAULTS, Method, Methods, name};

/// The part of a caller's patience after which a call that is let go took too long: the caller's clock began before ours.
const ENOUGH: f64 = 0.9;

/// Follows a call. A layer over all routes, outside of everything that answers.
pub(super) async fn follow(State(methods): State<Arc<Methods>>, request: Request, next: Next) -> Response {
    let call = Call::begin(&methods, &request);
    let response = next.run(request).instrument(call.span.clone()).await;
    // A refusal is all headers; else the status comes behind the body.
    match status(response.headers()) {
        Some(code) => call.end(code),
        None => return response.map(|body| Body::new(Followed { body, call: Some(call) })),
    }
    response
}

/// A call that has no status yet.
struct Call {
    method: Arc<Method>,
    span: Span,
    began: Instant,
    /// How long the caller waits.
    patience: Option<Duration>,
    code: Option<Code>,
    _active: Counted,
}

impl Call {
    fn begin(methods: &Methods, request: &Request) -> Self {
        let method = Arc::clone(methods.of(request.uri().path()));
        let span = if method.is_traced { span(&method.name, request) } else { Span::none() };
        let _active = method.active.count();
        let patience = header(request.headers(), "grpc-timeout").and_then(timeout);
        Self { method, span, began: Instant::now(), patience, code: None, _active }
    }

    fn end(mut self, code: Code) {
        self.code = Some(code);
    }

    /// The status of a call that was let go before it had one.
    fn let_go(&self) -> Code {
        if thread::panicking() {
            Code::Internal
        } else if self.patience.is_some_and(|patience| self.began.elapsed() >= patience.mul_f64(ENOUGH)) {
            // Whoever noticed first, the caller or the server: it took too long, and that is not the caller's fault.
            Code::DeadlineExceeded
        } else {
            Code::Cancelled
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or_else(|| self.let_go());
        let trace = trace(&self.span);
        self.method.duration(code).observe_in(self.began.elapsed().as_secs_f64(), trace);
        self.span.record("rpc.response.status_code", name(code));
        if FAULTS.contains(&code) {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", name(code));
        }
        // A span ends when it was last left: of a stream that is let go, that would be its last message.
        self.span.in_scope(|| {});
    }
}

/// Of a span that is recorded.
fn trace(span: &Span) -> Option<TraceId> {
    let context = telemetry::span::context(span);
    context.is_sampled().then(|| context.trace_id())
}

/// A span of a call, child of the caller's.
fn span(method: &str, request: &Request) -> Span {
    let span = info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        error.r#type = Empty,
        server.address = Empty,
        server.port = Empty,
        network.peer.address = Empty,
        network.peer.port = Empty,
        // Which order it is about, as soon as that is known.
        order_id = Empty,
    );
    if let Some(connection) = request.extensions().get::<TcpConnectInfo>() {
        if let Some(local) = connection.local_addr() {
            span.record("server.address", tracing::field::display(local.ip()));
            span.record("server.port", i64::from(local.port()));
        }
        if let Some(peer) = connection.remote_addr() {
            span.record("network.peer.address", tracing::field::display(peer.ip()));
            span.record("network.peer.port", i64::from(peer.port()));
        }
    }
    let header = |name| header(request.headers(), name);
    let caller = telemetry::propagation::read(header("traceparent"), header("tracestate"));
    telemetry::span::set_parent(&span, caller.as_ref());
    span
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    let amount = digits.parse::<u64>().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// The body of a response, up to the status that follows it. A stream's is followed for its whole life, and made in its
/// call's span.
struct Followed {
    body: Body,
    call: Option<Call>,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let span = this.call.as_ref().map_or_else(Span::none, |call| call.span.clone());
        let frame = ready!(span.in_scope(|| Pin::new(&mut this.body).poll_frame(context)));
        let code = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| status(trailers).unwrap_or(Code::Unknown)),
            // It ends without a status, which is none of gRPC's.
            Some(Err(_)) | None => Some(Code::Unknown),
        };
        if let Some(code) = code
            && let Some(call) = this.call.take()
        {
            call.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_patience_is_read_as_grpc_writes_it() {
        for (header, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("1234567890S", None),
            ("5", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("5µ", None),
        ] {
            assert_eq!(timeout(header), expected, "{header}");
        }
    }
}
