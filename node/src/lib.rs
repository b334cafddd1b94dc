//! One running Stallmesh node.

pub mod api;
pub mod cli;
pub mod config;
mod date;
pub mod demo;
pub mod engine;
pub mod hub;
pub mod identity;
pub mod import;
pub mod link;
pub mod mesh;
mod phases;
pub mod runtime;
pub mod store;
pub mod uplink;
