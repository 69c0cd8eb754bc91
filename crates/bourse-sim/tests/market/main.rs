//! The real gateway and the real exchange against sellers that misbehave, over real sockets.

mod budget;
mod cancel;
mod conversations;
mod count;
mod crowd;
mod faults;
mod hedge;
mod house;
mod input;
mod matrix;
mod media;
mod piped;
mod recount;
mod repeats;
mod retry;
mod soak;
mod take_up;
mod walk;
