//! The real gateway and the real exchange against sellers that misbehave, over real sockets.

mod budget;
mod faults;
mod house;
mod input;
mod media;
mod soak;
mod walk;
