//! The semantic conventions of OpenTelemetry 1.44, as far as these spans are concerned:
//! <https://opentelemetry.io/docs/specs/semconv/>.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{Kind, Span};

/// Names that attributes had in earlier versions.
const DEPRECATED: &[&str] = &[
    "rpc.system",
    "rpc.service",
    "rpc.status_code",
    "rpc.grpc.status_code",
    "db.system",
    "db.name",
    "db.user",
    "db.statement",
    "db.operation",
    "db.sql.table",
    "messaging.operation",
    "messaging.destination",
    "messaging.message_id",
    "messaging.kafka.consumer.group",
    "messaging.kafka.partition",
    "messaging.kafka.destination.partition",
    "messaging.kafka.message.offset",
    "http.method",
    "http.url",
    "http.status_code",
    "net.peer.name",
    "net.peer.port",
    "net.host.name",
    "net.host.port",
    "code.filepath",
    "code.lineno",
    "code.namespace",
];

/// Attributes that are numbers wherever they are.
const NUMBERS: [&str; 5] = [
    "server.port",
    "network.peer.port",
    "http.response.status_code",
    "messaging.kafka.offset",
    "messaging.batch.message_count",
];

/// Fails where a span is against them, and says which.
#[track_caller]
pub fn are_kept(spans: &[Span]) {
    let breaches: BTreeSet<String> = spans.iter().flat_map(breaches).collect();
    let lines: Vec<String> = breaches.into_iter().map(|breach| format!("{breach}\n")).collect();
    assert!(lines.is_empty(), "{}", lines.concat());
}

fn breaches(span: &Span) -> Vec<String> {
    let mut check = Check { span, breaches: Vec::new() };
    check.resource();
    check.that(span.start <= span.end && span.start > 0, "ends before it began");
    for name in DEPRECATED {
        check.that(!span.attributes.contains_key(*name), &format!("has the deprecated {name}"));
    }
    let has = |name: &str| span.attributes.contains_key(name);
    for name in NUMBERS.into_iter().filter(|name| has(name)) {
        check.number(name);
    }
    if has("rpc.system.name") {
        check.rpc();
    } else if has("messaging.system") {
        check.messaging();
    } else if has("db.system.name") {
        check.database();
    } else if has("http.request.method") {
        check.http();
    } else if span.name == "send mail" {
        check.kind(Kind::Client);
        check.text("server.address");
        check.number("server.port");
    } else {
        check.kind(Kind::Internal);
    }
    if span.error.is_some() {
        check.text("error.type");
    }
    check.breaches
}

struct Check<'s> {
    span: &'s Span,
    breaches: Vec<String>,
}

impl Check<'_> {
    fn resource(&mut self) {
        let resource = |name: &str| self.span.resource.get(name).and_then(Value::as_str).unwrap_or_default();
        let known = ["order", "inventory", "billing", "notification", "outbox-relay"];
        let is_known = known.contains(&resource("service.name"));
        let is_ours = resource("service.namespace") == "orderly"
            && resource("service.version") == env!("CARGO_PKG_VERSION");
        self.that(is_known && is_ours, "is of a resource without name, namespace or version");
    }

    fn rpc(&mut self) {
        self.kind(Kind::Server);
        self.is("rpc.system.name", "grpc");
        self.is("rpc.method", &self.span.name);
        self.text("rpc.response.status_code");
    }

    fn messaging(&mut self) {
        self.is("messaging.system", "kafka");
        let (operation, destination) = self.span.name.split_once(' ').unwrap_or_default();
        // That the time between two of these operations is a span, the conventions do not know.
        if operation == "wait" {
            self.kind(Kind::Internal);
            return;
        }
        self.is("messaging.operation.name", operation);
        self.is("messaging.operation.type", operation);
        match operation {
            "create" => self.kind(Kind::Producer),
            "send" => self.kind(Kind::Client),
            "process" => {
                self.kind(Kind::Consumer);
                self.text("messaging.consumer.group.name");
            }
            _ => self.that(false, "is no operation of messaging that is done here"),
        }
        if self.span.name == "process batch" {
            self.number("messaging.batch.message_count");
            return;
        }
        self.is("messaging.destination.name", destination);
        self.text("messaging.message.id");
        self.text("messaging.kafka.message.key");
        if operation != "create" {
            self.text("messaging.destination.partition.id");
            self.number("messaging.kafka.offset");
        }
    }

    fn database(&mut self) {
        self.kind(Kind::Client);
        self.is("db.system.name", "postgresql");
        self.is("db.query.summary", &self.span.name);
        for name in ["db.namespace", "db.query.text", "server.address"] {
            self.text(name);
        }
        self.number("server.port");
    }

    fn http(&mut self) {
        self.kind(Kind::Client);
        self.is("http.request.method", &self.span.name);
        self.text("server.address");
        self.number("server.port");
        // All but the host of a webhook's URL is its customer's secret.
        if self.span.service != "notification" {
            self.text("url.full");
        }
        // There is none where nobody has answered.
        if self.span.error.is_none() {
            self.number("http.response.status_code");
        }
    }

    fn kind(&mut self, kind: Kind) {
        self.that(self.span.kind == kind, &format!("is not {kind:?}"));
    }

    fn is(&mut self, name: &str, value: &str) {
        self.that(self.span.text(name) == Some(value), &format!("has not {name} = {value}"));
    }

    fn text(&mut self, name: &str) {
        let is_text = self.span.text(name).is_some_and(|text| !text.is_empty());
        self.that(is_text, &format!("has no text {name}"));
    }

    fn number(&mut self, name: &str) {
        let is_number = self.span.attributes.get(name).is_some_and(Value::is_i64);
        self.that(is_number, &format!("has no number {name}"));
    }

    fn that(&mut self, holds: bool, breach: &str) {
        if !holds {
            self.breaches.push(format!("{}: {} {breach}", self.span.service, self.span.name));
        }
    }
}
