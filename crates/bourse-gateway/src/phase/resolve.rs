//! Names of a request: presets before it is parsed, aliases after.
//!
//! A preset adds members to the body, so it is merged before the parse; the receipt keeps the hash of what the buyer
//! sent. An alias stands for the first of its models that somebody sells at a known price: an operator lists the newest
//! first, and so `~author/family-latest` moves by itself when a seller gets the newer one. Suffixes such as `:nitro`
//! stay with the name that they were written behind. Answers name the model that was resolved.

use super::parse;
use super::prove::hash;
use crate::config::{Alias, GatewayConfig};
use crate::explain::Wanted;
use crate::gateway::Shared;
use crate::market::Book;
use bourse_types::{Digest32, ModelSlug};
use bourse_wire::dialect::fields::{ModelRef, preset};
use bourse_wire::dialect::{Api, BODY_BYTES_MAX, Job, front, openai};
use bourse_wire::error::{ApiError, ErrorType};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// The operator's names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Whether it is written with `~`, and the rest of the name.
    aliases: HashMap<(bool, ModelSlug), Vec<ModelSlug>>,
    /// The same as they are written.
    written: BTreeMap<String, Vec<ModelSlug>>,
    presets: HashMap<String, String>,
}

/// A request with its names resolved.
pub(crate) struct Resolved {
    pub(crate) job: Job,
    /// When its last byte was there.
    pub(crate) read: Instant,
    /// The preset that was merged.
    pub(crate) preset: Option<String>,
    /// Of the bytes that the buyer sent, where a preset changed them.
    pub(crate) request_hash: Option<Digest32>,
    /// What the buyer named; only for who asks to be told of the choice.
    pub(crate) requested: Option<Box<Requested>>,
}

/// The model as the buyer named it, before presets and aliases.
#[derive(Debug)]
pub(crate) struct Requested {
    pub(crate) name: String,
    /// How the name became a model, in OpenRouter's word.
    pub(crate) strategy: &'static str,
}

impl Requested {
    /// The strategy where the name is the model's own.
    pub(crate) const DIRECT: &'static str = "direct";
}

/// Reads a request, within its bounds of size and time.
pub(crate) async fn job<B>(
    shared: &Shared,
    api: Api,
    headers: &HeaderMap,
    body: B,
) -> Result<Resolved, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let received = parse::read(headers, body, BODY_BYTES_MAX, shared.config.timeouts.body).await?;
    let read = Instant::now();
    let merged = shared.names.merged(&received)?;
    let request_hash = merged.as_ref().map(|_| hash(&received));
    let is_told = Wanted::of(headers).metadata;
    let written = merged.as_ref().filter(|_| is_told).map(|(_, preset)| as_written(&received, preset));
    let (body, preset) = merged.map_or((received, None), |(body, preset)| (body, Some(preset)));
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let mut job =
        front::parse_typed(api, content_type, body).map_err(|error| within(error, preset.as_deref()))?;
    let first = job.routing.models.first().filter(|_| is_told).cloned();
    shared.names.resolve(&mut job, || shared.market.book())?;
    let requested = first.map(|first| {
        let strategy = match &first {
            alias if alias.is_alias => "latest",
            name if name.slug != job.model => "alias",
            _ => Requested::DIRECT,
        };
        Box::new(Requested { name: written.unwrap_or_else(|| first.to_string()), strategy })
    });
    Ok(Resolved { job, read, preset, request_hash, requested })
}

/// The error of a request that a preset was merged into: what is missing or wrong may be the preset's.
fn within(error: ApiError, preset: Option<&str>) -> ApiError {
    let Some(preset) = preset else { return error };
    let message = format!("{}; the preset `{preset}` is part of this request", error.message);
    ApiError { message: message.into(), ..error }
}

/// The model in the bytes that a buyer sent, or the preset that names it.
fn as_written(body: &[u8], preset: &str) -> String {
    let written = std::str::from_utf8(body).ok().and_then(preset::model_as_written);
    written.unwrap_or_else(|| format!("@preset/{preset}"))
}

impl Names {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let alias = |Alias { name, is_tilde, models }: &Alias| ((*is_tilde, name.clone()), models.clone());
        let written = |Alias { name, is_tilde, models }: &Alias| {
            (format!("{}{name}", if *is_tilde { "~" } else { "" }), models.clone())
        };
        Self {
            aliases: config.aliases.iter().map(alias).collect(),
            written: config.aliases.iter().map(written).collect(),
            presets: config.presets.iter().map(|p| (p.name.clone(), p.members_json.clone())).collect(),
        }
    }

    /// Whether that is an alias, as it is written.
    pub(crate) fn is_alias(&self, written: &str) -> bool {
        self.written.contains_key(written)
    }

    /// The model that an alias stands for now; none where that is no alias.
    pub(crate) fn target_of(&self, written: &str, book: &Book) -> Option<&str> {
        target(self.written.get(written)?, book).map(ModelSlug::as_str)
    }

    /// Every alias as it is written, in order, with the model that it stands for now.
    pub(crate) fn aliases<'n>(&'n self, book: &'n Book) -> impl Iterator<Item = (&'n str, &'n str)> {
        let entry = |(written, models): (&'n String, &'n Vec<ModelSlug>)| {
            Some((written.as_str(), target(models, book)?.as_str()))
        };
        self.written.iter().filter_map(entry)
    }

    /// The body with what its preset adds, and the preset; none where none is named. Damaged bodies are the parser's.
    fn merged(&self, body: &Bytes) -> Result<Option<(Bytes, String)>, ApiError> {
        // Most requests name none, and must not be walked over twice. Who writes the word with escapes is told by the
        // parser that presets are merged before.
        if memchr::memmem::find(body, b"preset").is_none() {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(body) else { return Ok(None) };
        if !text.trim_ascii_start().starts_with('{') {
            return Ok(None);
        }
        let Some(name) = preset::named(text)? else { return Ok(None) };
        let members = self.presets.get(&name).ok_or_else(|| {
            let message = format!(
                "there is no preset `{name}` here: check its name, or put its members into the request"
            );
            ApiError { param: Some("preset".into()), ..ApiError::new(ErrorType::NotFound, message) }
        })?;
        let merged = preset::merge(text, members)?;
        if merged.len() > BODY_BYTES_MAX {
            return Err(openai::body_too_large());
        }
        Ok(Some((merged, name)))
    }

    /// Replaces aliases by the models that they stand for.
    fn resolve(&self, job: &mut Job, book: impl FnOnce() -> std::sync::Arc<Book>) -> Result<(), ApiError> {
        let is_known = |model: &ModelRef| self.aliases.contains_key(&(model.is_alias, model.slug.clone()));
        if job
            .routing
            .models
            .iter()
            .all(|model| !model.is_alias && (self.aliases.is_empty() || !is_known(model)))
        {
            return Ok(());
        }
        let book = book();
        for (place, model) in job.routing.models.iter_mut().enumerate() {
            let Some(models) = self.aliases.get(&(model.is_alias, model.slug.clone())) else {
                if model.is_alias {
                    return Err(no_alias(&model.slug, place));
                }
                continue;
            };
            if let Some(slug) = target(models, &book) {
                model.slug = slug.clone();
                model.is_alias = false;
            }
        }
        let mut slugs: Vec<ModelSlug> = Vec::with_capacity(job.routing.models.len());
        job.routing.models.retain(|model| {
            let is_new = !slugs.contains(&model.slug);
            slugs.extend(is_new.then(|| model.slug.clone()));
            is_new
        });
        job.model = slugs.remove(0);
        job.fallbacks = slugs;
        Ok(())
    }
}

/// The first of an alias's models that is sold; the first where none is.
fn target<'m>(models: &'m [ModelSlug], book: &Book) -> Option<&'m ModelSlug> {
    models.iter().find(|slug| is_sold(book, slug)).or(models.first())
}

/// Whether somebody offers a model at a known price.
fn is_sold(book: &Book, slug: &ModelSlug) -> bool {
    let offers = book.snapshot.offers_of(slug.as_str());
    offers.is_some_and(|mut offers| offers.any(|(_, offer)| offer.prices.is_some()))
}

fn no_alias(slug: &ModelSlug, place: usize) -> ApiError {
    let message = format!("there is no alias `~{slug}` here: GET /v1/models lists what is offered");
    let param = if place == 0 { "model" } else { "models" };
    ApiError { param: Some(param.into()), ..ApiError::new(ErrorType::NotFound, message) }
}
