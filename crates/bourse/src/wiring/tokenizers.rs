//! From `[[tokenizer]]` and the local node's model to tokenizers that the market counts with.
//!
//! What the local node serves is counted with the tokenizer of its own file, whose hash was checked when it was fetched,
//! unless the configuration pins another. A pin that is not met is an error at the start: nobody's bill is judged by a
//! tokenizer that nobody chose.

use super::WiringError;
use crate::config::{Config, TokenizerSection};
use bourse_gateway::ModelTokenizer;
use bourse_market::RecountRules;
use bourse_tokens::{PinError, PinnedTokenizer};
use bourse_types::{Digest32, ModelSlug};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Tokenizers in one configuration, at most: each takes some megabytes.
pub const TOKENIZERS_MAX: usize = 64;
/// A tolerance of the whole count is as good as none.
const TOLERANCE_BPS_MAX: u32 = 10_000;

/// All tokenizers; `local` is the file of the model that the local node serves.
pub fn tokenizers(config: &Config, local: Option<&Path>) -> Result<Vec<ModelTokenizer>, WiringError> {
    if config.tokenizer.len() > TOKENIZERS_MAX {
        let (value, max) = (config.tokenizer.len() as u64, TOKENIZERS_MAX as u64);
        return Err(WiringError::TooLarge { field: "the number of tokenizers", value, max });
    }
    let mut models = BTreeSet::new();
    let mut all = Vec::with_capacity(config.tokenizer.len() + 1);
    for section in &config.tokenizer {
        if !models.insert(section.model.as_str()) {
            return Err(WiringError::NameTwice { what: "tokenizers", name: section.model.clone() });
        }
        all.push(one(section)?);
    }
    let slug = config.node.model.as_str();
    if let Some(path) = local.filter(|_| !models.contains(slug)) {
        all.extend(of_local(slug, path));
    }
    Ok(all)
}

fn one(section: &TokenizerSection) -> Result<ModelTokenizer, WiringError> {
    let place = format!("tokenizer of `{}`", section.model);
    let model = ModelSlug::parse(&section.model)
        .map_err(|source| WiringError::Name { field: place.clone(), source })?;
    let pin = Digest32::parse_hex(&section.pin).map_err(|_| WiringError::Unusable {
        field: format!("{place}: pin"),
        why: format!("it has 64 hex digits; `bourse tokens pin {}` prints it", section.path.display()),
    })?;
    let usual = RecountRules::default();
    let tolerance_bps = section.tolerance_bps.unwrap_or(usual.tolerance_bps);
    if tolerance_bps > TOLERANCE_BPS_MAX {
        let (value, max) = (tolerance_bps.into(), TOLERANCE_BPS_MAX.into());
        return Err(WiringError::TooLarge { field: "tokenizer.tolerance_bps", value, max });
    }
    let rules = RecountRules {
        tolerance_bps,
        tolerance_tokens: section.tolerance_tokens.unwrap_or(usual.tolerance_tokens),
        media_tokens_max: section.media_tokens.unwrap_or(usual.media_tokens_max),
        hidden_reasoning_tokens_max: section
            .hidden_reasoning_tokens
            .unwrap_or(usual.hidden_reasoning_tokens_max),
    };
    let opened = PinnedTokenizer::open(&section.path, section.template.as_deref(), Some(pin));
    let counter = opened.map_err(|source| WiringError::Tokenizer { place, source: Box::new(source) })?;
    Ok(ModelTokenizer { model, counter: Arc::new(counter), rules })
}

/// The local node says itself what is wrong with its model; without a count its bills are bounded by bytes as others are.
fn of_local(slug: &str, path: &Path) -> Option<ModelTokenizer> {
    let model = ModelSlug::parse(slug).ok()?;
    match PinnedTokenizer::open(path, None, None) {
        Ok(counter) => {
            Some(ModelTokenizer { model, counter: Arc::new(counter), rules: RecountRules::default() })
        }
        Err(error) => {
            let error: &PinError = &error;
            tracing::warn!(%error, slug, "the local node's bills are not recounted");
            None
        }
    }
}

#[cfg(test)]
mod tests;
