//! The command line: a shell over the API, and what needs no running node.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks")]

mod arguments;
mod catalog;
pub(crate) mod client;
mod commands;
mod condition;
mod dev;
mod goods;
mod logging;
mod policy;
mod promotion;
mod quote;
mod recover;
mod rules;
mod view;

use std::process::ExitCode;

use clap::Parser;

use self::arguments::Arguments;
pub(crate) use self::commands::{create as create_market_in, export, input_ends, market_key};

use crate::card_data;

/// Why a command failed; its exit status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// 1: anything else.
    #[error("{0}")]
    Failed(String),
    /// 1: an input is wrong; as JSON.
    #[error("{0}")]
    Problem(String),
    /// 3: nobody to ask.
    #[error("no node runs in {directory}: start it with `stallmesh --data-dir {directory} run`")]
    NoNode {
        /// The data directory.
        directory: String,
    },
    /// 4: the node said no.
    #[error("{detail} ({code})")]
    Refused {
        /// A stable code.
        code: String,
        /// A sentence.
        detail: String,
    },
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            CliError::Failed(_) | CliError::Problem(_) => 1,
            CliError::NoNode { .. } => 3,
            CliError::Refused { .. } => 4,
        }
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            // It repeats what was typed, and terminals and shells keep what they show.
            eprint!("{}", card_data::mask(&error.render().to_string()));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(1);
        }
    };
    match runtime.block_on(commands::execute(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                // For programs: nothing beside it.
                CliError::Problem(object) => eprintln!("{}", card_data::mask(object)),
                error => eprintln!("error: {}", card_data::mask(&error.to_string())),
            }
            ExitCode::from(error.exit_code())
        }
    }
}
