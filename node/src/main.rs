//! The `stallmesh` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    stallmesh_node::cli::run()
}
