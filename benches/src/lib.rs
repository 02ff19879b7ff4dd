//! gilliam-benches
