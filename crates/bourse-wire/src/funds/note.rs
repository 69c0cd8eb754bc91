//! The note: what a generation record shows beside the receipt, unsigned.
//!
//! A receipt binds what money and proof need. The rest of a generation record (what the buyer called its
//! session, what the seller called its answer, which plug was used) is a [`GenerationNote`], written beside
//! the receipt and never part of it. Whether the answer was streamed or cancelled is in the receipt and not
//! repeated here.
//!
//! Bytes: a version, the fixed fields, a count and the attempts, then each text that is there: its place in
//! the table (u8), its length (u16), itself. The default note is no bytes at all. Texts are clipped at
//! [`NOTE_TEXT_BYTES_MAX`], so a note never exceeds [`NOTE_BYTES_MAX`].

use crate::canonical::{CanonicalError, Reader, Writer};
use crate::receipt::ATTEMPTS_MAX;
use bourse_types::{Gift, Giver, NAME_BYTES_MAX, NanoUsd, SellerName, TokenCount};

/// Version of the bytes of a request that its buyer pays for.
pub const NOTE_VERSION: u8 = 1;
/// Version of the bytes of one that it does not: what it would cost and who bears it follow the version at once.
pub const GIFT_NOTE_VERSION: u8 = 2;
/// Longest text of a note, in bytes.
pub const NOTE_TEXT_BYTES_MAX: usize = 256;
/// Texts of a note.
const TEXTS: usize = 13;
/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize =
    64 + TEXTS * (3 + NOTE_TEXT_BYTES_MAX) + ATTEMPTS_MAX * (NAME_BYTES_MAX + 24);

/// A short text of a buyer or a seller, clipped at [`NOTE_TEXT_BYTES_MAX`] on the edge of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteText(Box<str>);

impl NoteText {
    /// Keeps the beginning of a text; none of an empty one.
    pub fn clip(text: &str) -> Option<Self> {
        let end = text.floor_char_boundary(NOTE_TEXT_BYTES_MAX.min(text.len()));
        (end > 0).then(|| Self(Box::from(&text[..end])))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What one seller that was asked gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderResponse {
    /// Who was asked.
    pub seller: SellerName,
    /// HTTP status or its equivalent; 0 when nothing came back.
    pub status: u16,
    /// From asking to the head of the answer or the failure.
    pub latency_ms: Option<u32>,
    /// Whether it was asked with the buyer's own key.
    pub is_byok: bool,
}

/// What a generation record shows beside the receipt. [`Default`] says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GenerationNote {
    /// What the buyer does not pay for, where the offer is free and has a list price.
    pub gift: Option<Gift>,
    /// What the buyer's own seller bills it, at list price; none: the market's key served. Filled in by the
    /// exchange.
    pub byok_cost: Option<NanoUsd>,
    /// What the seller billed the market, where known.
    pub upstream_cost: Option<NanoUsd>,
    /// The reasoning part of the generated tokens, where the seller said so.
    pub reasoning_tokens: Option<TokenCount>,
    /// Everybody who was asked, in order; those past [`ATTEMPTS_MAX`] are left out.
    pub provider_responses: Vec<ProviderResponse>,
    /// Which front: `chat`, `completions`, `responses`, `messages`, `embeddings`, …
    pub api_type: Option<NoteText>,
    /// The answer's id at the seller.
    pub upstream_id: Option<NoteText>,
    /// The seller's own word for how it ended.
    pub native_finish_reason: Option<NoteText>,
    /// The buyer's session.
    pub session_id: Option<NoteText>,
    /// The buyer's user.
    pub external_user: Option<NoteText>,
    /// The app's address, as it says.
    pub app_referer: Option<NoteText>,
    /// The app's name, as it says.
    pub app_title: Option<NoteText>,
    /// The buyer's program.
    pub user_agent: Option<NoteText>,
    /// The service tier that was used.
    pub service_tier: Option<NoteText>,
    /// The router that chose the model, where one did.
    pub router: Option<NoteText>,
    /// How sellers were ordered.
    pub strategy: Option<NoteText>,
    /// The preset that was used.
    pub preset: Option<NoteText>,
    /// What groups several generations of one request.
    pub group_id: Option<NoteText>,
}

impl GenerationNote {
    /// Whether the buyer's own key served.
    pub fn is_byok(&self) -> bool {
        self.byok_cost.is_some()
    }

    /// Appends the bytes; nothing for a note that says nothing.
    pub fn write(&self, out: &mut Vec<u8>) {
        if *self == Self::default() {
            return;
        }
        let mut w = Writer { bytes: std::mem::take(out) };
        w.u8(self.gift.map_or(NOTE_VERSION, |_| GIFT_NOTE_VERSION));
        if let Some(Gift { list, giver }) = self.gift {
            w.u64(list.0);
            w.u8(giver as u8);
        }
        w.option(self.byok_cost, |w, cost| w.u64(cost.0));
        w.option(self.upstream_cost, |w, cost| w.u64(cost.0));
        w.option(self.reasoning_tokens, |w, tokens| w.u64(tokens.0));
        let responses = &self.provider_responses[..self.provider_responses.len().min(ATTEMPTS_MAX)];
        w.u8(responses.len() as u8);
        for response in responses {
            w.text(response.seller.as_str());
            w.u32(u32::from(response.status));
            w.option(response.latency_ms, Writer::u32);
            w.u8(u8::from(response.is_byok));
        }
        for (place, text) in self.texts().into_iter().enumerate() {
            if let Some(text) = text {
                w.u8(place as u8);
                w.fixed(&(text.0.len() as u16).to_le_bytes());
                w.fixed(text.0.as_bytes());
            }
        }
        *out = w.bytes;
    }

    /// Reads [`GenerationNote::write`]; every byte is accounted for.
    pub fn read(bytes: &[u8]) -> Result<Self, CanonicalError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut r = Reader::new(bytes);
        let gift = match r.u8()? {
            NOTE_VERSION => None,
            GIFT_NOTE_VERSION => {
                let list = NanoUsd(r.u64()?);
                Some(Gift { list, giver: Giver::from_code(r.u8()?).ok_or(CanonicalError::Value("giver"))? })
            }
            other => return Err(CanonicalError::Version(other)),
        };
        let mut note = Self {
            gift,
            byok_cost: r.option(Reader::u64)?.map(NanoUsd),
            upstream_cost: r.option(Reader::u64)?.map(NanoUsd),
            reasoning_tokens: r.option(Reader::u64)?.map(TokenCount),
            provider_responses: read_responses(&mut r)?,
            ..Self::default()
        };
        let mut after = 0;
        while !r.is_empty() {
            let place = usize::from(r.u8()?);
            if place < after || place >= TEXTS {
                return Err(CanonicalError::Value("text"));
            }
            let len = usize::from(u16::from_le_bytes(r.array()?));
            if len > NOTE_TEXT_BYTES_MAX {
                return Err(CanonicalError::Long(len));
            }
            let text = std::str::from_utf8(r.fixed(len)?).map_err(|_| CanonicalError::Value("text"))?;
            *note.texts_mut()[place] = Some(NoteText::clip(text).ok_or(CanonicalError::Value("text"))?);
            after = place + 1;
        }
        Ok(note)
    }

    /// The texts in the order of their places.
    fn texts(&self) -> [Option<&NoteText>; TEXTS] {
        [
            &self.api_type,
            &self.upstream_id,
            &self.native_finish_reason,
            &self.session_id,
            &self.external_user,
            &self.app_referer,
            &self.app_title,
            &self.user_agent,
            &self.service_tier,
            &self.router,
            &self.strategy,
            &self.preset,
            &self.group_id,
        ]
        .map(Option::as_ref)
    }

    fn texts_mut(&mut self) -> [&mut Option<NoteText>; TEXTS] {
        [
            &mut self.api_type,
            &mut self.upstream_id,
            &mut self.native_finish_reason,
            &mut self.session_id,
            &mut self.external_user,
            &mut self.app_referer,
            &mut self.app_title,
            &mut self.user_agent,
            &mut self.service_tier,
            &mut self.router,
            &mut self.strategy,
            &mut self.preset,
            &mut self.group_id,
        ]
    }
}

fn read_responses(r: &mut Reader<'_>) -> Result<Vec<ProviderResponse>, CanonicalError> {
    let count = usize::from(r.u8()?);
    if count > ATTEMPTS_MAX {
        return Err(CanonicalError::Long(count));
    }
    let one = |r: &mut Reader<'_>| {
        Ok(ProviderResponse {
            seller: SellerName::parse(r.text()?).map_err(|_| CanonicalError::Value("seller"))?,
            status: u16::try_from(r.u32()?).map_err(|_| CanonicalError::Value("status"))?,
            latency_ms: r.option(Reader::u32)?,
            is_byok: match r.u8()? {
                0 => false,
                1 => true,
                _ => return Err(CanonicalError::Value("is_byok")),
            },
        })
    };
    (0..count).map(|_| one(r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(note: &GenerationNote) -> Vec<u8> {
        let mut out = Vec::new();
        note.write(&mut out);
        out
    }

    fn largest() -> GenerationNote {
        let seller = SellerName::parse(&"s".repeat(NAME_BYTES_MAX)).unwrap();
        let response = ProviderResponse { seller, status: 599, latency_ms: Some(9), is_byok: true };
        let mut note = GenerationNote {
            gift: Some(Gift { list: NanoUsd(4), giver: Giver::Market }),
            byok_cost: Some(NanoUsd(1)),
            upstream_cost: Some(NanoUsd(2)),
            reasoning_tokens: Some(TokenCount(3)),
            provider_responses: vec![response; ATTEMPTS_MAX + 1],
            ..GenerationNote::default()
        };
        for (n, text) in note.texts_mut().into_iter().enumerate() {
            *text = NoteText::clip(&format!("{n:0>999}"));
        }
        note
    }

    #[test]
    fn the_largest_note_fits_its_bound_and_comes_back() {
        let written = bytes(&largest());
        assert!(written.len() <= NOTE_BYTES_MAX, "{}", written.len());
        let mut want = largest();
        want.provider_responses.truncate(ATTEMPTS_MAX);
        assert_eq!(GenerationNote::read(&written), Ok(want));
        assert_eq!(bytes(&GenerationNote::default()), b"", "a note that says nothing costs nothing");
        assert_eq!(GenerationNote::read(b""), Ok(GenerationNote::default()));
    }

    #[test]
    fn the_bytes_are_these() {
        let seller = SellerName::parse("oak").unwrap();
        let asked = ProviderResponse { seller, status: 429, latency_ms: None, is_byok: true };
        let note = GenerationNote {
            byok_cost: Some(NanoUsd(258)),
            provider_responses: vec![asked],
            api_type: NoteText::clip("chat"),
            preset: NoteText::clip("é"),
            ..GenerationNote::default()
        };
        let head = "01 01 0201000000000000 00 00 01 03000000 6f616b ad010000 00 01";
        let texts = "00 0400 63686174 0b 0200 c3a9";
        let want = format!("{head}{texts}").replace(' ', "");
        let pairs = (0..want.len()).step_by(2).map(|at| u8::from_str_radix(&want[at..at + 2], 16).unwrap());
        let want: Vec<u8> = pairs.collect();
        assert_eq!(bytes(&note), want);
        // A gift stands between the version, which tells of it, and the rest.
        let gift = Some(Gift { list: NanoUsd(515), giver: Giver::Market });
        let given = bytes(&GenerationNote { gift, ..note });
        assert_eq!(given, [&[2, 3, 2, 0, 0, 0, 0, 0, 0, 1], &want[1..]].concat());
        assert_eq!(GenerationNote::read(&given).map(|note| note.gift), Ok(gift));
        assert_eq!(
            GenerationNote::read(&[&given[..9], &[2], &given[10..]].concat()),
            Err(CanonicalError::Value("giver"))
        );
    }

    #[test]
    fn texts_are_clipped_between_characters() {
        let clip = |text: &str| NoteText::clip(text).map(|text| text.as_str().len());
        assert_eq!(clip(""), None);
        assert_eq!(clip(&"x".repeat(NOTE_TEXT_BYTES_MAX)), Some(NOTE_TEXT_BYTES_MAX));
        assert_eq!(clip(&"x".repeat(NOTE_TEXT_BYTES_MAX + 1)), Some(NOTE_TEXT_BYTES_MAX));
        assert_eq!(clip(&"é".repeat(NOTE_TEXT_BYTES_MAX)), Some(NOTE_TEXT_BYTES_MAX));
        assert_eq!(clip(&format!("x{}", "é".repeat(NOTE_TEXT_BYTES_MAX))), Some(NOTE_TEXT_BYTES_MAX - 1));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let head = [NOTE_VERSION, 0, 0, 0, 0];
        let with = |tail: &[u8]| GenerationNote::read(&[&head, tail].concat());
        assert_eq!(with(&[]), Ok(GenerationNote::default()));
        assert_eq!(GenerationNote::read(&[9]), Err(CanonicalError::Version(9)));
        assert_eq!(with(&[TEXTS as u8, 1, 0, b'x']), Err(CanonicalError::Value("text")), "no such text");
        assert_eq!(with(&[2, 1, 0, b'x', 1, 1, 0, b'x']), Err(CanonicalError::Value("text")), "out of order");
        assert_eq!(with(&[2, 1, 0, b'x', 2, 1, 0, b'x']), Err(CanonicalError::Value("text")), "twice");
        assert_eq!(with(&[2, 0, 0]), Err(CanonicalError::Value("text")), "an empty text");
        assert_eq!(with(&[2, 1, 1]), Err(CanonicalError::Long(257)));
        assert_eq!(with(&[2, 9, 0, b'x']), Err(CanonicalError::Short));
        assert_eq!(GenerationNote::read(&[1, 0, 0, 0, 17]), Err(CanonicalError::Long(17)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_note_or_an_error_and_notes_are_canonical(
            cut in 0usize..6_000, flip in 0usize..6_000, with in any::<u8>(),
        ) {
            let mut written = bytes(&largest());
            let at = flip % written.len();
            written[at] = with;
            written.truncate(cut.max(1));
            if let Ok(note) = GenerationNote::read(&written) {
                let again = bytes(&note);
                prop_assert_eq!(GenerationNote::read(&again), Ok(note));
            }
        }
    }
}
