//! The command half of SMTP (RFC 5321) as a state machine: a line in, a reply out.

/// Largest message, as announced by `SIZE` (RFC 1870).
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// Most recipients of a message; RFC 5321 asks for at least 100.
const MAX_RECIPIENTS: usize = 100;
/// Mistakes after which the client is sent away.
const MAX_ERRORS: u32 = 20;

/// Sender and recipients of one message, never empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) from: String,
    pub(super) to: Vec<String>,
}

/// What to do after a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Reply(&'static str),
    /// Reply and close.
    Close(&'static str),
    /// Receive a message. The session is ready for the next one.
    Data(Envelope),
}

/// Where one connection is.
#[derive(Debug, Default)]
pub(super) struct Session {
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
    errors: u32,
}

impl Session {
    /// Takes one command line, with or without its line end.
    pub(super) fn command(&mut self, line: &[u8]) -> Step {
        let Ok(line) = std::str::from_utf8(line) else { return self.error("500 command is not text\r\n") };
        let line = line.trim_end();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.greet();
                Step::Reply(
                    "250-orderly\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n",
                )
            }
            "HELO" => {
                self.greet();
                Step::Reply("250 orderly\r\n")
            }
            "MAIL" => self.mail(rest),
            "RCPT" => self.rcpt(rest),
            "DATA" => self.data(),
            "RSET" => {
                self.reset();
                Step::Reply("250 ok\r\n")
            }
            "NOOP" => Step::Reply("250 ok\r\n"),
            "VRFY" => Step::Reply("252 send and see\r\n"),
            "QUIT" => Step::Close("221 goodbye\r\n"),
            _ => self.error("500 command is not known\r\n"),
        }
    }

    /// Answers a command line that was longer than a line may be.
    pub(super) fn too_long(&mut self) -> Step {
        self.error("500 line is too long\r\n")
    }

    fn greet(&mut self) {
        self.reset();
        self.greeted = true;
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    fn mail(&mut self, rest: &str) -> Step {
        if !self.greeted || self.from.is_some() {
            return self.error("503 MAIL comes once, after EHLO\r\n");
        }
        let Some((from, parameters)) = path(rest, "FROM:") else {
            return self.error("501 MAIL FROM:<address>\r\n");
        };
        let size = parameters.split_ascii_whitespace().find_map(|parameter| {
            parameter.to_ascii_uppercase().strip_prefix("SIZE=").map(str::parse::<usize>)
        });
        match size {
            Some(Err(_)) => return self.error("501 SIZE is a number\r\n"),
            Some(Ok(size)) if size > MAX_MESSAGE => {
                return self.error("552 message is larger than 1 MiB\r\n");
            }
            _ => {}
        }
        self.from = Some(from.to_owned());
        Step::Reply("250 ok\r\n")
    }

    fn rcpt(&mut self, rest: &str) -> Step {
        if self.from.is_none() {
            return self.error("503 RCPT comes after MAIL\r\n");
        }
        match path(rest, "TO:") {
            Some((to, _)) if to.contains('@') => {
                if self.to.len() == MAX_RECIPIENTS {
                    return self.error("452 more than 100 recipients\r\n");
                }
                self.to.push(to.to_owned());
                Step::Reply("250 ok\r\n")
            }
            _ => self.error("501 RCPT TO:<address>\r\n"),
        }
    }

    fn data(&mut self) -> Step {
        match self.from.take_if(|_| !self.to.is_empty()) {
            Some(from) => Step::Data(Envelope { from, to: std::mem::take(&mut self.to) }),
            None => self.error("503 DATA comes after RCPT\r\n"),
        }
    }

    fn error(&mut self, reply: &'static str) -> Step {
        self.errors += 1;
        if self.errors >= MAX_ERRORS { Step::Close("421 too many mistakes\r\n") } else { Step::Reply(reply) }
    }
}

/// Splits `FROM:<address> parameters`. A bounce has the empty address.
fn path<'a>(text: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = text.split_at_checked(keyword.len())?;
    let rest = head.eq_ignore_ascii_case(keyword).then_some(rest)?;
    rest.trim_start().strip_prefix('<')?.split_once('>')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(lines: &[&str]) -> Vec<String> {
        let mut session = Session::default();
        lines
            .iter()
            .map(|line| match session.command(line.as_bytes()) {
                Step::Reply(reply) | Step::Close(reply) => reply[..3].to_owned(),
                Step::Data(envelope) => format!("{} -> {}", envelope.from, envelope.to.join(",")),
            })
            .collect()
    }

    #[test]
    fn wants_commands_in_order() {
        let lines = [
            "MAIL FROM:<a@b>",
            "EHLO me",
            "RCPT TO:<c@d>",
            "DATA",
            "MAIL FROM:<a@b>",
            "MAIL FROM:<a@b>",
            "DATA",
            "RCPT TO:<c@d>",
            "rcpt to: <e@f> NOTIFY=NEVER",
            "DATA",
            "DATA",
            "QUIT",
        ];
        let expected =
            ["503", "250", "503", "503", "250", "503", "503", "250", "250", "a@b -> c@d,e@f", "503", "221"];
        assert_eq!(replies(&lines), expected);
    }

    #[test]
    fn forgets_the_envelope_on_rset_and_ehlo() {
        let lines = [
            "HELO me",
            "MAIL FROM:<>",
            "RCPT TO:<c@d>",
            "RSET",
            "DATA",
            "MAIL FROM:<a@b>",
            "EHLO me",
            "DATA",
        ];
        assert_eq!(replies(&lines), ["250", "250", "250", "250", "503", "250", "250", "503"]);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let lines = [
            "EHLO me",
            "MAIL FROM:a@b",
            "MAIL FROM:<a@b> SIZE=x",
            "MAIL FROM:<a@b> SIZE=1048577",
            "RCPT",
            "STARTTLS",
            "MAIL FROM:<a@b> size=1048576",
            "RCPT TO:<nobody>",
            "RCPT TO:<c@d",
        ];
        assert_eq!(replies(&lines), ["250", "501", "501", "552", "503", "500", "250", "501", "501"]);
    }

    #[test]
    fn takes_a_hundred_recipients_and_twenty_mistakes() {
        let mut session = Session::default();
        session.command(b"EHLO me");
        session.command(b"MAIL FROM:<a@b>");
        for _ in 0..100 {
            assert_eq!(session.command(b"RCPT TO:<c@d>\r\n"), Step::Reply("250 ok\r\n"));
        }
        assert_eq!(session.command(b"RCPT TO:<c@d>\r\n"), Step::Reply("452 more than 100 recipients\r\n"));
        for _ in 1..19 {
            assert!(matches!(session.command(b"\xff\xfe\r\n"), Step::Reply(_)));
        }
        assert!(matches!(session.command(b"\r\n"), Step::Close(_)));
    }
}
