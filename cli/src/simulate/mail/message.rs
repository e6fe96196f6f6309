//! Headers of a message (RFC 5322): unfolded, not decoded.

/// The header fields of one message, in order.
#[derive(Debug)]
pub(super) struct Headers(Vec<(String, String)>);

impl Headers {
    /// Reads up to the first empty line. What is not a field is skipped: the mail is recorded anyway.
    pub(super) fn read(message: &[u8]) -> Self {
        let mut fields = Vec::<(String, String)>::new();
        for line in message.split(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                break;
            }
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim_end().to_owned(), value.trim().to_owned()));
            }
        }
        Self(fields)
    }

    /// The first field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfolds_and_stops_at_the_body() {
        let headers = Headers::read(
            b"Subject: one\r\n\ttwo\r\n  three\r\nrubbish\r\nMESSAGE-ID : <a@b>\r\nSubject: later\r\n\r\nX-Orderly-Kind: body\r\n",
        );
        assert_eq!(headers.get("subject"), Some("one two three"));
        assert_eq!(headers.get("Message-Id"), Some("<a@b>"));
        assert_eq!(headers.get("x-orderly-kind"), None);
    }

    #[test]
    fn survives_rubbish() {
        let headers = Headers::read(b" folded onto nothing\n\xff\xfe: \xff\n:\n");
        assert_eq!(headers.get("subject"), None);
    }
}
