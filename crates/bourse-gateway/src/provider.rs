//! A hosted API as a seller: its address, its headers, its connections.

use crate::adapter::{ProviderAdapter, adapter_of_kind};
use crate::config::ProviderConfig;
use crate::ports::{Connect, Target};
use crate::upstream::{Exchange, Pool, UpstreamError, send};
use bourse_types::SellerName;
use bourse_wire::dialect::{Api, Job};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, response};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;

/// Why a provider's configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The dialect is not known.
    #[error("provider `{name}` has the unknown kind `{kind}`; known is `openai`")]
    Kind {
        /// The provider.
        name: SellerName,
        /// The word.
        kind: String,
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
    pub(crate) adapter: Arc<dyn ProviderAdapter>,
    target: Target,
    headers: HeaderMap,
    chat: Uri,
    text: Uri,
    pub(crate) pool: Arc<Pool>,
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
        let path = base.path().trim_end_matches('/');
        let uri =
            |api| format!("{path}{}", adapter.path(api)).parse().map_err(|_| bad("its path is not usable"));
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
        if let Some(key) = &config.api_key {
            adapter.authorize(&mut headers, key).ok_or_else(|| ProviderError::Key(name.clone()))?;
        }
        let (chat, text) = (uri(Api::Chat)?, uri(Api::Text)?);
        let target = Target { tls, host, port };
        Ok(Self { adapter, target, headers, chat, text, pool: Arc::default() })
    }

    /// Sends a job and waits for the head of the answer.
    pub(crate) async fn call(
        &self,
        connect: &dyn Connect,
        connect_within: Duration,
        job: &Job,
        upstream_id: &str,
        max_tokens: Option<u32>,
    ) -> Result<(response::Parts, Exchange), UpstreamError> {
        let body = self.adapter.body(job, upstream_id, max_tokens);
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = match job.api {
                Api::Chat => self.chat.clone(),
                Api::Text => self.text.clone(),
            };
            *request.headers_mut() = self.headers.clone();
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
        assert_eq!(p.chat.path(), "/v1/chat/completions");
        let p = provider("http://[::1]:8080").unwrap();
        assert_eq!(p.target, Target { tls: false, host: "::1".into(), port: 8080 });
        assert_eq!(p.text.path(), "/completions");
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
