//! gilliam-plan
