//! Reading a whole answer: one event that says it all.

use super::reader::{Reader, Said, Text, parsed};
use super::words::tier_of;
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::gather::Gathered;
use crate::dialect::grammar::SellerError;
use crate::dialect::neutral::Answer;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    response_id: Option<Text<'a>>,
    #[serde(borrow)]
    model_version: Option<Text<'a>>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tier<'a> {
    #[serde(borrow)]
    service_tier: Option<Text<'a>>,
}

/// A whole answer of a seller. One without a candidate is the seller's error.
pub(super) fn read_answer(body: &str) -> Result<Answer, SellerError> {
    let mended = without_lone_surrogates(body);
    let body = mended.as_ref();
    let mut gathered = Gathered::default();
    let news = Reader::default().read_chunk(body, &mut |said| match said {
        Said::Event(event) => gathered.add(event),
        Said::Picture(choice, part) => gathered.part(choice, part),
    })?;
    let choices = gathered.into_choices();
    if choices.is_empty() {
        return Err(SellerError::cut("the answer has no candidates"));
    }
    let head: Head<'_> = parsed(body)?;
    let tier = head.usage_metadata.and_then(|raw| serde_json::from_str::<Tier<'_>>(raw.get()).ok());
    let owned = |text: Text<'_>| text.0.into_owned();
    Ok(Answer {
        id: head.response_id.map(owned),
        model: head.model_version.map(owned),
        choices,
        usage: news.usage.flatten(),
        service_tier: tier.and_then(|tier| tier.service_tier).map(|word| tier_of(&word.0)),
    })
}
