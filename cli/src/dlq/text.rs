//! How bytes, moments and tables are written for people. Nothing that a record carries may steer the terminal.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Before bytes that are not text.
pub(super) const HEX: &str = "hex:";

/// As text where that says all of it, else in hex.
pub(super) fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) && !text.starts_with(HEX) => text.to_owned(),
        _ => format!("{HEX}{}", hex(bytes)),
    }
}

/// Two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What [`hex`] has written.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// On one line, without control characters.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// [`plain`], and not longer than this.
pub(super) fn short(text: &str, length: usize) -> String {
    let text = plain(text);
    match text.char_indices().nth(length) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// To the second, in UTC.
pub(super) fn moment(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// `1 record`, `2 records`.
pub(super) fn count(number: i64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Aligned columns; those that hold nothing but numbers to the right.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let is_number = |cell: &String| cell.chars().all(|digit| digit.is_ascii_digit());
    let widths: [usize; N] = std::array::from_fn(width);
    let right: [bool; N] = std::array::from_fn(|column| rows.iter().all(|row| is_number(&row[column])));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(right).map(|((cell, width), right)| {
            if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let lines = [line(&header.map(str::to_owned))].into_iter().chain(rows.iter().map(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_hex() {
        assert_eq!(bytes(b"o-1"), "o-1");
        assert_eq!(bytes(b"\x1b[2J"), "hex:1b5b324a");
        assert_eq!(bytes(&[0xff, 0x00]), "hex:ff00");
        assert_eq!(from_hex("ff00"), Some(vec![0xff, 0x00]));
    }

    #[test]
    fn an_error_stays_on_its_line() {
        assert_eq!(plain("a\nb\x1b[31m"), "a b [31m");
        assert_eq!(short("äöü", 3), "äöü");
        assert_eq!(short("äöüß", 3), "äöü…");
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let row = |name: &str, number: &str| [name.to_owned(), number.to_owned(), "x".to_owned()];
        assert_eq!(
            table(["NAME", "N", "LAST"], &[row("billing", "7"), row("order", "12")]),
            "NAME      N  LAST\nbilling   7  x\norder    12  x"
        );
    }
}
