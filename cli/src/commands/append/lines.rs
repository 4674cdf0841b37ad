//! Cutting a stream of bytes into lines, as they come.
//!
//! Owns the buffer between the input and the log. Hands out what is there, never waits for more than
//! one read.
//!
//! Invariants
//!  L1. A line that is too long is found as soon as its excess is read, not at its end, and is never
//!      handed out in part.                                        test `a_long_line_ends_it`
//!
//! Bounds: the longest line and [`CHUNK_BYTES`].

use std::io::{self, BufRead, Read};

/// So much is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// A batch has at most so many lines.
const LINES_MAX: usize = 512;
/// What the log adds to each line in a batch.
const PREFIX_BYTES: usize = 4;

/// A line is longer than the log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// See the module.
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the first line that was not handed out starts.
    start: usize,
    /// Up to here there is no newline behind `start`.
    searched: usize,
    /// Where what was read ends.
    end: usize,
    line_bytes_max: usize,
    batch_bytes_max: usize,
}

impl Lines {
    /// A batch of several lines has up to `batch_bytes_max` bytes; a longer line comes alone.
    pub(super) fn new(line_bytes_max: usize, batch_bytes_max: usize) -> Lines {
        let buffer = vec![0; 2 * CHUNK_BYTES];
        Lines { buffer, start: 0, searched: 0, end: 0, line_bytes_max, batch_bytes_max }
    }

    /// The longest line.
    pub(super) fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Reads what there is, waiting only when there is nothing; false at the end of the input. All
    /// whole lines have been handed out before.
    pub(super) fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + CHUNK_BYTES {
            let wanted = 2 * self.buffer.len();
            self.buffer.resize(wanted.min(self.line_bytes_max + 2 * CHUNK_BYTES), 0);
        }
        let room = self.end..self.buffer.len().min(self.end + CHUNK_BYTES);
        loop {
            match input.read(&mut self.buffer[room.clone()]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole lines, without their newlines; empty when there is none.
    pub(super) fn next_batch(&mut self) -> Result<Vec<&[u8]>, TooLong> {
        let mut places = Vec::new();
        let mut bytes = 0;
        while places.len() < LINES_MAX {
            let Some(end) = self.find_newline() else { break };
            let line = self.start..end;
            if line.len() > self.line_bytes_max {
                if places.is_empty() {
                    return Err(TooLong);
                }
                break;
            }
            bytes += line.len() + PREFIX_BYTES;
            if bytes > self.batch_bytes_max && !places.is_empty() {
                break;
            }
            self.start = end + 1;
            self.searched = self.start;
            places.push(line);
        }
        if places.is_empty() && self.end - self.start > self.line_bytes_max {
            return Err(TooLong);
        }
        Ok(places.into_iter().map(|place| &self.buffer[place]).collect())
    }

    /// What stands behind the last newline, at the end of the input.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        (self.start < self.end).then(|| &self.buffer[self.start..self.end])
    }

    fn find_newline(&mut self) -> Option<usize> {
        let mut rest = &self.buffer[self.searched..self.end];
        // The fast search of the standard library; reading from memory cannot fail.
        let skipped = rest.skip_until(b'\n').unwrap_or(0);
        let end = self.searched + skipped;
        if skipped > 0 && self.buffer[end - 1] == b'\n' {
            // Found again at once if the line does not fit into the batch.
            self.searched = end - 1;
            return Some(end - 1);
        }
        self.searched = end;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what is in it in pieces of the given length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (piece, rest) = self.0.split_at(length);
            buffer[..length].copy_from_slice(piece);
            self.0 = rest;
            Ok(length)
        }
    }

    fn batches(lines: &mut Lines, mut input: Pieces<'_>) -> Result<Vec<Vec<Vec<u8>>>, TooLong> {
        let mut batches = Vec::new();
        while lines.fill(&mut input).unwrap() {
            loop {
                let batch = lines.next_batch()?;
                if batch.is_empty() {
                    break;
                }
                batches.push(batch.into_iter().map(<[u8]>::to_vec).collect());
            }
        }
        batches.extend(lines.rest().map(|rest| vec![rest.to_vec()]));
        Ok(batches)
    }

    #[test]
    fn pieces_do_not_matter() {
        let long = vec![b'x'; 700_000];
        let mut text = b"one\n\n\ntwo\n".to_vec();
        text.extend_from_slice(&long);
        text.extend_from_slice(b"\nthree\nrest");
        let expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        for piece in [1, 2, 7, 4096, 1 << 20] {
            let mut lines = Lines::new(1 << 20, 1000);
            let found = batches(&mut lines, Pieces(&text, piece)).unwrap().concat();
            assert_eq!(found, expected, "{piece}");
        }
    }

    #[test]
    fn batches_are_bounded() {
        let text = "line\n".repeat(2000);
        let found = batches(&mut Lines::new(100, 1 << 20), Pieces(text.as_bytes(), 1 << 20));
        assert_eq!(found.unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [512, 512, 512, 464]);
        let found = batches(
            &mut Lines::new(100, 20),
            Pieces(b"1234\n1234\n1234\n12345678901234567\nx", 99),
        );
        assert_eq!(found.unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
    }

    #[test]
    fn a_long_line_ends_it() {
        let mut lines = Lines::new(10, 1000);
        let mut endless = io::repeat(b'x');
        let mut input = Read::chain(&b"one\n1234567890\n"[..], &mut endless);
        assert!(lines.fill(&mut input).unwrap());
        assert_eq!(lines.next_batch().unwrap(), [&b"one"[..], b"1234567890"]);
        assert_eq!(lines.next_batch(), Ok(Vec::new()));
        assert!(lines.fill(&mut input).unwrap());
        assert_eq!(lines.next_batch(), Err(TooLong));
        let mut lines = Lines::new(3, 1000);
        assert!(lines.fill(&mut &b"abc\nabcd\nabc\n"[..]).unwrap());
        assert_eq!(lines.next_batch(), Ok(vec![&b"abc"[..]]));
        assert_eq!(lines.next_batch(), Err(TooLong));
    }

    #[test]
    fn an_endless_line_has_a_bound() {
        let mut lines = Lines::new(3 << 20, 1000);
        let mut endless = io::repeat(b'x');
        let mut read = 0;
        while lines.next_batch() == Ok(Vec::new()) {
            assert!(lines.fill(&mut endless).unwrap());
            read += 1;
        }
        assert!(read <= (3 << 20) / CHUNK_BYTES + 1);
        assert!(lines.buffer.len() <= (3 << 20) + 2 * CHUNK_BYTES);
    }
}
