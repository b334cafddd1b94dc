//! Promises of real nodes: processes of the program itself, with their disks, sockets, signals and clocks.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod api;
mod bad_ways;
mod browser;
mod card_numbers;
mod carriers;
mod churn;
mod commands;
mod durability;
mod files;
mod floods;
mod goodbye;
mod interface;
mod joining;
mod offers;
mod outages;
mod papers;
mod payments;
mod puppet;
mod recovery;
mod revocation;
mod roads;
mod still;
mod strangers;
mod till;
