//! The six steps, each with its proof. A figure in a proof was read from a node or counted from what nodes answered.

mod catalogs;
mod dishonest;
mod helper;
mod join;
mod relay;
mod sell;
mod settle;
mod stranger;
mod tills;
mod trouble;
