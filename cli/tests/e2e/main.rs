//! The built binary, from the outside: what a user types, what clients get, what a crash leaves.

mod bad_input;
mod client;
mod conformance;
mod durable;
mod healing;
mod limits;
mod operator;
mod platform;
mod story;
mod zero_loss;
