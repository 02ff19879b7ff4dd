//! gilliam-engine
