//! gilliam-builder
