//! The grammar of Google's `generateContent` and `streamGenerateContent?alt=sse`. Sellers speak it, buyers do not.
//!
//! **Signed thoughts.** A model's `thoughtSignature` is its thoughts, encrypted, and hangs on a part: on a call of a
//! function, or on text. It must come back on that part; newer models refuse a call without it. In the neutral form it
//! is hidden reasoning of [`Origin::Google`](super::neutral::Origin::Google) right before its part, and the id of a
//! call's is the call's own, so that it is found again in a grammar that keeps thoughts apart from calls. Shown
//! thoughts are not sent back: the signatures hold them.
//!
//! **Calls.** Not every model gives its calls ids; those without get one made of the event they came in. A result
//! must name its function, which is taken from the call with its id.
//!
//! **Schemas** go as JSON Schema (`parametersJsonSchema`, `responseJsonSchema`). Keywords that the vendor does not
//! enforce are sent all the same, with a notice.
//!
//! **Usage.** Thoughts are counted beside the answer, and results of the seller's own tools beside the prompt; the
//! market's counts are the sums. Counts of zero are left out by the vendor, so the answer's is taken from the total.
//!
//! **Streams** have no end mark: they are whole when every candidate has told why it ended. Reasons that name a failure
//! of the model (a malformed call, say) are errors of the seller. Safety settings stay the vendor's defaults.
//!
//! Sources: Google's Gemini API reference (generateContent, function calling, thought signatures, thinking, structured
//! outputs, file input methods, troubleshooting) and the types of its JavaScript SDK, as of 2026-10.

mod answer;
mod errors;
mod models;
mod reader;
mod usage;
mod words;
mod write;

use super::grammar::{Call, Dialect, EventReader, Facts, Framing, SellerError, Shape, Written};
use super::neutral::{Answer, Request};
use crate::error::ApiError;

/// Most stop strings that sellers of this grammar take.
pub const STOPS_MAX: usize = 5;
/// Most candidates of one answer.
pub const CANDIDATES_MAX: u32 = 8;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Gemini;

const FACTS: Facts = Facts {
    shape: Shape::Gemini,
    framing: Framing::Sse,
    path: models::path,
    list: models::LIST,
    count: Some(models::COUNT),
    #[cfg(test)]
    mirror: Some(&tests::MIRROR),
};

impl Dialect for Gemini {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn write(&self, request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
        write::write(request, call)
    }

    fn read_answer(&self, body: &str) -> Result<Answer, SellerError> {
        answer::read_answer(body)
    }

    fn reader(&self) -> Box<dyn EventReader> {
        Box::new(reader::Reader::default())
    }

    fn read_error(&self, status: u16, body: &[u8]) -> SellerError {
        errors::read_error(status, body)
    }
}

#[cfg(test)]
mod tests;
