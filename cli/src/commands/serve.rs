//! `serve`: one node, from its start to its end.
//!
//! Owns the life of the process: what is bound before what, when it says that it serves, and what its end
//! means. The node itself is the server's; what HTTP answers is in `http`.
//!
//! Invariants
//!  V1. It says that it serves after the log is open and both addresses are bound, not before.
//!  V2. A signal ends it with everything flushed, and exit code 0; a second one does not wait for that.
//!  V3. Signals and HTTP have a thread of their own, the node another one: they answer also while that one is busy.
//!  V4. When the storage failed nothing waits for the disk any more: exit code 3 comes at once.

mod config;
mod notify;

use std::io;
use std::sync::Arc;

use cairnlog_replication::protocol::node_id::NodeId;
use cairnlog_replication::server::{Server, ServerConfig};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::connecting;
use crate::args::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::http;
use crate::output::talk;

pub(crate) fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    let config = config::of(args)?;
    let node = start_node_thread().map_err(|error| Failure::io("start a thread", &error))?;
    connecting::run(serve(config, &args.http, &node))
}

/// The thread for everything that is not signals or HTTP. One: more of them take work from each other, which costs
/// more than it gains. It ends with the process.
fn start_node_thread() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("cairnlog-node".to_owned());
    thread.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

async fn serve(config: ServerConfig, http: &str, on: &Handle) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    // Before the log is opened, which may take long: an address that is taken is known at once.
    let listener = TcpListener::bind(http).await;
    let listener = listener.map_err(|error| Failure::io(&format!("--http {http}"), &error))?;
    let node = config.node;
    let Some(server) = start(config, on, &mut signals).await? else { return Ok(Exit::Done) };
    announce(&server, node, &listener)?;
    let observed = Arc::downgrade(&server);
    tokio::spawn(http::serve(listener, move || observed.upgrade().map(|server| server.status())));
    let failed = tokio::select! {
        error = server.ended() => Some(error),
        () = signals.next() => None,
    };
    notify::stopping();
    if let Some(error) = failed {
        // Its end would wait for a disk that may never answer; the process ends instead.
        std::mem::forget(server);
        return Err(error.into());
    }
    stop(server, on, &mut signals).await
}

/// The server, running; `None` when a signal came first.
async fn start(
    config: ServerConfig,
    on: &Handle,
    signals: &mut Signals,
) -> Result<Option<Arc<Server>>, Failure> {
    let directory = config.directory.display().to_string();
    let starting = on.spawn(Server::start(config));
    let started = tokio::select! {
        started = starting => started,
        () = signals.next() => return Ok(None),
    };
    match started {
        Ok(Ok(server)) => Ok(Some(Arc::new(server))),
        // Nothing was acknowledged yet, whatever it is.
        Ok(Err(error)) => Err(Failure::new(Exit::Failed, format!("{directory}: {error}"))),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Failure::new(Exit::Failed, error.to_string())),
    }
}

/// Says that it serves: to people, to scripts that read the line, to systemd.
fn announce(server: &Server, node: NodeId, listener: &TcpListener) -> Result<(), Failure> {
    for warning in server.warnings() {
        talk(format_args!("warning: {warning}"));
    }
    let http = listener.local_addr().map_err(|error| Failure::io("--http", &error))?;
    let quic = server.local_addr();
    talk(format_args!("serving: node {node}, QUIC {quic}, HTTP http://{http}"));
    notify::ready();
    Ok(())
}

/// Flushes and closes.
async fn stop(server: Arc<Server>, on: &Handle, signals: &mut Signals) -> Result<Exit, Failure> {
    // A task of its own, and the only one that has the server: else what is given up here would wait for the
    // disk, and what is kept here the log would wait for.
    let stopping = on.spawn(server.shutdown());
    let stopped = tokio::select! {
        stopped = stopping => stopped,
        () = signals.next() => {
            let text = "a second signal: ended before everything was flushed";
            return Err(Failure::new(Exit::Failed, text));
        }
    };
    match stopped {
        Ok(stopped) => stopped?,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => return Err(Failure::new(Exit::Failed, error.to_string())),
    }
    Ok(Exit::Done)
}

/// What ends a server in good order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::io("listen for signals", &error));
        let terminate = listen(SignalKind::terminate())?;
        Ok(Signals { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
