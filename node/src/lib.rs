//! One running Stallmesh node.

pub mod engine;
pub mod hub;
pub mod link;
pub mod store;
