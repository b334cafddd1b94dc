//! Whole-system tests of Stallmesh: what they share.

pub mod fraud_market;
pub mod growth;
pub mod market_day;
pub mod naive_fraud;
pub mod naive_quote;
pub mod naive_search;
pub mod processes;
pub mod proxy;
pub mod simulation;
