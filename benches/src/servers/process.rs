//! The processes that a run starts, and the directory they write in.
//!
//! Owns starting, stopping and removing. Does not know what the processes are.
//!
//! Invariants
//!  N1. What was started does not outlive the run: `Nursery::end` stops it, on every way out of `main`
//!      and from the thread that waits for Ctrl-C. Each process leads a group of its own, which ends with
//!      it.                                             test `nothing_outlives_the_nursery`
//!  N2. After the end nothing is started any more.       test `nothing_is_started_after_the_end`

use std::fs::{self, File, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cairnlog_benches::Result;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long servers may take to stop when they are asked; then they are killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a server may take until it serves.
const READY_TIME_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Nursery {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    servers: Vec<Child>,
    /// Groups of the commands that somebody waits for.
    commands: Vec<Pid>,
    has_ended: bool,
}

impl Nursery {
    /// Makes a new directory in `parent`, which everybody may enter: not all servers run as root.
    pub(crate) fn new(parent: &Path) -> Result<Arc<Self>> {
        let dir = parent.join(format!("cairnlog-servers-{}", std::process::id()));
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        let nursery = Self { dir: fs::canonicalize(dir)?, state: Mutex::default() };
        Ok(Arc::new(nursery))
    }

    /// Where everything is written.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new directory of that name.
    pub(crate) fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Starts a server, which says what it says into `log`. Returns its process id.
    pub(crate) fn serve(&self, command: &mut Command, log: &Path) -> Result<u32> {
        let said = File::create(log)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).process_group(0);
        let mut state = self.state();
        if state.has_ended {
            return Err("the run is over".into());
        }
        let child = command.spawn().map_err(|error| failed_to_start(command, &error))?;
        let id = child.id();
        state.servers.push(child);
        Ok(id)
    }

    /// Runs a command to its end. Returns what it printed; an error when it failed.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String> {
        let output = self.output(command)?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last_words = said.trim_end().rsplit('\n').next().unwrap_or_default();
        let program = command.get_program().to_string_lossy();
        Err(format!("{program} ended with {}: {last_words}", output.status).into())
    }

    fn output(&self, command: &mut Command) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut state = self.state();
        if state.has_ended {
            return Err("the run is over".into());
        }
        let child = command.spawn().map_err(|error| failed_to_start(command, &error))?;
        let group = group_of(&child);
        state.commands.push(group);
        drop(state);
        let output = child.wait_with_output();
        self.state().commands.retain(|running| *running != group);
        Ok(output?)
    }

    /// Stops everything and removes the directory. Does nothing the second time.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.has_ended, true) {
            return;
        }
        let groups: Vec<Pid> = state.servers.iter().map(group_of).collect();
        // A group that is gone is what is wanted. PostgreSQL takes SIGINT for "now, but in good order",
        // the others take it as they take SIGTERM.
        for group in groups.iter().chain(&state.commands) {
            let _gone = kill_process_group(*group, Signal::INT);
        }
        let started = Instant::now();
        let is_running = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        while state.servers.iter_mut().any(is_running) && started.elapsed() < STOP_TIME_MAX {
            thread::sleep(LOOK_EVERY);
        }
        // Commands too: whoever waits for one waits for all that holds its output, also what ignores SIGINT.
        for group in groups.iter().chain(&state.commands) {
            let _gone = kill_process_group(*group, Signal::KILL);
        }
        for child in &mut state.servers {
            let _gone = child.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("servers: {} could not be removed: {error}", self.dir.display());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The lists are whole after every statement, so a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child leads its group: `process_group(0)`.
fn group_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn failed_to_start(command: &Command, error: &std::io::Error) -> String {
    format!("{}: {error}", command.get_program().to_string_lossy())
}

/// Asks until the answer is yes; the last error when it never is.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    loop {
        let answer = is_so();
        if let Ok(true) = answer {
            return Ok(());
        }
        if started.elapsed() > READY_TIME_MAX {
            let why = answer.err().map_or(String::new(), |error| format!(": {error}"));
            return Err(format!("{what} is not ready after {READY_TIME_MAX:?}{why}").into());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A port of 127.0.0.1 that is free for TCP and UDP. Somebody else may still take it before a server does,
/// which then does not start.
pub(crate) fn free_port() -> Result<u16> {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & wait"]);
        command
    }

    #[test]
    fn nothing_outlives_the_nursery() {
        let parent = std::env::temp_dir().join(format!("cairnlog-nursery-{}", std::process::id()));
        fs::create_dir(&parent).expect("the temporary directory is writable");
        let nursery = Nursery::new(&parent).expect("it is new");
        let log = nursery.dir.join("log");
        let id = nursery.serve(&mut sleeper(), &log).expect("every system has sh");
        let command = thread::spawn({
            let nursery = Arc::clone(&nursery);
            move || nursery.run(&mut sleeper())
        });
        while nursery.state().commands.is_empty() {
            thread::sleep(LOOK_EVERY);
        }
        nursery.end();
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "it was waited for");
        assert!(command.join().expect("no panic").is_err(), "it was stopped");
        assert!(!nursery.dir.exists());
        fs::remove_dir(&parent).expect("nothing else is in it");
    }

    #[test]
    fn nothing_is_started_after_the_end() {
        let parent = std::env::temp_dir().join(format!("cairnlog-ended-{}", std::process::id()));
        fs::create_dir(&parent).expect("the temporary directory is writable");
        let nursery = Nursery::new(&parent).expect("it is new");
        nursery.end();
        assert!(nursery.run(&mut sleeper()).is_err());
        assert!(nursery.serve(&mut sleeper(), &parent.join("log")).is_err());
        fs::remove_dir_all(&parent).expect("ours");
    }
}
