//! Traces on their way to a collector.
//!
//! The gateway makes spans; here they become OpenTelemetry's and leave as OTLP over HTTP in protobuf. A span that ends is
//! put into a queue of [`QUEUE_SPANS_MAX`], or dropped when it is full: no request waits. One thread of the exporter's
//! own sends what is there, with the blocking HTTP client that fetches models. Without a collector's address none of
//! this exists, and the spans are never made.
//!
//! The standard variables count where ours say nothing: `OTEL_EXPORTER_OTLP_ENDPOINT` and its kin for traces name the
//! collector; the library itself reads `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME` and
//! `OTEL_RESOURCE_ATTRIBUTES`.

use crate::config::{Config, Environment};
use crate::report::Plain;
use bourse_gateway::{SPAN_TARGET, TraceContext};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Array, Context, StringValue, Value};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter,
};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// Spans that wait for the collector, at most; more are dropped.
pub const QUEUE_SPANS_MAX: usize = 2_048;
/// Spans of one call of the collector, at most.
pub const BATCH_SPANS_MAX: usize = 512;
/// How long spans wait for others to leave with.
const BATCH_EVERY: Duration = Duration::from_secs(2);
/// How long the collector may take for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process waits for what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a collector's answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What is added to the collector's address.
const PATH: &str = "/v1/traces";
const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";

/// Where spans go: the configuration's collector, or the standard variables'. None: nowhere.
pub fn endpoint(config: &Config, environment: &Environment) -> Option<String> {
    let below = |base: &str| format!("{}{PATH}", base.trim_end_matches('/'));
    if let Some(base) = config.gateway.otlp_endpoint.as_deref().filter(|base| !base.is_empty()) {
        return Some(below(base));
    }
    if environment.get("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return None;
    }
    let of_traces = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").map(str::to_owned);
    of_traces.or_else(|| environment.get("OTEL_EXPORTER_OTLP_ENDPOINT").map(below))
}

/// The exporter. Dropping it sends what is queued, for some seconds at most.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts the thread that sends to `endpoint`.
    pub fn start(endpoint: &str) -> Result<Self, Plain> {
        let refused = || Plain::new(format!("traces cannot be sent to `{endpoint}`"));
        let hint = "gateway.otlp_endpoint is a collector's address, such as http://127.0.0.1:4318";
        let uri = endpoint.parse::<http::Uri>().map_err(|error| refused().because(error).hint(hint))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(refused().hint(hint));
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(CALL_TIMEOUT)
            .with_http_client(Client::new())
            .build()
            .map_err(|error| refused().because(error).hint(hint))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(BATCH_EVERY)
            .build();
        let queue = BatchSpanProcessor::builder(Typed(exporter)).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder().with_span_processor(queue).with_resource(resource());
        Ok(Self(provider.build()))
    }

    /// Makes the gateway's spans OpenTelemetry's, and those alone.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let is_ours = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target() == SPAN_TARGET;
        OpenTelemetryLayer::new(self.0.tracer("bourse"))
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_level(false)
            .with_target(false)
            .with_filter(filter_fn(is_ours))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "some traces were not sent");
        }
    }
}

/// Who sends, in the standard's words.
fn resource() -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let found = Resource::builder().with_attribute(version);
    let named = Resource::builder().build();
    let service = named.get(&"service.name".into()).map(|name| name.to_string());
    // The library's own word for a service that nobody has named.
    if service.is_none_or(|name| name.starts_with("unknown_service")) {
        return found.with_service_name("bourse").build();
    }
    found.build()
}

/// Carries traces over the borders of the process as W3C Trace Context. Without a subscriber that keeps spans it does
/// nothing.
#[derive(Debug, Clone, Copy)]
pub struct TraceParent;

impl TraceContext for TraceParent {
    fn adopt(&self, span: &Span, traceparent: &str) {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent));
        if parent.span().span_context().is_valid() {
            // It fails where nobody keeps the span, and then there is nothing to adopt.
            let _ = span.set_parent(parent);
        }
    }

    fn traceparent(&self, span: &Span) -> Option<String> {
        let context = span.context();
        let span = context.span().span_context().clone();
        let flags = span.trace_flags().to_u8();
        span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
    }
}

/// A carrier of one header.
struct One<'a>(&'a str);

impl Extractor for One<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// An exporter to which lists are given as lists: `tracing` knows none, so the gateway writes them as JSON.
#[derive(Debug)]
struct Typed<E>(E);

impl<E: SpanExporter> SpanExporter for Typed<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for attribute in batch.iter_mut().flat_map(|span| &mut span.attributes) {
            if attribute.key.as_str() == FINISH_REASONS
                && let Value::String(text) = &attribute.value
                && let Ok(list) = serde_json::from_str::<Vec<String>>(text.as_str())
            {
                let list = list.into_iter().map(StringValue::from).collect();
                attribute.value = Value::Array(Array::String(list));
            }
        }
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// The blocking client. Only the exporter's thread may call it.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("bourse/", env!("CARGO_PKG_VERSION")))
            .build();
        Self(config.new_agent())
    }

    fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let (head, body) = self.0.run(Request::from_parts(head, &body[..]))?.into_parts();
        let bytes = body.into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(head, Bytes::from(bytes)))
    }
}

impl HttpClient for Client {
    // What `async fn` is in a trait that boxes its futures.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.call(request) })
    }
}

#[cfg(test)]
mod tests;
