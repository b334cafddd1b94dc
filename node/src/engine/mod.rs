//! What a whole node does: logs, views, checkout, custody, hub.
//!
//! Deterministic: the same store, identity, seed, inputs and times give the same effects. It knows neither sockets nor
//! clocks nor threads. The caller
//!
//! 1. hands over what happened with [`Engine::handle`], as often as it likes;
//! 2. calls [`Engine::commit`], which makes everything written since the last commit durable, at once;
//! 3. carries out what [`Engine::poll_effect`] gives. Nothing that depends on a write leaves before its commit.
//! 4. calls again with [`Input::Tick`] at [`Engine::poll_timeout`].
//!
//! After an error of [`Engine::commit`] the engine must be dropped and opened anew.

mod request;

pub use self::request::*;
