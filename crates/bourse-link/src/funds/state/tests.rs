//! The memory of a connection, without one.
