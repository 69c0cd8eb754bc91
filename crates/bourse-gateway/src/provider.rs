//! A hosted API as a seller: its address, its headers, its connections.

use crate::adapter::{ProviderAdapter, adapter_of_kind};
use crate::config::{ProviderConfig, ProviderModel};
use crate::failure::Failure;
use crate::ports::{Connect, Target};
use crate::traces::TRACEPARENT;
use crate::upstream::{Exchange, Pool, Pools, UpstreamError, send};
use bourse_types::{ModelSlug, SellerName};
use bourse_wire::dialect::grammar::Shape;
use bourse_wire::dialect::{Api, count};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, response};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;

/// Why a provider's configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The dialect is not known.
    #[error("provider `{name}` has the unknown kind `{kind}`")]
    Kind {
        /// The provider.
        name: SellerName,
        /// The word.
        kind: String,
    },
    /// A price by the unit that cannot be billed.
    #[error(
        "provider `{name}` prices `{model}` by the unit, but what is counted for its operations is another: \
         image for images, second for transcription, character for speech, search for rerank"
    )]
    Unit {
        /// The provider.
        name: SellerName,
        /// The model.
        model: ModelSlug,
    },
    /// The base URL is not usable.
    #[error("provider `{name}` has an unusable base URL: {reason}")]
    BaseUrl {
        /// The provider.
        name: SellerName,
        /// Why.
        reason: &'static str,
    },
    /// A key is for a provider that is not there.
    #[error("there is no provider `{0}`")]
    NoSuch(SellerName),
    /// The key has characters that no header can carry.
    #[error("the API key of provider `{0}` holds characters that no header can carry")]
    Key(SellerName),
}

/// Fewest bytes of a key's start that are taken for it at the end of words that were cut.
const KEY_START_BYTES: usize = 6;

/// One hosted API.
pub(crate) struct Provider {
    pub(crate) adapter: &'static dyn ProviderAdapter,
    /// See [`ProviderConfig::gathers`].
    pub(crate) gathers: bool,
    target: Target,
    headers: HeaderMap,
    /// Path of the base URL, without a slash at its end.
    base_path: String,
    pub(crate) pool: Arc<Pool>,
}

/// One model of a hosted API: its name there, and where to ask for it.
pub(crate) struct Upstream {
    pub(crate) id: Arc<str>,
    /// The `service_tier` that a call names.
    tier_word: Option<&'static str>,
    /// For every grammar that is spoken: where whole answers and streams are asked for.
    uris: Vec<(Shape, [Uri; 2])>,
    /// For every grammar that has an endpoint for it: where prompts are counted.
    counts: Vec<(Shape, Uri)>,
}

impl Upstream {
    /// Where a prompt in this grammar is counted; none where the grammar has no endpoint for it.
    pub(crate) fn count_uri(&self, shape: Shape) -> Option<&Uri> {
        self.counts.iter().find(|(known, _)| *known == shape).map(|(_, uri)| uri)
    }

    /// The body of a call with the tier that the offer is of. `body` is one JSON object that names no tier.
    pub(crate) fn tiered(&self, shape: Shape, body: Bytes) -> Bytes {
        let takes = matches!(shape, Shape::Chat | Shape::Text | Shape::Responses);
        let (Some(word), Some(inside)) = (self.tier_word.filter(|_| takes), body.strip_suffix(b"}")) else {
            return body;
        };
        Bytes::from([inside, b",\"service_tier\":\"", word.as_bytes(), b"\"}"].concat())
    }
}

/// The body of a call.
#[derive(Debug, Clone)]
pub(crate) struct CallBody {
    pub(crate) bytes: Bytes,
    /// Where that is not JSON.
    pub(crate) content_type: Option<HeaderValue>,
}

impl Provider {
    pub(crate) fn new(config: &ProviderConfig, pools: &mut Pools) -> Result<Self, ProviderError> {
        let name = config.name.clone();
        let adapter = adapter_of_kind(&config.kind)
            .ok_or_else(|| ProviderError::Kind { name: name.clone(), kind: config.kind.clone() })?;
        let bad = |reason| ProviderError::BaseUrl { name: name.clone(), reason };
        let base: Uri = config.base_url.parse().map_err(|_| bad("it is not a URL"))?;
        let tls = match base.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it must start with https:// or http://")),
        };
        let authority = base.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') || base.query().is_some() {
            return Err(bad("it must have no user and no query"));
        }
        let host = base.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = base.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut headers = HeaderMap::with_capacity(8);
        let host_value =
            HeaderValue::try_from(authority.as_str()).map_err(|_| bad("its host is not usable"))?;
        headers.insert(header::HOST, host_value);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("bourse/", env!("CARGO_PKG_VERSION"))),
        );
        adapter
            .authorize(&mut headers, config.api_key.as_ref())
            .ok_or_else(|| ProviderError::Key(name.clone()))?;
        let base_path = base.path().trim_end_matches('/').to_owned();
        let target = Target { tls, host, port };
        let pool = pools.of(&target);
        let gathers = config.gathers.unwrap_or(adapter.kind().gathers);
        Ok(Self { adapter, gathers, target, headers, base_path, pool })
    }

    /// Host and port of the API.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.target.host, self.target.port)
    }

    /// What the API says of a failure, without the key that it was called with: some repeat it, and it would end in
    /// buyers' hands.
    pub(crate) fn without_key(&self, mut failure: Failure) -> Failure {
        for value in self.headers.values().filter(|value| value.is_sensitive()) {
            let key = value.to_str().unwrap_or_default();
            let key = key.strip_prefix("Bearer ").unwrap_or(key);
            if !key.is_empty() && failure.reason.contains(key) {
                failure.reason = failure.reason.replace(key, "***");
            }
            // Long words were cut, and with them perhaps the key.
            let mut starts = (KEY_START_BYTES..key.len()).rev().filter_map(|len| key.get(..len));
            if let Some(start) = starts.find(|start| failure.reason.ends_with(start)) {
                failure.reason.truncate(failure.reason.len() - start.len());
                failure.reason.push_str("***");
            }
        }
        failure
    }

    /// Finds out where to ask for a model.
    pub(crate) fn upstream(
        &self,
        name: &SellerName,
        model: &ProviderModel,
    ) -> Result<Upstream, ProviderError> {
        let id = &model.upstream_id;
        let below = |path: &str| {
            let reason = "a model's name does not fit into its path";
            let bad = |_| ProviderError::BaseUrl { name: name.clone(), reason };
            format!("{}{path}", self.base_path).parse::<Uri>().map_err(bad)
        };
        let uri = |shape, stream| below(&self.adapter.path(shape, id, stream));
        let mut counts: Vec<(Shape, Uri)> = Vec::new();
        let mut uris: Vec<(Shape, [Uri; 2])> = Vec::new();
        for shape in Api::ALL.into_iter().filter_map(|api| self.adapter.shape(api)) {
            if !uris.iter().any(|(known, _)| *known == shape) {
                uris.push((shape, [uri(shape, false)?, uri(shape, true)?]));
                if let Some(path) = count::path(shape, &self.adapter.path(shape, id, false)) {
                    counts.push((shape, below(&path)?));
                }
            }
        }
        Ok(Upstream { id: Arc::clone(id), tier_word: model.tier_word, uris, counts })
    }

    /// Sends JSON somewhere and waits for the head of the answer.
    pub(crate) async fn ask(
        &self,
        connect: &dyn Connect,
        connect_within: Duration,
        uri: &Uri,
        body: Bytes,
    ) -> Result<(response::Parts, Exchange), UpstreamError> {
        let body = CallBody { bytes: body, content_type: None };
        let request = || self.request(Some(uri), &body, None);
        send(&self.pool, connect, &self.target, connect_within, request).await
    }

    /// Sends a body, with the trace that it belongs to, and waits for the head of the answer.
    pub(crate) async fn call(
        &self,
        connect: &dyn Connect,
        connect_within: Duration,
        upstream: &Upstream,
        (shape, stream): (Shape, bool),
        (body, traceparent): (&CallBody, Option<&HeaderValue>),
    ) -> Result<(response::Parts, Exchange), UpstreamError> {
        let uris = upstream.uris.iter().find(|(known, _)| *known == shape);
        let uri = uris.map(|(_, uris)| &uris[usize::from(stream)]);
        let request = || self.request(uri, body, traceparent);
        send(&self.pool, connect, &self.target, connect_within, request).await
    }

    fn request(
        &self,
        uri: Option<&Uri>,
        body: &CallBody,
        traceparent: Option<&HeaderValue>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.bytes.clone()));
        *request.method_mut() = Method::POST;
        if let Some(uri) = uri {
            *request.uri_mut() = uri.clone();
        }
        *request.headers_mut() = self.headers.clone();
        if let Some(traceparent) = traceparent {
            request.headers_mut().insert(TRACEPARENT, traceparent.clone());
        }
        if let Some(content_type) = &body.content_type {
            request.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
        }
        request
    }

    /// Asks for what stands at a path below the base URL, and waits for the head of the answer.
    pub(crate) async fn get(
        &self,
        connect: &dyn Connect,
        connect_within: Duration,
        path: &str,
    ) -> Result<(response::Parts, Exchange), UpstreamError> {
        // The base path was part of a URL, and the paths below it are constants.
        let uri: Uri = format!("{}{path}", self.base_path).parse().unwrap_or_default();
        let request = || {
            let mut request = Request::new(Full::new(Bytes::new()));
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = self.headers.clone();
            request.headers_mut().remove(header::CONTENT_TYPE);
            request
        };
        send(&self.pool, connect, &self.target, connect_within, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use bourse_types::{ModelSlug, PicoUsdPerToken, PriceSchedule};

    fn provider(base_url: &str) -> Result<Provider, ProviderError> {
        provider_of(base_url, &mut Pools::default())
    }

    fn provider_of(base_url: &str, pools: &mut Pools) -> Result<Provider, ProviderError> {
        let config = ProviderConfig {
            name: SellerName::parse("p").unwrap(),
            kind: "openai".into(),
            base_url: base_url.into(),
            api_key: Some(Secret::new("sk-canary")),
            gathers: None,
            models: Vec::new(),
        };
        Provider::new(&config, pools)
    }

    #[test]
    fn sellers_at_one_place_share_connections() {
        let mut pools = Pools::default();
        let mut pool = |base_url| provider_of(base_url, &mut pools).unwrap().pool;
        let one = pool("https://a.example/v1");
        assert!(Arc::ptr_eq(&one, &pool("https://a.example/other")));
        for other in ["http://a.example:443/v1", "https://a.example:444/v1", "https://b.example/v1"] {
            assert!(!Arc::ptr_eq(&one, &pool(other)), "{other}");
        }
    }

    fn model() -> ProviderModel {
        let prices = PriceSchedule::per_token(PicoUsdPerToken(1), PicoUsdPerToken(1));
        ProviderModel::new(ModelSlug::parse("a/m").unwrap(), "m", prices)
    }

    #[test]
    fn an_offer_of_a_tier_is_asked_for_as_such() {
        let p = provider("https://x/v1").unwrap();
        let check = |tier_word, shape, want: &str| {
            let upstream =
                p.upstream(&SellerName::parse("p").unwrap(), &ProviderModel { tier_word, ..model() });
            assert_eq!(upstream.unwrap().tiered(shape, Bytes::from_static(b"{\"a\":1}")), want);
        };
        check(None, Shape::Chat, r#"{"a":1}"#);
        check(Some("flex"), Shape::Chat, r#"{"a":1,"service_tier":"flex"}"#);
        check(Some("priority"), Shape::Responses, r#"{"a":1,"service_tier":"priority"}"#);
        check(Some("priority"), Shape::Embeddings, r#"{"a":1}"#);
    }

    #[test]
    fn base_urls_become_targets() {
        let p = provider("https://api.example.com/v1/").unwrap();
        assert_eq!(p.target, Target { tls: true, host: "api.example.com".into(), port: 443 });
        let uri = |p: &Provider, shape| {
            let upstream = p.upstream(&SellerName::parse("p").unwrap(), &model()).unwrap();
            upstream.uris.into_iter().find(|(s, _)| *s == shape).unwrap().1[0].clone()
        };
        assert_eq!(uri(&p, Shape::Chat), "/v1/chat/completions");
        let p = provider("http://[::1]:8080").unwrap();
        assert_eq!(p.target, Target { tls: false, host: "::1".into(), port: 8080 });
        assert_eq!(uri(&p, Shape::Text), "/completions");
        assert_eq!(p.headers[header::HOST], "[::1]:8080");
    }

    #[test]
    fn unusable_base_urls_are_refused() {
        for bad in
            ["", "api.example.com/v1", "ftp://x/v1", "https://u:p@x/v1", "https://x/v1?a=b", "https://"]
        {
            assert!(matches!(provider(bad), Err(ProviderError::BaseUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn keys_do_not_come_back_in_words_that_were_cut() {
        let p = provider("https://x/v1").unwrap();
        let check = |words: &str, want: &str| {
            assert_eq!(p.without_key(Failure::broken(401, words)).reason, want);
        };
        check("bad key sk-canary, sk-canary", "bad key ***, ***");
        check("bad key sk-cana", "bad key ***");
        check("bad key sk-ca", "bad key sk-ca");
        check("fine", "fine");
    }

    #[test]
    fn keys_do_not_show_in_headers() {
        let p = provider("https://x/v1").unwrap();
        assert!(!format!("{:?}", p.headers).contains("canary"));
    }
}
