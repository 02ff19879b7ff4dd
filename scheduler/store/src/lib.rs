//! gilliam-store
