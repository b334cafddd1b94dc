//! Whole-system tests of Stallmesh: what they share.

pub mod growth;
pub mod market_day;
pub mod processes;
pub mod proxy;
pub mod simulation;
