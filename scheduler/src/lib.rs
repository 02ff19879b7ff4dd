//! gilliam-scheduler
