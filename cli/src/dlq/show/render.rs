//! A letter as a page for people.

use std::fmt::Write as _;

use consumer::dead_letters::{Entry, Letter};
use time::OffsetDateTime;

use super::Scene;
use crate::dlq::{
    decode, letter,
    text::{self, moment, plain},
};

/// Bytes of an opaque payload that are shown.
const DUMPED: usize = 1024;

/// The whole page.
pub(super) fn page(scene: &Scene, consumer: &str) -> String {
    let Letter { id, state, replay, attempts, replays, .. } = &scene.letter;
    let letter = &scene.letter;
    let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "none".to_owned(), plain);
    let time = |at: Option<OffsetDateTime>| at.map_or_else(|| "never".to_owned(), moment);
    let is_open = ["parked", "held"].contains(&state.as_str());
    let mut text = format!("dead letter {id}\n\n");
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    field(
        "state",
        match (replay, scene.before) {
            (Some(replay), _) if is_open => format!("{state}, replay {replay} is to process it"),
            (Some(replay), _) => format!("{state} by replay {replay}"),
            (None, Some(before)) => format!("{state}, waits behind {before}"),
            (None, None) => state.clone(),
        },
    );
    field("consumer", consumer.to_owned());
    field("place", letter::place(letter));
    field("key", letter.key.as_deref().map_or_else(|| "none".to_owned(), text::bytes));
    field("type", or_none(&letter.event_type));
    field("event", or_none(&letter.event_id));
    field("source", or_none(&letter.source));
    if let Some(error) = &letter.error {
        field("error", plain(error));
        field("kind", or_none(&letter.kind));
        field("fingerprint", or_none(&letter.fingerprint));
    }
    field("attempts", format!("{attempts}, replayed {}", text::count(i64::from(*replays), "time")));
    field("failed", format!("first {}, last {}", time(letter.first_failed_at), time(letter.last_failed_at)));
    field("parked", moment(letter.parked_at));
    field("version", or_none(&letter.version));
    field("trace", or_none(&letter.trace_id));
    let _ = writeln!(text, "\nheaders");
    for (name, value) in letter.headers.iter() {
        let value = value.map_or_else(|| "null".to_owned(), text::bytes);
        let _ = writeln!(text, "  {:<16} {value}", plain(name));
    }
    payload(&mut text, letter);
    let (count, first) = &scene.behind;
    if *count > 0 {
        let _ = writeln!(text, "\nheld behind it: {}", text::count(*count, "record"));
        for letter in first {
            let _ = writeln!(text, "  {}  {}", letter.id, letter::place(letter));
        }
        let more = count - i64::try_from(first.len()).unwrap_or(0);
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
    }
    let _ = writeln!(text, "\nhistory");
    for Entry { at, actor, action, reason, .. } in &scene.history {
        let (at, actor, reason) = (moment(*at), plain(actor), plain(reason));
        let _ = writeln!(text, "  {at}  {action:<10}  {actor}: {reason}");
    }
    text
}

fn payload(text: &mut String, letter: &Letter) {
    let Some(payload) = &letter.payload else {
        let _ = writeln!(text, "\npayload     none");
        return;
    };
    let bytes = text::count(payload.len() as i64, "byte");
    match decode::json(letter.event_type.as_deref(), payload) {
        Ok(decoded) => {
            let decoded = format!("{decoded:#}").replace(|text: char| text.is_control() && text != '\n', " ");
            let _ = writeln!(text, "\npayload     {bytes}\n{decoded}");
        }
        Err(why) => {
            let _ = writeln!(text, "\npayload     {bytes}, not decoded: {}", plain(&why));
            for line in payload[..payload.len().min(DUMPED)].chunks(32) {
                let _ = writeln!(text, "  {}", text::hex(line));
            }
            if payload.len() > DUMPED {
                let _ = writeln!(
                    text,
                    "  and {} bytes more; `orderly dlq export` has all",
                    payload.len() - DUMPED
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use outbox::Headers;
    use uuid::Uuid;

    use super::*;
    use crate::dlq::show::advice;

    fn parked() -> Letter {
        let mut headers = Headers::default();
        headers.push_text("ce_type", "orderly.billing.v1.PaymentRequested");
        headers.push("twice", Some(vec![0, 255]));
        headers.push("twice", None);
        Letter {
            id: Uuid::nil(),
            consumer: "t1-billing".into(),
            place: ("payment-requests".into(), 3, 17),
            key: Some(b"o-1".to_vec()),
            headers,
            payload: Some(b"no protobuf".to_vec()),
            event_id: Some("0199aa00-0000-7000-8000-000000000000".into()),
            source: Some("/orderly/order".into()),
            event_type: Some("orderly.billing.v1.PaymentRequested".into()),
            state: "parked".into(),
            kind: Some("poison".into()),
            error: Some("payload is no\n\x1b[31mPaymentRequested".into()),
            fingerprint: Some("1a2b3c4d5e6f".into()),
            attempts: 2,
            replays: 0,
            first_failed_at: Some(OffsetDateTime::UNIX_EPOCH),
            last_failed_at: Some(OffsetDateTime::UNIX_EPOCH),
            parked_at: OffsetDateTime::UNIX_EPOCH,
            version: Some("0.1.0".into()),
            trace_id: None,
            replay: None,
        }
    }

    #[test]
    fn a_letter_is_shown_whole_and_cannot_steer_the_terminal() {
        let entry = Entry {
            at: OffsetDateTime::UNIX_EPOCH,
            actor: "t1-billing/0.1.0".into(),
            action: "parked".into(),
            dead_letter: Some(Uuid::nil()),
            replay: None,
            reason: "payload is no PaymentRequested".into(),
        };
        let held = Letter {
            id: Uuid::max(),
            state: "held".into(),
            place: ("payment-requests".into(), 3, 18),
            ..parked()
        };
        let scene = Scene { letter: parked(), before: None, behind: (11, vec![held]), history: vec![entry] };
        let text = page(&scene, "billing");
        assert!(!text.contains('\x1b'));
        insta::assert_snapshot!(text, @"
        dead letter 00000000-0000-0000-0000-000000000000

        state       parked
        consumer    billing
        place       payment-requests[3]@17
        key         o-1
        type        orderly.billing.v1.PaymentRequested
        event       0199aa00-0000-7000-8000-000000000000
        source      /orderly/order
        error       payload is no  [31mPaymentRequested
        kind        poison
        fingerprint 1a2b3c4d5e6f
        attempts    2, replayed 0 times
        failed      first 1970-01-01T00:00:00Z, last 1970-01-01T00:00:00Z
        parked      1970-01-01T00:00:00Z
        version     0.1.0
        trace       none

        headers
          ce_type          orderly.billing.v1.PaymentRequested
          twice            hex:00ff
          twice            null

        payload     11 bytes, not decoded: failed to decode Protobuf message: invalid wire type value: 6
          6e6f2070726f746f627566

        held behind it: 11 records
          ffffffff-ffff-ffff-ffff-ffffffffffff  payment-requests[3]@18
          and 10 more

        history
          1970-01-01T00:00:00Z  parked      t1-billing/0.1.0: payload is no PaymentRequested
        ");
        assert!(advice(&scene).is_some_and(|advice| advice.contains("orderly dlq replay 00000000-")));
    }
}
