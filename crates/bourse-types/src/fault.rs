//! Who is to blame for a failure, and whether trying again can help.
//!
//! Fault decides who pays: a request that fails by the seller's or the market's fault costs the buyer
//! nothing for undelivered work. `Retry` tells a caller what to do next, so that retry layers of
//! client, gateway and seller do not multiply.

/// The party at whose door a failure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The buyer sent something that cannot be served as it is.
    Buyer,
    /// A seller (provider or node) failed, refused or misbehaved.
    Seller,
    /// The market itself failed.
    Bourse,
}

/// What a caller should do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// The same call may succeed at once, at another seller.
    Elsewhere,
    /// The same call may succeed after this many milliseconds.
    AfterMs(u64),
}
