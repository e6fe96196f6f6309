//! What the provider knows: one charge or decline for each payment id, and whether it was refunded.
//!
//! A payment's lock is held from the look-up to the durable line, so that of two calls with the same key one decides
//! and the other repeats its answer.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, serde::rfc3339};
use uuid::Uuid;

use crate::simulate::ledger::{self, Durability, Ledger};

/// What a caller asks to be charged.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) payment_id: Uuid,
    pub(super) order_id: Uuid,
    /// Three capital letters.
    pub(super) currency: String,
    /// Positive.
    pub(super) minor: i64,
    pub(super) token: Token,
}

/// The simulated payment methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Ok,
    Declined,
    InsufficientFunds,
    /// Charged, and the first answer is never sent.
    TimeoutOnce,
    /// Always in an outage, this payment only.
    ProviderDown,
}

impl Token {
    /// The empty token stands for `tok_ok`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "tok_ok" => Self::Ok,
            "tok_declined" => Self::Declined,
            "tok_insufficient_funds" => Self::InsufficientFunds,
            "tok_timeout_once" => Self::TimeoutOnce,
            "tok_provider_down" => Self::ProviderDown,
            _ => return None,
        })
    }
}

/// The provider's answer to a charge. Everything but `Unavailable` and `Mismatch` is durable and never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Charged {
    Succeeded {
        reference: String,
    },
    /// Durable, and this one answer is not to be sent.
    AnswerLost,
    Refused {
        code: String,
    },
    Mismatch,
    Unavailable,
}

/// The provider's answer to a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refunded {
    Succeeded { reference: String, currency: String, minor: i64 },
    NotFound,
    Mismatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Charge,
    Decline,
    Refund,
}

/// One line of the ledger. Tokens are never written; `fingerprint` stands for the whole request.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
    kind: Kind,
    payment_id: Uuid,
    order_id: Uuid,
    currency: String,
    minor: i64,
    reference: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lost_answer: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
}

#[derive(Debug, Default)]
struct Payment {
    outcome: Option<Record>,
    refund: Option<Record>,
}

/// The ledger and its index in memory.
#[derive(Debug)]
pub(super) struct Book {
    payments: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<Payment>>>>,
    ledger: Ledger,
}

impl Book {
    /// Reads the ledger back.
    pub(super) fn open(path: &Path) -> Result<Self, ledger::Error> {
        let mut payments = HashMap::<_, Payment>::new();
        let ledger = Ledger::open(path, Durability::Synced, |record: Record| {
            let payment = payments.entry(record.payment_id).or_default();
            match record.kind {
                Kind::Charge | Kind::Decline => payment.outcome = Some(record),
                Kind::Refund => payment.refund = Some(record),
            }
        })?;
        let payments = payments
            .into_iter()
            .map(|(id, payment)| (id, Arc::new(tokio::sync::Mutex::new(payment))))
            .collect();
        Ok(Self { payments: Mutex::new(payments), ledger })
    }

    /// How many payments have been seen.
    pub(super) fn len(&self) -> usize {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Completes when nothing can be written any more.
    pub(super) async fn stopped(&self) {
        self.ledger.stopped().await;
    }

    /// Charges once for a payment id, or repeats the answer. Must not be cancelled between the line and the index:
    /// run it in a task of its own.
    pub(super) async fn charge(&self, charge: &Charge) -> Result<Charged, ledger::Error> {
        if charge.token == Token::ProviderDown {
            return Ok(Charged::Unavailable);
        }
        let fingerprint = fingerprint(charge);
        let payment = self.payment(charge.payment_id);
        let mut payment = payment.lock().await;
        if let Some(known) = &payment.outcome {
            return Ok(if known.fingerprint.as_deref() == Some(&fingerprint) {
                known.answer()
            } else {
                Charged::Mismatch
            });
        }
        let code = match charge.token {
            Token::Declined => Some("card_declined".to_owned()),
            Token::InsufficientFunds => Some("insufficient_funds".to_owned()),
            Token::Ok | Token::TimeoutOnce | Token::ProviderDown => None,
        };
        let record = Record {
            at: OffsetDateTime::now_utc(),
            kind: if code.is_some() { Kind::Decline } else { Kind::Charge },
            payment_id: charge.payment_id,
            order_id: charge.order_id,
            currency: charge.currency.clone(),
            minor: charge.minor,
            reference: reference("ch"),
            code,
            lost_answer: charge.token == Token::TimeoutOnce,
            fingerprint: Some(fingerprint),
        };
        self.ledger.append(&record).await?;
        let answer = if record.lost_answer { Charged::AnswerLost } else { record.answer() };
        payment.outcome = Some(record);
        Ok(answer)
    }

    /// Gives a whole charge back once, or repeats the answer. As [`Self::charge`], not to be cancelled.
    pub(super) async fn refund(&self, payment_id: Uuid, order_id: Uuid) -> Result<Refunded, ledger::Error> {
        let known = self.payments.lock().unwrap_or_else(PoisonError::into_inner).get(&payment_id).cloned();
        let Some(payment) = known else { return Ok(Refunded::NotFound) };
        let mut payment = payment.lock().await;
        let Some(charge) = payment.outcome.as_ref().filter(|outcome| outcome.kind == Kind::Charge) else {
            return Ok(Refunded::NotFound);
        };
        if charge.order_id != order_id {
            return Ok(Refunded::Mismatch);
        }
        let refund = match &payment.refund {
            Some(refund) => refund.clone(),
            None => {
                let refund = Record {
                    at: OffsetDateTime::now_utc(),
                    kind: Kind::Refund,
                    reference: reference("re"),
                    lost_answer: false,
                    fingerprint: None,
                    ..charge.clone()
                };
                self.ledger.append(&refund).await?;
                payment.refund = Some(refund.clone());
                refund
            }
        };
        Ok(Refunded::Succeeded {
            reference: refund.reference,
            currency: refund.currency,
            minor: refund.minor,
        })
    }

    fn payment(&self, id: Uuid) -> Arc<tokio::sync::Mutex<Payment>> {
        Arc::clone(self.payments.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default())
    }
}

impl Record {
    fn answer(&self) -> Charged {
        match &self.code {
            Some(code) => Charged::Refused { code: code.clone() },
            None => Charged::Succeeded { reference: self.reference.clone() },
        }
    }
}

fn reference(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}

/// Tells whether a repeated key carries the same request, without remembering the token.
fn fingerprint(charge: &Charge) -> String {
    let text = format!("{} {} {} {:?}", charge.order_id, charge.currency, charge.minor, charge.token);
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
