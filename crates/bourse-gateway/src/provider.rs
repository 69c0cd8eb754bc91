//! A hosted API as a seller: its address, its headers, its connections.

use crate::adapter::{ProviderAdapter, adapter_of_kind};
use crate::config::ProviderConfig;
use crate::ports::{Connect, Target};
use crate::upstream::{Exchange, Pool, UpstreamError, send};
use bourse_types::{ModelSlug, SellerName};
use bourse_wire::dialect::Api;
use bourse_wire::dialect::grammar::Shape;
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
    /// The key has characters that no header can carry.
    #[error("the API key of provider `{0}` holds characters that no header can carry")]
    Key(SellerName),
}

/// One hosted API.
pub(crate) struct Provider {
    pub(crate) adapter: &'static dyn ProviderAdapter,
    target: Target,
    headers: HeaderMap,
    /// Path of the base URL, without a slash at its end.
    base_path: String,
    pub(crate) pool: Arc<Pool>,
}

/// One model of a hosted API: its name there, and where to ask for it.
pub(crate) struct Upstream {
    pub(crate) id: Arc<str>,
    /// For every grammar that is spoken: where whole answers and streams are asked for.
    uris: Vec<(Shape, [Uri; 2])>,
}

/// The body of a call.
#[derive(Debug, Clone)]
pub(crate) struct CallBody {
    pub(crate) bytes: Bytes,
    /// Where that is not JSON.
    pub(crate) content_type: Option<HeaderValue>,
}

impl Provider {
    pub(crate) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
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
        Ok(Self { adapter, target: Target { tls, host, port }, headers, base_path, pool: Arc::default() })
    }

    /// Finds out where to ask for a model.
    pub(crate) fn upstream(&self, name: &SellerName, id: &Arc<str>) -> Result<Upstream, ProviderError> {
        let uri = |shape, stream| {
            let path = self.adapter.path(shape, id, stream);
            let reason = "a model's name does not fit into its path";
            let bad = |_| ProviderError::BaseUrl { name: name.clone(), reason };
            format!("{}{path}", self.base_path).parse::<Uri>().map_err(bad)
        };
        let mut uris: Vec<(Shape, [Uri; 2])> = Vec::new();
        for shape in Api::ALL.into_iter().filter_map(|api| self.adapter.shape(api)) {
            if !uris.iter().any(|(known, _)| *known == shape) {
                uris.push((shape, [uri(shape, false)?, uri(shape, true)?]));
            }
        }
        Ok(Upstream { id: Arc::clone(id), uris })
    }

    /// Sends a body and waits for the head of the answer.
    pub(crate) async fn call(
        &self,
        connect: &dyn Connect,
        connect_within: Duration,
        upstream: &Upstream,
        (shape, stream): (Shape, bool),
        body: &CallBody,
    ) -> Result<(response::Parts, Exchange), UpstreamError> {
        let uri = upstream.uris.iter().find(|(known, _)| *known == shape);
        let request = || {
            let mut request = Request::new(Full::new(body.bytes.clone()));
            *request.method_mut() = Method::POST;
            if let Some((_, uris)) = uri {
                *request.uri_mut() = uris[usize::from(stream)].clone();
            }
            *request.headers_mut() = self.headers.clone();
            if let Some(content_type) = &body.content_type {
                request.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
            }
            request
        };
        send(&self.pool, connect, &self.target, connect_within, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn provider(base_url: &str) -> Result<Provider, ProviderError> {
        Provider::new(&ProviderConfig {
            name: SellerName::parse("p").unwrap(),
            kind: "openai".into(),
            base_url: base_url.into(),
            api_key: Some(Secret::new("sk-canary")),
            models: Vec::new(),
        })
    }

    #[test]
    fn base_urls_become_targets() {
        let p = provider("https://api.example.com/v1/").unwrap();
        assert_eq!(p.target, Target { tls: true, host: "api.example.com".into(), port: 443 });
        let uri = |p: &Provider, shape| {
            let upstream = p.upstream(&SellerName::parse("p").unwrap(), &Arc::from("m")).unwrap();
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
    fn keys_do_not_show_in_headers() {
        let p = provider("https://x/v1").unwrap();
        assert!(!format!("{:?}", p.headers).contains("canary"));
    }
}
