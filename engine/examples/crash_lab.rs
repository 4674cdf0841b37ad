//! A tutorial of the laboratory ([`cairnlog_engine::sim`]): a small store, a bug that no ordinary test
//! would find, and how the laboratory finds it.
//!
//! ```text
//! cargo run -p cairnlog-engine --example crash_lab
//! ```
//!
//! The store is a ledger: accounts with balances, and transfers between them. It keeps its transfers in
//! a [`Log`] and its balances in memory. There are two of it. The hasty one takes a transfer as done as
//! soon as it has an LSN ([`Log::append_buffered`]), which is quick, and passes every test that does
//! not cut the power. The careful one waits until the transfer is durable ([`Log::append`]).
//!
//! How to put your own state machine into the laboratory:
//!
//! 1. Give it a disk. Code over the engine opens its log with [`Log::open_on`]; code that has its own
//!    files goes through the trait [`cairnlog_engine::disk::Disk`].
//! 2. Write the work as [`Scenario::run`]. It goes on until the disk gives an error, and answers what it
//!    was promised until then: here, the balances after every transfer that was acknowledged.
//! 3. Write what must be true after a power cut as [`Scenario::check`]. It opens the store as after any
//!    restart and compares: what was acknowledged is there, and what is there makes sense by itself.
//! 4. Let an [`Explorer`] run it. It cuts the power at every operation of the work, and for each cut
//!    looks at many of the states that the disk may be in: unsynced sectors kept, lost, or torn.
//!
//! A failure comes with a line that replays this one state, for the debugger:
//! `CAIRNLOG_REPLAY=1:23:0 cargo run -p cairnlog-engine --example crash_lab`.
//!
//! Exits with 0 when the bug was found and the careful ledger passed, otherwise with 1.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use cairnlog_engine::sim::{Explorer, Failure, REPLAY_VARIABLE, Report, Scenario, SimDisk};
use cairnlog_engine::{Config, Log};

/// Accounts, and what is in them.
type Balances = BTreeMap<u8, i64>;

/// When a transfer counts as done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acknowledge {
    /// When it has an LSN. This is the bug.
    Hastily,
    /// When it is durable.
    WhenDurable,
}

/// A sum that goes from one account to another.
struct Transfer {
    from: u8,
    to: u8,
    sum: u16,
}

impl Transfer {
    fn encode(&self) -> [u8; 4] {
        let [low, high] = self.sum.to_le_bytes();
        [self.from, self.to, low, high]
    }

    fn decode(bytes: &[u8]) -> Result<Transfer, String> {
        let [from, to, low, high] = *bytes else { return Err(format!("{bytes:?}: no transfer")) };
        Ok(Transfer { from, to, sum: u16::from_le_bytes([low, high]) })
    }

    fn apply(&self, balances: &mut Balances) {
        *balances.entry(self.from).or_default() -= i64::from(self.sum);
        *balances.entry(self.to).or_default() += i64::from(self.sum);
    }
}

/// The store.
struct Ledger {
    log: Log,
    balances: Balances,
}

impl Ledger {
    /// Opens the log and replays it.
    fn open(disk: &SimDisk) -> Result<Ledger, String> {
        let config = Config::with_segment_bytes(64 << 10);
        let (log, _) = Log::open_on(Arc::new(disk.clone()), config).map_err(|e| e.to_string())?;
        let mut balances = Balances::new();
        for record in log.iter(..).map_err(|e| e.to_string())? {
            let record = record.map_err(|e| e.to_string())?;
            Transfer::decode(record.bytes())?.apply(&mut balances);
        }
        Ok(Ledger { log, balances })
    }

    fn transfer(&mut self, transfer: &Transfer, when: Acknowledge) -> Result<(), String> {
        let record = transfer.encode();
        match when {
            Acknowledge::Hastily => self.log.append_buffered(&record).map(drop),
            Acknowledge::WhenDurable => self.log.append(&record).map(drop),
        }
        .map_err(|error| error.to_string())?;
        transfer.apply(&mut self.balances);
        Ok(())
    }
}

/// Transfers on a ledger, until the power goes.
struct Transfers(Acknowledge);

/// What the ledger promised.
#[derive(Default)]
struct Promised {
    /// After the last transfer that was acknowledged.
    balances: Balances,
    /// The transfer that was asked for and not answered: it may be there or not.
    in_doubt: Option<Transfer>,
}

impl Transfers {
    fn work(&self, disk: &SimDisk, seed: u64, promised: &mut Promised) -> Result<(), String> {
        let mut ledger = Ledger::open(disk)?;
        for number in 0..8_u8 {
            let [shift, ..] = seed.to_le_bytes();
            let (from, to) = (number % 3, number.wrapping_add(shift) % 4);
            let transfer = Transfer { from, to, sum: 100 + u16::from(number) };
            let acknowledged = ledger.transfer(&transfer, self.0);
            promised.in_doubt = Some(transfer);
            acknowledged?;
            (promised.balances, promised.in_doubt) = (ledger.balances.clone(), None);
        }
        ledger.log.close().map_err(|error| error.to_string())
    }
}

impl Scenario for Transfers {
    type Evidence = Promised;

    fn run(&self, disk: &SimDisk, seed: u64) -> Promised {
        let mut promised = Promised::default();
        // An error here is the power that goes out; what was promised until then is what counts.
        let _ = self.work(disk, seed, &mut promised);
        promised
    }

    fn check(&self, disk: &SimDisk, promised: &Promised) -> Result<(), String> {
        let found = Ledger::open(disk)?.balances;
        let mut with_doubt = promised.balances.clone();
        if let Some(transfer) = &promised.in_doubt {
            transfer.apply(&mut with_doubt);
        }
        if found == promised.balances || found == with_doubt {
            return Ok(());
        }
        Err(format!("acknowledged {:?}, found {found:?}", promised.balances))
    }
}

fn explore(when: Acknowledge) -> Result<Report, Failure> {
    Explorer::new("cargo run -p cairnlog-engine --example crash_lab")
        .seeds(1..4)
        .outcomes(12)
        .explore(&Transfers(when))
}

fn main() -> ExitCode {
    if std::env::var_os(REPLAY_VARIABLE).is_some() {
        println!("the state named by {REPLAY_VARIABLE}, on the hasty ledger");
    }
    println!("the hasty ledger:");
    let found = match explore(Acknowledge::Hastily) {
        Ok(report) => {
            println!("{report}\nthe bug was not found");
            false
        }
        Err(failure) => {
            println!("{failure}");
            true
        }
    };
    println!("\nthe careful ledger:");
    let passed = match explore(Acknowledge::WhenDurable) {
        Ok(report) => {
            println!("{report}");
            true
        }
        Err(failure) => {
            println!("{failure}");
            false
        }
    };
    if found && passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
