//! The simulators' ledgers and the records of load runs: NDJSON, whose last line may be torn.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::verify::facts::{Acked, AckedOrder, Money, ProviderLines};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Charge,
    Decline,
    Refund,
}

#[derive(Deserialize)]
struct ProviderLine {
    kind: Kind,
    payment_id: Uuid,
    currency: String,
    minor: i64,
    reference: String,
}

#[derive(Deserialize)]
struct MailLine {
    message_id: Option<String>,
}

#[derive(Deserialize)]
struct AckedHead {
    run: String,
    system_identifier: i64,
}

#[derive(Deserialize)]
struct AckedLine {
    order_id: Uuid,
    request_id: Uuid,
    customer_id: String,
    total_minor: i64,
    currency: String,
}

/// What the provider knows of each payment; nothing where there is no ledger.
pub(super) fn provider(path: &Path) -> anyhow::Result<HashMap<Uuid, ProviderLines>> {
    let mut payments = HashMap::<Uuid, ProviderLines>::new();
    lines(path, |line: ProviderLine| {
        let payment = payments.entry(line.payment_id).or_default();
        let amount = Money { currency: line.currency, minor: line.minor };
        match line.kind {
            Kind::Charge => payment.charges.push((amount, line.reference)),
            Kind::Decline => payment.declines += 1,
            Kind::Refund => payment.refunds.push(amount),
        }
    })?;
    Ok(payments)
}

/// How often each Message-ID was accepted; nothing where there is no ledger.
pub(super) fn mails(path: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut mails = BTreeMap::new();
    lines(path, |line: MailLine| {
        *mails.entry(line.message_id.unwrap_or_else(|| "without a Message-ID".to_owned())).or_default() += 1;
    })?;
    Ok(mails)
}

/// The acknowledged orders of runs against this cluster.
pub(super) fn acked(dir: &Path, system_identifier: i64) -> anyhow::Result<Acked> {
    let mut acked = Acked::default();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(acked),
        entries => entries.with_context(|| unreadable(dir))?,
    };
    for entry in entries {
        let path = entry.with_context(|| unreadable(dir))?.path();
        if path.extension().is_none_or(|extension| extension != "ndjson") {
            continue;
        }
        match run(&path, system_identifier)? {
            Some(orders) => {
                acked.files += 1;
                acked.orders.extend(orders);
            }
            None => acked.other_files += 1,
        }
    }
    Ok(acked)
}

/// None where the run was made against another cluster, or died before it wrote which.
fn run(path: &Path, system_identifier: i64) -> anyhow::Result<Option<Vec<AckedOrder>>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Line {
        Head(AckedHead),
        Order(AckedLine),
    }
    let (mut run, mut orders) = (None::<Arc<str>>, Vec::new());
    let (mut headed, mut headless) = (false, false);
    lines(path, |line: Line| match line {
        Line::Head(head) => {
            headed = true;
            run = (head.system_identifier == system_identifier).then(|| Arc::from(head.run));
        }
        Line::Order(order) => {
            headless |= !headed;
            orders.extend(run.as_ref().map(|run| AckedOrder {
                run: Arc::clone(run),
                order_id: order.order_id,
                customer_id: order.customer_id,
                request_id: order.request_id,
                total: Money { currency: order.currency, minor: order.total_minor },
            }));
        }
    })?;
    // Orders that no run claims would go unchecked.
    ensure!(!headless, "{} has lost its first line, which names the run; move the file away", path.display());
    Ok(run.map(|_| orders))
}

/// Hands over every whole line. A last one without its end was never acknowledged.
fn lines<T: DeserializeOwned>(path: &Path, mut each: impl FnMut(T)) -> anyhow::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.with_context(|| unreadable(path))?,
    };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    for number in 1_u64.. {
        line.clear();
        reader.read_until(b'\n', &mut line).with_context(|| unreadable(path))?;
        if line.pop() != Some(b'\n') {
            break;
        }
        each(serde_json::from_slice(&line).with_context(|| {
            format!("{} line {number} is not what `orderly` writes; move the file away", path.display())
        })?);
    }
    Ok(())
}

fn unreadable(path: &Path) -> String {
    format!("{} could not be read; check its permissions", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_this_cluster_count() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let order = |id: Uuid| {
            format!(
                r#"{{"order_id":"{id}","request_id":"{id}","customer_id":"c","total_minor":7,"currency":"EUR"}}"#
            )
        };
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let head = |id: i64| format!(r#"{{"run":"r{id}","system_identifier":{id}}}"#);
        fs::write(dir.path().join("a.ndjson"), format!("{}\n{}\n{}", head(1), order(one), order(two)))?;
        fs::write(dir.path().join("b.ndjson"), format!("{}\n{}\n", head(2), order(two)))?;
        fs::write(dir.path().join("c.ndjson"), "{\"run\":")?;
        fs::write(dir.path().join("notes.txt"), "not a run")?;
        let acked = acked(dir.path(), 1)?;
        assert_eq!((acked.files, acked.other_files), (1, 2));
        let found: Vec<_> = acked.orders.iter().map(|order| (&*order.run, order.order_id)).collect();
        assert_eq!(found, [("r1", one)]);
        Ok(())
    }

    #[test]
    fn a_damaged_line_is_named_and_a_missing_file_is_empty() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        assert!(mails(&dir.path().join("none"))?.is_empty());
        let path = dir.path().join("mail.ndjson");
        fs::write(&path, "{\"message_id\":\"a@orderly\"}\nrubbish\n")?;
        let error = mails(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("line 2"), "{error}");
        let order = r#"{"order_id":"00000000-0000-0000-0000-000000000000","request_id":"00000000-0000-0000-0000-000000000000","customer_id":"c","total_minor":7,"currency":"EUR"}"#;
        fs::write(dir.path().join("run.ndjson"), format!("{order}\n"))?;
        fs::remove_file(path)?;
        let error = acked(dir.path(), 1).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("has lost its first line"), "{error}");
        Ok(())
    }
}
