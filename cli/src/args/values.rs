//! Values of flags that several commands have, and how they are written.
//!
//! Owns the units: bytes are whole numbers with or without `KiB`, `MiB`, `GiB`; seconds may have a fraction.

use cairnlog_engine::Lsn;
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        self == Switch::On
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The record and a newline
    Raw,
    /// One object a line: `lsn`, `epoch`, `time_ms` (milliseconds since 1970), and the record: as
    /// `data`, a string, if it is UTF-8, else as `data_base64`, with padding
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

pub(super) fn parse_lsn(text: &str) -> Result<Lsn, String> {
    let ordinal: u64 = text.parse().map_err(|_| "an LSN is a whole number from 1 on".to_owned())?;
    Ok(Lsn::new(ordinal))
}

/// Bytes, as a number with or without `KiB`, `MiB` or `GiB` behind it.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.iter().find_map(|(name, shift)| {
        text.strip_suffix(name).map(|number| (number.trim_end(), *shift))
    });
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: u64 = number
        .parse()
        .map_err(|_| "a whole number of bytes, or one of KiB, MiB or GiB, like 64MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more than 64 bits hold".to_owned())
}

pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.01 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("0"), Ok(0));
        assert_eq!(parse_bytes("65536"), Ok(65536));
        assert_eq!(parse_bytes("64KiB"), Ok(65536));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        for text in ["", "KiB", "-1", "1.5MiB", "1MB", "18446744073709551615KiB", "17179869184GiB"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
