//! One running Stallmesh node.

pub mod api;
pub mod barcode;
pub mod card_data;
pub mod card_reader;
pub mod cli;
pub mod config;
mod date;
pub mod demo;
pub mod engine;
pub mod events;
pub mod fraud;
pub mod gateway;
pub mod hub;
pub mod identity;
pub mod import;
pub mod link;
pub mod mesh;
mod phases;
pub mod quote;
pub mod risk;
pub mod runtime;
pub mod schemas;
pub mod search;
pub mod store;
pub mod uplink;
