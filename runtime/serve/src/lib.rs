//! gilliam-serve
