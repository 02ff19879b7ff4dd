//! A database as an app has it: real files, real threads.

mod hostile;
mod shared;
mod support;
mod transactions;
