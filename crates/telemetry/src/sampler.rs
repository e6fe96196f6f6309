//! Which traces are recorded: by the standard variables, and with what a span is linked to.

use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{Link, SpanKind},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

use crate::Error;

/// The part of traces that begin here and are recorded, where `OTEL_TRACES_SAMPLER` is not set. A caller who samples its
/// own span has it continued in any case.
pub const DEFAULT_RATIO: f64 = 0.05;

/// By `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, as
/// <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> has them.
pub fn from_variables(sampler: Option<&str>, argument: Option<&str>) -> Result<Sampler, Error> {
    let ratio = |default: f64| match argument {
        None => Ok(default),
        Some(text) => match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err(Error::Variable {
                name: "OTEL_TRACES_SAMPLER_ARG",
                value: text.to_owned(),
                wanted: "a number from 0 to 1",
            }),
        },
    };
    Ok(match sampler {
        None => by_parent(Sampler::TraceIdRatioBased(ratio(DEFAULT_RATIO)?)),
        Some("always_on") => Sampler::AlwaysOn,
        Some("always_off") => Sampler::AlwaysOff,
        Some("traceidratio") => Sampler::TraceIdRatioBased(ratio(1.0)?),
        Some("parentbased_always_on") => by_parent(Sampler::AlwaysOn),
        Some("parentbased_always_off") => by_parent(Sampler::AlwaysOff),
        Some("parentbased_traceidratio") => by_parent(Sampler::TraceIdRatioBased(ratio(1.0)?)),
        Some(other) => {
            return Err(Error::Variable {
                name: "OTEL_TRACES_SAMPLER",
                value: other.to_owned(),
                wanted: "always_on, always_off, traceidratio, or one of these with parentbased_ before it",
            });
        }
    })
}

/// As the parent is; what has none by `root`, or because it is linked to a span that is recorded.
pub fn by_parent(root: Sampler) -> Sampler {
    Sampler::ParentBased(Box::new(Linked(root)))
}

/// A trace that follows from a recorded one is recorded too, or the link would lead nowhere.
#[derive(Clone, Debug)]
struct Linked(Sampler);

impl ShouldSample for Linked {
    fn should_sample(
        &self,
        parent_context: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        span_kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_linked = links.iter().any(|link| link.span_context.is_sampled());
        let sampler = if is_linked { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent_context, trace_id, name, span_kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_names_are_known_and_others_are_refused() {
        let names = ["always_on", "always_off", "traceidratio"];
        for name in names.into_iter().flat_map(|name| [name.to_owned(), format!("parentbased_{name}")]) {
            assert!(from_variables(Some(&name), Some("0.5")).is_ok(), "{name}");
        }
        for (sampler, argument, named) in [
            (Some("sometimes"), None, "OTEL_TRACES_SAMPLER "),
            (None, Some("1.5"), "OTEL_TRACES_SAMPLER_ARG "),
            (Some("traceidratio"), Some("half"), "OTEL_TRACES_SAMPLER_ARG "),
        ] {
            let error = from_variables(sampler, argument).expect_err("refused").to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
