//! Which transfer of a request an id stands for.
//!
//! Every id is made from the request's own and a number below, so that whoever repeats a call meets its first try. The
//! numbers of the key's allowance are from when there was no other: journals have holds under them.

use bourse_types::{RequestId, TransferId};
use bourse_wire::funds::HOLD_EXTENSIONS_MAX;

/// The roles that every request has.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Role {
    Hold = 0,
    HoldAllowance = 1,
    Post = 2,
    PostAllowance = 3,
    Seller = 4,
    Fee = 5,
    Rounding = 6,
    Gift = 7,
    /// Raises of the money and of the key's allowance count on from here, in turn.
    Raise = 16,
}

impl Role {
    pub(super) fn of(self, request: RequestId) -> TransferId {
        request.transfer(self as u16)
    }
}

/// Beyond the last raise of the money and of the key's allowance.
const HOLDS: u16 = 0x4000;
const POSTS: u16 = 0x4010;
const RATES: u16 = 0x4020;
/// Raises of the allowances that are not the key's, a run of steps for each place.
const RAISES: u16 = 0x8000;

/// The hold on the allowance at a place.
pub(super) fn hold(request: RequestId, place: usize) -> TransferId {
    if place == 0 { Role::HoldAllowance.of(request) } else { request.transfer(HOLDS + place as u16) }
}

/// The settlement of the hold at a place.
pub(super) fn post(request: RequestId, place: usize) -> TransferId {
    if place == 0 { Role::PostAllowance.of(request) } else { request.transfer(POSTS + place as u16) }
}

/// An extension of the money.
pub(super) fn raise_money(request: RequestId, step: u16) -> TransferId {
    request.transfer(Role::Raise as u16 + 2 * step)
}

/// An extension of the hold at a place. Steps begin at 1.
pub(super) fn raise(request: RequestId, place: usize, step: u16) -> TransferId {
    if place == 0 {
        return request.transfer(Role::Raise as u16 + 2 * step + 1);
    }
    request.transfer(RAISES + (place as u16 - 1) * HOLD_EXTENSIONS_MAX + (step - 1))
}

/// What the request takes from the `n`-th of its rates.
pub(super) fn rate(request: RequestId, n: usize) -> TransferId {
    request.transfer(RATES + n as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PLACES_MAX;
    use bourse_types::UnixMs;
    use bourse_wire::funds::{RateUnit, Scope};
    use std::collections::HashSet;

    #[test]
    fn no_two_roles_share_an_id() {
        let request = RequestId::new(UnixMs(7), [9; 10]);
        let steps = || 1..=HOLD_EXTENSIONS_MAX;
        let mut all: Vec<_> = [Role::Hold, Role::Post, Role::Seller, Role::Fee, Role::Rounding, Role::Gift]
            .map(|r| r.of(request))
            .to_vec();
        all.extend((0..PLACES_MAX).flat_map(|place| [hold(request, place), post(request, place)]));
        all.extend(steps().map(|step| raise_money(request, step)));
        all.extend((0..PLACES_MAX).flat_map(|place| steps().map(move |step| raise(request, place, step))));
        all.extend((0..Scope::ALL.len() * RateUnit::ALL.len()).map(|n| rate(request, n)));
        let distinct: HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
