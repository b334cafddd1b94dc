//! The thread that a proxy runs on.

use std::future::Future;

use tokio::sync::oneshot;

/// Runs a future on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Thread {
    stop: Option<oneshot::Sender<()>>,
    running: Option<std::thread::JoinHandle<()>>,
}

impl Thread {
    /// Begins to run what `make` gives; it is called on the thread, inside a tokio runtime.
    ///
    /// # Panics
    /// No thread, or no runtime.
    pub(super) fn run<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let running = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("a runtime for the proxy: {error}"));
            runtime.block_on(async {
                tokio::select! {
                    () = make() => {}
                    _ = stopped => {}
                }
            });
        });
        let running = running.unwrap_or_else(|error| panic!("a thread for the proxy: {error}"));
        Thread { stop: Some(stop), running: Some(running) }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
