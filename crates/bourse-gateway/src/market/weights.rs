//! Which weights may answer a request that names none: those that its session was answered by, else those that the
//! operator admits.
//!
//! Both become the request's own `quantizations`, so that every attempt keeps to them and a refusal says what to name.
//! What the buyer names is its consent and goes before both.

use super::Market;
use crate::conversation::Conversation;
use bourse_market::{Offer, Preferences, Quantization, QuantizationSet, Rejection, Rejections, WeightsTable};
use bourse_types::UnixMs;
use bourse_wire::error::ApiError;
use parking_lot::Mutex;

/// What is known of weights beside the book.
#[derive(Default)]
pub(super) struct Weights {
    /// What the operator admits; none: any.
    pub(super) admitted: Option<QuantizationSet>,
    sessions: Mutex<WeightsTable>,
}

/// Why a request is held to weights that it does not name.
#[derive(Clone, Copy)]
pub(crate) enum HeldTo {
    /// Its session was answered by them.
    Session(Quantization),
    /// The operator admits no others.
    Admitted(QuantizationSet),
}

impl Weights {
    /// Notes which weights answered; for sessions that their buyer named.
    pub(super) fn answered(&self, conversation: &Conversation, offer: &Offer, now: UnixMs) {
        if conversation.is_named {
            self.sessions.lock().on_success(&conversation.key, offer, now);
        }
    }
}

impl Market {
    /// Holds a request that names no weights to those of its session, or to those that the operator admits.
    pub(crate) fn hold_to_weights(
        &self,
        preferences: &mut Preferences,
        conversation: Option<&Conversation>,
        now: UnixMs,
    ) -> Option<HeldTo> {
        if preferences.quantizations.is_some() {
            return None;
        }
        let named = conversation.filter(|conversation| conversation.is_named);
        let of_session = named.and_then(|named| self.weights.sessions.lock().of(&named.key, now));
        let held = match (of_session, self.weights.admitted) {
            (Some(weights), _) => HeldTo::Session(weights),
            (None, Some(admitted)) => HeldTo::Admitted(admitted),
            (None, None) => return None,
        };
        preferences.quantizations = Some(match held {
            HeldTo::Session(weights) => QuantizationSet::default().with(weights),
            HeldTo::Admitted(admitted) => admitted,
        });
        Some(held)
    }
}

impl HeldTo {
    /// The error of a request that nobody could be asked for, with why some of the offers were left out.
    pub(crate) fn explained(self, error: ApiError, rejected: &Rejections) -> ApiError {
        if rejected.iter().all(|(_, reason)| reason != Rejection::Quantization) {
            return error;
        }
        let why = match self {
            Self::Session(weights) => {
                format!("this session was answered by `{}` weights and goes on with them", weights.as_str())
            }
            Self::Admitted(set) => {
                let words = Quantization::ALL.into_iter().filter(|one| set.contains(*one));
                let words: Vec<&str> = words.map(Quantization::as_str).collect();
                format!("requests that name no weights are answered by {} here", words.join(", "))
            }
        };
        let message = format!("{}; {why}: name others in `provider.quantizations` to consent", error.message);
        ApiError { message: message.into(), ..error }
    }
}
