//! Hyper-parameters: read from the metadata, checked against limits and each other.

use super::LoadError;
use crate::gguf::GgufFile;
use crate::kernels::{AttentionShape, BLOCK};

/// Most layers.
pub(crate) const LAYERS_MAX: usize = 1024;
/// Most columns of a hidden state or of the feed-forward part.
pub(crate) const WIDTH_MAX: usize = 1 << 17;
/// Most query heads.
pub(crate) const HEADS_MAX: usize = 1024;
/// Most columns of one head.
pub(crate) const HEAD_WIDTH_MAX: usize = 1024;
/// Longest context in tokens; positions below it have exact rotary angles.
pub(crate) const CONTEXT_TOKENS_MAX: usize = 1 << 24;
/// What a head's width must be a multiple of, for the attention's vectors.
const HEAD_WIDTH_STEP: usize = 16;

/// The numbers that decide the graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) feed_width: usize,
    pub(crate) attention: AttentionShape,
    pub(crate) context_tokens_max: usize,
    pub(crate) epsilon: f32,
    /// Columns of a head that are rotated.
    pub(crate) rotated: usize,
    /// Base of the rotary frequencies.
    pub(crate) rotary_base: f32,
    /// Positions are divided by this (linear scaling); 1 for none.
    pub(crate) rotary_divisor: f32,
}

impl Shape {
    pub(crate) fn from_gguf(file: &GgufFile, architecture: &str) -> Result<Self, LoadError> {
        let key = |name: &str| format!("{architecture}.{name}");
        let number = |name: &str, max: usize| -> Result<usize, LoadError> {
            let value = file.get_u32(&key(name))? as usize;
            if (1..=max).contains(&value) {
                Ok(value)
            } else {
                Err(LoadError::Shape(format!("{name} is {value}, not between 1 and {max}")))
            }
        };
        let or = |name: &str, max: usize, default: usize| match file.value(&key(name)) {
            None => Ok(default),
            Some(_) => number(name, max),
        };
        let float_or = |name: &str, default: f32| match file.value(&key(name)) {
            None => Ok(default),
            Some(_) => file.get_f32(&key(name)),
        };
        let width = number("embedding_length", WIDTH_MAX)?;
        let heads = number("attention.head_count", HEADS_MAX)?;
        let head_width = or("attention.key_length", HEAD_WIDTH_MAX, width / heads)?;
        let shape = Self {
            layers: number("block_count", LAYERS_MAX)?,
            width,
            feed_width: number("feed_forward_length", WIDTH_MAX)?,
            attention: AttentionShape {
                heads,
                kv_heads: or("attention.head_count_kv", HEADS_MAX, heads)?,
                head_width,
            },
            context_tokens_max: number("context_length", CONTEXT_TOKENS_MAX)?,
            epsilon: file.get_f32(&key("attention.layer_norm_rms_epsilon"))?,
            rotated: or("rope.dimension_count", HEAD_WIDTH_MAX, head_width)?,
            rotary_base: float_or("rope.freq_base", 10_000.0)?,
            rotary_divisor: match file.get_str(&key("rope.scaling.type")) {
                Err(_) | Ok("none") => 1.0,
                Ok("linear") => file.get_f32(&key("rope.scaling.factor"))?,
                Ok(other) => return Err(LoadError::Shape(format!("rotary scaling {other:?} is not run"))),
            },
        };
        shape.check(or("attention.value_length", HEAD_WIDTH_MAX, head_width)?)?;
        Ok(shape)
    }

    fn check(&self, value_width: usize) -> Result<(), LoadError> {
        let AttentionShape { heads, kv_heads, head_width } = self.attention;
        let demands = [
            (self.width.is_multiple_of(BLOCK), "the width is not a multiple of 32"),
            (self.feed_width.is_multiple_of(BLOCK), "the feed-forward width is not a multiple of 32"),
            (
                head_width > 0 && head_width.is_multiple_of(HEAD_WIDTH_STEP),
                "a head is not a multiple of 16 wide",
            ),
            (head_width <= HEAD_WIDTH_MAX, "a head is more than 1024 wide"),
            ((heads * head_width).is_multiple_of(BLOCK), "all heads together are not a multiple of 32 wide"),
            (heads.is_multiple_of(kv_heads), "query heads are not a multiple of key heads"),
            (value_width == head_width, "keys and values differ in width"),
            (
                self.rotated.is_multiple_of(2) && self.rotated <= head_width,
                "more columns are rotated than a head has",
            ),
            (self.epsilon >= 0.0 && self.epsilon < 1.0, "the norm's epsilon is not between 0 and 1"),
            ((1.0..1e12).contains(&self.rotary_base), "the rotary base is not between 1 and 1e12"),
            ((1e-3..1e6).contains(&self.rotary_divisor), "the rotary scaling is not between 1e-3 and 1e6"),
        ];
        match demands.iter().find(|(met, _)| !met) {
            None => Ok(()),
            Some((_, complaint)) => Err(LoadError::Shape((*complaint).to_owned())),
        }
    }

    /// Columns of all query heads together.
    pub(crate) fn query_width(&self) -> usize {
        self.attention.heads * self.attention.head_width
    }

    /// Columns of all key (or value) heads together.
    pub(crate) fn key_width(&self) -> usize {
        self.attention.kv_heads * self.attention.head_width
    }
}
