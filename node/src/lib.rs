//! One running Stallmesh node.

pub mod engine;
pub mod link;
pub mod store;
