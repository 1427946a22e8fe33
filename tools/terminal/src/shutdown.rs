//! The shutdown signal: Ctrl-C (SIGINT) or SIGTERM.

use std::{io, process};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// The exit code of a process that a second signal ends: 128 plus the number of SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// Waits for Ctrl-C or SIGTERM.
///
/// The first signal asks the program to finish its work and stop. A second one ends the process at once, for work that
/// takes too long to finish.
#[derive(Debug)]
pub struct Stop {
    /// Closed by the first signal.
    asked: oneshot::Receiver<()>,
}

impl Stop {
    /// Handles both signals from now on. Call it before the work begins, so that no signal is missed.
    ///
    /// # Errors
    /// When the system refuses the signal handlers.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let mut signals =
            Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
        let (first, asked) = oneshot::channel();
        tokio::spawn(async move {
            signals.next().await;
            drop(first);
            signals.next().await;
            process::exit(INTERRUPTED);
        });
        Ok(Self { asked })
    }

    /// Completes when the first signal has arrived.
    pub async fn asked(self) {
        // The sender never sends: the first signal drops it.
        let _closed = self.asked.await;
    }
}

#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
