//! Whole-system tests of Stallmesh: what they share.

pub mod simulation;
