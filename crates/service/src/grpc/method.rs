//! The methods that a server has, each with its metrics. Any other name that a caller thinks of is `_OTHER`, so that
//! callers cannot make time series or span names.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use telemetry::{Gauge, Gauges, Histogram, Histograms, catalogue::rpc};
use tonic::Code;

/// What the semantic conventions call a method that the server does not have.
const OTHER: &str = "_OTHER";

/// Every status, in the order of its number: <https://grpc.io/docs/guides/status-codes/>.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The statuses that are the server's fault, by the semantic conventions of RPC: spans with them are errors, and they use
/// up error budgets.
pub(super) const FAULTS: [Code; 6] = [
    Code::Unknown,
    Code::DeadlineExceeded,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
];

/// The name of a status in labels and attributes.
pub(super) fn name(code: Code) -> &'static str {
    NAMES[code as usize]
}

/// The methods of a server.
#[derive(Debug)]
pub(super) struct Methods {
    known: HashMap<String, Arc<Method>>,
    other: Arc<Method>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Method {
    /// `<package>.<Service>/<Method>`.
    pub name: String,
    /// Whether its calls have spans. Those of probes and of tools would hide the others.
    pub is_traced: bool,
    pub active: Gauge,
    durations: Histograms<2>,
    /// By status: what was looked up once.
    by_code: [OnceLock<Histogram>; NAMES.len()],
}

impl Methods {
    /// Those of `service`, health and reflection; once a process. All of the service's methods are shown from the start
    /// with OK, and those with an objective (`CreateOrder`) with every status that counts against it.
    pub fn register(
        metrics: &telemetry::Metrics,
        service: &str,
        descriptors: &[u8],
        objectives: &[&str],
    ) -> anyhow::Result<Self> {
        let (durations, active) =
            (metrics.histograms(&rpc::CALL_DURATION), metrics.gauges(&rpc::CALLS_ACTIVE));
        let mut known = HashMap::new();
        for (service, method) in methods(descriptors)?.into_iter().filter(|(of, _)| of == service) {
            let has_objective = objectives.contains(&method.as_str());
            let method = Method::new(format!("{service}/{method}"), true, &durations, &active);
            method.duration(Code::Ok);
            for fault in FAULTS.into_iter().filter(|_| has_objective) {
                method.duration(fault);
            }
            known.insert(method.name.clone(), Arc::new(method));
        }
        anyhow::ensure!(!known.is_empty(), "the descriptor set has no methods of {service}");
        for tools in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for (service, method) in methods(tools)? {
                let method = Method::new(format!("{service}/{method}"), false, &durations, &active);
                known.insert(method.name.clone(), Arc::new(method));
            }
        }
        let other = Arc::new(Method::new(OTHER.to_owned(), true, &durations, &active));
        Ok(Self { known, other })
    }

    /// The method that a request's path names.
    pub fn of(&self, path: &str) -> &Arc<Method> {
        self.known.get(path.trim_start_matches('/')).unwrap_or(&self.other)
    }
}

impl Method {
    fn new(name: String, is_traced: bool, durations: &Histograms<2>, active: &Gauges<1>) -> Self {
        let active = active.with([&name]);
        Self { name, is_traced, active, durations: durations.clone(), by_code: Default::default() }
    }

    /// How long its calls with this status have taken.
    pub fn duration(&self, code: Code) -> &Histogram {
        self.by_code[code as usize].get_or_init(|| self.durations.with([&self.name, name(code)]))
    }
}

/// Services and their methods.
fn methods(descriptors: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
    let files = FileDescriptorSet::decode(descriptors).context("descriptor set")?.file;
    let services = files.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
    let methods = services.flat_map(|(package, service)| {
        let service_name = format!("{package}.{}", service.name());
        service.method.iter().map(move |method| (service_name.clone(), method.name().to_owned()))
    });
    Ok(methods.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_name_of_its_number() {
        for (number, expected) in NAMES.into_iter().enumerate() {
            let code = Code::from_i32(number as i32);
            assert_eq!(name(code), expected);
            // `InvalidArgument` as INVALID_ARGUMENT; one L more where gRPC has two.
            let spoken = format!("{code:?}").to_uppercase();
            assert_eq!(expected.replace('_', ""), spoken, "{number}");
        }
    }
}
