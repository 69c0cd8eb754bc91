//! The grammar's own words.

use crate::dialect::grammar::{SellerError, SellerErrorKind};
use crate::dialect::neutral::{Origin, Signed};
use crate::receipt::Finish;

/// Whose signatures can be told to sellers of this grammar.
pub(super) const ORIGIN: Origin = Origin::Google;

/// How a candidate ended. Words that name a failure of the model are the seller's error, and new words are ends.
pub(super) fn finish_of(word: &str) -> Result<Finish, SellerError> {
    Ok(match word {
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Finish::ContentFilter,
        "OTHER"
        | "MALFORMED_FUNCTION_CALL"
        | "MALFORMED_RESPONSE"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "NO_IMAGE"
        | "IMAGE_OTHER" => {
            return Err(SellerError::new(
                SellerErrorKind::Unavailable,
                &format!("the model ended with {word}"),
            ));
        }
        _ => Finish::Stop,
    })
}

/// A signature, as hidden thoughts. `call` is the id of the call that it hangs on.
pub(super) fn signed(data: &str, call: Option<&str>) -> Signed {
    Signed { origin: ORIGIN, id: call.map(str::to_owned), data: data.to_owned(), is_encrypted: true }
}

/// The tier in the field's word.
pub(super) fn tier_of(word: &str) -> String {
    let word = word.to_ascii_lowercase();
    if word == "standard" { "default".to_owned() } else { word }
}
