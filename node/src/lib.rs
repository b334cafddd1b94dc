//! One running Stallmesh node.

pub mod config;
pub mod engine;
pub mod hub;
pub mod identity;
pub mod link;
pub mod mesh;
pub mod runtime;
pub mod store;
pub mod uplink;
