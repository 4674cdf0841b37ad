//! The text format of Prometheus, version 0.0.4.
//!
//! Owns how families of samples are written; which there are is in `metrics`.
//!
//! Invariants
//!  E1. A family is written once, with its HELP and TYPE in front of its samples: a second one of the same
//!      name is dropped, for a scraper would refuse the whole page.       test `a_family_is_written_once`
//!  E2. No text that comes from elsewhere can end a line or a label.       test `texts_are_escaped`

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

/// What goes in front of every name.
const PREFIX: &str = "cairnlog_";

/// The page so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    names: BTreeSet<String>,
}

/// A value; integers are written in full, beyond the 53 bits of a float.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    Whole(u64),
    Float(f64),
}

impl From<bool> for Sample {
    fn from(is: bool) -> Sample {
        Sample::Whole(u64::from(is))
    }
}

impl Page {
    /// One sample without labels. What ends in `_total` is a counter, all else a gauge.
    pub(super) fn single(&mut self, name: &str, help: &str, sample: Sample) {
        self.family(name, help, None, [(String::new(), sample)]);
    }

    /// One sample for each value of a label.
    pub(super) fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (String, Sample)>,
    ) {
        self.family(name, help, Some(label), samples);
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        label: Option<&str>,
        samples: impl IntoIterator<Item = (String, Sample)>,
    ) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        self.line(format_args!("# HELP {PREFIX}{name} {}", escaped(help, false)));
        self.line(format_args!("# TYPE {PREFIX}{name} {kind}"));
        for (value, sample) in samples {
            let sample = written(sample);
            match label {
                Some(label) => {
                    let value = escaped(&value, true);
                    self.line(format_args!("{PREFIX}{name}{{{label}=\"{value}\"}} {sample}"));
                }
                None => self.line(format_args!("{PREFIX}{name} {sample}")),
            }
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// A text as HELP has it, or as the value of a label, where quotes count too.
fn escaped(text: &str, is_label: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label { text.replace('"', "\\\"") } else { text }
}

fn written(sample: Sample) -> String {
    match sample {
        Sample::Whole(value) => value.to_string(),
        Sample::Float(value) if value.is_nan() => "NaN".to_owned(),
        Sample::Float(value) if value.is_infinite() => {
            if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
        }
        Sample::Float(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_once() {
        let mut page = Page::default();
        page.single("x_total", "How often.", Sample::Whole(u64::MAX));
        page.single("x_total", "Again.", Sample::Whole(1));
        page.single("y_seconds", "How long.", Sample::Float(0.25));
        let expected = "# HELP cairnlog_x_total How often.\n\
                        # TYPE cairnlog_x_total counter\n\
                        cairnlog_x_total 18446744073709551615\n\
                        # HELP cairnlog_y_seconds How long.\n\
                        # TYPE cairnlog_y_seconds gauge\n\
                        cairnlog_y_seconds 0.25\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn texts_are_escaped() {
        let mut page = Page::default();
        let samples = [("a\"b\\c\nd".to_owned(), Sample::Whole(1))];
        page.labelled("x", "A \"b\"\\\n.", "name", samples);
        let expected = "# HELP cairnlog_x A \"b\"\\\\\\n.\n\
                        # TYPE cairnlog_x gauge\n\
                        cairnlog_x{name=\"a\\\"b\\\\c\\nd\"} 1\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn floats_are_those_of_prometheus() {
        let values = [1.0, 1.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let written = values.map(|value| written(Sample::Float(value)));
        assert_eq!(written, ["1", "1.5", "+Inf", "-Inf", "NaN"]);
    }
}
