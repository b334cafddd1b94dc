#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod large_tests;
mod round_trip_tests;
mod shopify_tests;
mod square_tests;
