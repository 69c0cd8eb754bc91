//! An attempt at what is no conversation: one whole answer, or the events of a stream.

use super::{Attempt, Content, Won, broken_off};
use crate::config::ANSWER_BYTES_MAX;
use crate::deadline;
use crate::failure::Failure;
use crate::provider::{Provider, Upstream};
use crate::recount::Gauge;
use crate::source::{ProviderSource, claim_of, units_of};
use bourse_market::Counting;
use bourse_wire::dialect::grammar::SellerError;
use bourse_wire::dialect::passthrough::{MediaPassage, TokenClaim, read_answer};
use bytes::Bytes;
use http::{HeaderValue, header, response};
use tokio::time::Instant;

impl Attempt<'_> {
    /// A whole answer that is no conversation.
    pub(super) fn passed(self, head: &response::Parts, body: Bytes) -> Result<Won, Failure> {
        let answer = read_answer(self.job, content_type(head), body).map_err(|error| told(&error))?;
        let mut meter = self.meter(Counting::Passed);
        meter.on_content(answer.content_bytes);
        meter.on_units(units_of(answer.units));
        if answer.claim != TokenClaim::None {
            meter.on_claim(claim_of(answer.tokens_claimed()));
        }
        Ok(self.won(Content::Passed(Box::new(answer)), Gauge::new(meter, None), None))
    }

    /// Starts a stream of pictures, sound or a transcript. What a seller says in one piece is taken apart.
    pub(super) async fn media(
        &mut self,
        provider: &Provider,
        upstream: &Upstream,
        until: Instant,
    ) -> Result<ProviderSource, Failure> {
        let shape = self.shape(provider)?;
        let (head, mut exchange) = self.call(provider, upstream, shape, until).await?;
        let kind = content_type(&head);
        let is_whole = kind.is_some_and(|kind| !is_events(kind));
        let ours = self.head();
        let (passage, said) = if is_whole {
            let body = exchange.collect(ANSWER_BYTES_MAX, self.timeouts().idle);
            let body = deadline::by(self.deadline, body).await.ok_or_else(|| self.late("no whole answer"))?;
            let body = body.map_err(|error| broken_off(&error, 200))?;
            let answer = read_answer(self.job, kind, body).map_err(|error| told(&error))?;
            let (passage, said) = MediaPassage::of_answer(self.job, &ours, &answer);
            (passage, Some(said))
        } else {
            (MediaPassage::new(self.job, &ours), None)
        };
        Ok(ProviderSource::of_media(exchange, Box::new(passage), said))
    }
}

fn content_type(head: &response::Parts) -> Option<&str> {
    head.headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str).and_then(Result::ok)
}

fn is_events(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/event-stream")
}

fn told(error: &SellerError) -> Failure {
    Failure::told(error, 200, None)
}
