//! wip
pub mod config;
pub mod message;
