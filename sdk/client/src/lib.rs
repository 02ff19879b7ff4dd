//! gilliam-client
