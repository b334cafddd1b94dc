//! Whole-system tests of Stallmesh: what they share.

pub mod processes;
pub mod simulation;
