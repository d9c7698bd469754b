//! wip
pub mod demo;

pub mod config;
pub mod message;
