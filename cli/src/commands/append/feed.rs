//! The input: where lines come from, and handing them on.
//!
//! Owns the loop that reads. It hands on what there is, and waits for more only when it has handed on all.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use super::lines::Lines;
use crate::exit::{Exit, Failure};

/// See the module.
pub(super) struct Input {
    file: File,
    /// For people.
    name: String,
}

impl Input {
    /// The file, or standard input.
    pub(super) fn open(path: Option<&Path>) -> Result<Input, Failure> {
        let Some(path) = path else {
            let name = "standard input".to_owned();
            // A copy, because that of `std` reads in small pieces.
            let descriptor = io::stdin().as_fd().try_clone_to_owned();
            let input = descriptor.map_err(|error| Failure::io(&name, &error))?;
            return Ok(Input { file: input.into(), name });
        };
        let name = path.display().to_string();
        let failed = |error| Failure::io(&name, &error);
        let mut file = File::open(path).map_err(failed)?;
        // A directory opens, and says only now that it cannot be read.
        let _ = file.read(&mut []).map_err(failed)?;
        Ok(Input { file, name })
    }

    /// Hands lines on as they arrive, until the input ends or `take` says that nobody wants more.
    pub(super) fn feed(
        mut self,
        mut lines: Lines,
        mut take: impl FnMut(&[&[u8]]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let bytes_max = lines.line_bytes_max();
        loop {
            let more = lines.fill(&mut self.file);
            if !more.map_err(|error| Failure::io(&self.name, &error))? {
                break;
            }
            loop {
                let batch = lines.next_batch().map_err(|_| {
                    let name = &self.name;
                    let message =
                        format!("{name}: the next line is over the limit of {bytes_max} bytes");
                    Failure::new(Exit::Failed, message)
                })?;
                if batch.is_empty() {
                    break;
                }
                if !take(&batch)? {
                    return Ok(());
                }
            }
        }
        match lines.rest() {
            Some(rest) => take(&[rest]).map(|_| ()),
            None => Ok(()),
        }
    }
}
