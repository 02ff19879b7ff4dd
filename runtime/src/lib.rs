//! gilliam-runtime
