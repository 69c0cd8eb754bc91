//! The canonical bytes of a book: every offer with all its fields.

use crate::canonical::{
    Bytes, Canonical, CanonicalError, canonical_enum, canonical_newtype, canonical_struct, put_list,
};
use crate::offer::{
    DataPolicy, Free, Offer, OfferIndex, Operations, PromptBound, Quantization, ServiceTier, Supports, Unit,
};
use crate::snapshot::MarketSnapshot;
use bourse_types::{Digest32, Giver, PriceSchedule};

canonical_newtype!(OfferIndex, Supports, Operations, DataPolicy);
canonical_enum!(ServiceTier { Default = 0, Priority = 1, Flex = 2 });
canonical_enum!(Unit { Image = 0, Second = 1, Character = 2, Search = 3 });
canonical_enum!(Quantization {
    Unknown = 0,
    Int4 = 1,
    Int8 = 2,
    Fp4 = 3,
    Fp6 = 4,
    Fp8 = 5,
    Fp16 = 6,
    Bf16 = 7,
    Fp32 = 8,
    Mxfp4 = 9,
    Nvfp4 = 10,
    Mxfp8 = 11
});
canonical_struct!(PromptBound { bytes_per_token_min, per_message_tokens });
canonical_struct!(Offer {
    model,
    seller,
    prices,
    context_tokens_max,
    completion_tokens_max,
    supports,
    capacity,
    prompt_bound,
    quantization,
    region,
    operations,
    tier,
    data,
    unit,
    is_distillable,
    free
});

/// A free variant was once said with a truth value; what had no list price has the same bytes still.
impl Canonical for Free {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::No => out.push(0),
            Self::Unvalued => out.push(1),
            Self::Listed { list, giver } => {
                out.push(2);
                list.put(out);
                out.push(*giver as u8);
            }
        }
    }

    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        match u8::read(from)? {
            0 => Ok(Self::No),
            1 => Ok(Self::Unvalued),
            2 => {
                let list = PriceSchedule::read(from)?;
                let giver = Giver::from_code(u8::read(from)?).ok_or(CanonicalError::Value("giver"))?;
                Ok(Self::Listed { list, giver })
            }
            _ => Err(CanonicalError::Value("free")),
        }
    }
}

impl Offer {
    /// Canonical bytes of offers, all their fields: for the digest that names a book.
    pub fn canonical_bytes(offers: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_list(offers, &mut bytes);
        bytes
    }
}

/// The digest that the caller gave it, then the offers in their order.
impl Canonical for MarketSnapshot {
    fn put(&self, out: &mut Vec<u8>) {
        self.digest().put(out);
        put_list(self.offers(), out);
    }

    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        let digest = Digest32::read(from)?;
        let offers = Vec::<Offer>::read(from)?;
        Self::new(offers, digest).map_err(|_| CanonicalError::Value("book"))
    }
}
