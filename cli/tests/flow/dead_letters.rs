//! Records that cannot be processed, from the topic to an operator's decision: `orderly dlq`, as its user meets it.

use std::time::Duration;

use cli::credentials::{AUDIT, OPERATOR};
use prost::{Message as _, Name as _};
use proto::{
    billing::v1::PaymentRequested,
    money::v1::Money,
    order::v1::{Order, OrderStatus},
};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;
use testkit::{Platform, until};
use uuid::Uuid;

use crate::{
    client::{SETTLE, cancel, place, platform, reached},
    home::{Home, Said},
};

#[tokio::test]
async fn what_cannot_be_read_is_looked_at_replayed_in_vain_and_discarded() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("dead letter");
    let home = Home::of(&platform).await?;
    let order = place(&platform, "tok_ok").await?;
    reached(&platform, &order.order_id, OrderStatus::Confirmed).await?;
    // The second asks for what was paid already, which is no news to billing.
    publish(&platform, &order, 100, b"no protobuf".to_vec()).await?;
    publish(&platform, &order, 101, again(&order).encode_to_vec()).await?;
    let groups = until("one is parked and one waits", SETTLE, || async {
        let groups = json(&home.orderly(OPERATOR, &["dlq", "list", "--json"]).await?)?;
        Ok((groups[0]["held"] == 1).then_some(groups))
    })
    .await?;
    let group = &groups[0];
    assert_eq!(
        (&group["consumer"], &group["kind"], &group["parked"]),
        (&"billing".into(), &"poison".into(), &1.into())
    );
    let fingerprint = group["fingerprint"].as_str().unwrap_or_default();
    let listed = dlq(&home, &["list"], 0).await?;
    assert!(
        listed.data.contains(fingerprint) && listed.words.contains("dlq replay --fingerprint"),
        "{listed:?}"
    );

    let lines = dlq(&home, &["list", "--ids", "--json", "--key", &order.order_id], 0).await?;
    let letters: Vec<Value> = lines.data.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [parked, held] = letters.as_slice() else { anyhow::bail!("two letters, not {letters:?}") };
    assert_eq!((&parked["state"], &held["state"]), (&"parked".into(), &"held".into()));
    let [parked, held] = [parked, held].map(|letter| letter["id"].as_str().unwrap_or_default());

    let shown = dlq(&home, &["show", parked], 0).await?;
    for words in
        ["ce_sequence", "6e6f2070726f746f627566", "not decoded", held, "held behind it: 1 record", "parked"]
    {
        assert!(shown.data.contains(words), "{words:?} is not in {}", shown.data);
    }
    let shown = json(&dlq(&home, &["show", held, "--json"], 0).await?)?;
    assert_eq!(
        (&shown["waits_for"], &shown["payload"]["order_id"]),
        (&parked.into(), &order.order_id.into())
    );
    let exported = dlq(&home, &["export", "--consumer", "billing"], 0).await?;
    assert_eq!(exported.data.lines().count(), 2);

    let only = ["replay", "--fingerprint", fingerprint, "--reason", "a try"];
    let dry = dlq(&home, &[&only[..], &["--dry-run"]].concat(), 0).await?;
    assert_eq!(
        dry.data,
        "billing: 1 letter would be replayed, and then 1 record held behind them; 1 key would go on\n"
    );
    let again = dlq(&home, &[&only[..], &["--results"]].concat(), 1).await?;
    assert!(again.words.contains("billing: 1 selected, 0 replayed, 1 dead again"), "{again:?}");
    assert!(again.data.contains(&format!("{parked}  dead-again  payload is no")), "{again:?}");
    let status = json(&dlq(&home, &["status", "--json"], 0).await?)?;
    assert_eq!((&status[0]["state"], &status[0]["dead_again"]), (&"done".into(), &1.into()));
    let replay = status[0]["id"].as_str().unwrap_or_default();
    let late = dlq(&home, &["stop", replay, "--reason", "too late"], 1).await?;
    assert!(late.words.contains("is done, not running"), "{late:?}");

    let waits = dlq(&home, &["replay", held, "--reason", "a try"], 1).await?;
    assert!(waits.words.contains("follows by itself"), "{waits:?}");
    let unknown = dlq(&home, &["show", &Uuid::nil().to_string()], 1).await?;
    assert!(
        unknown.words.contains("no dead letter has the id") && unknown.words.contains("list --ids"),
        "{unknown:?}"
    );
    let nobody =
        dlq(&home, &["list", "--postgres", "postgres://orderly_operator:secret@127.0.0.1:1"], 1).await?;
    assert!(nobody.words.contains("in orderly_order could not be reached; is the platform up"), "{nobody:?}");
    assert!(!nobody.words.contains("secret"), "{nobody:?}");
    let homeless = dlq(&home, &["list", "--data-dir", "/nonexistent"], 1).await?;
    assert!(homeless.words.contains("no platform was started"), "{homeless:?}");
    let unasked = dlq(&home, &["discard", parked, "--reason", "rubbish"], 1).await?;
    assert!(unasked.words.contains("say --yes"), "{unasked:?}");
    let gone = dlq(&home, &["discard", parked, "--reason", "rubbish", "--actor", "ada", "--yes"], 0).await?;
    assert!(gone.words.contains("billing: 1 letter discarded, 1 record released"), "{gone:?}");
    until("nothing waits any more", SETTLE, || async {
        let shown = json(&dlq(&home, &["show", held, "--json"], 0).await?)?;
        Ok((shown["state"] == "replayed").then_some(()))
    })
    .await?;
    assert!(dlq(&home, &["list"], 0).await?.words.contains("No dead letters."));
    let history = json(&dlq(&home, &["show", parked, "--json"], 0).await?)?["history"].clone();
    let actions: Vec<_> = history.as_array().into_iter().flatten().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["parked", "replay", "dead-again", "discarded"]);
    assert_eq!(history[3]["actor"], "ada");

    // Nothing has caused these records, and yet each had its effect at most once.
    let report = json(&home.orderly(AUDIT, &["verify", "--json"]).await?)?;
    for rule in ["dead-letters", "effects-once"] {
        assert_eq!(outcome(&report, rule), "ok", "{report:#}");
    }
    assert_eq!(outcome(&report, "events-published"), "broken");
    Ok(())
}

#[tokio::test]
async fn once_the_cause_is_mended_everything_takes_effect_in_its_order() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    platform.expect_log("dead letter");
    let home = Home::of(&platform).await?;
    let billing = platform.billing.superuser().await?;
    sqlx::raw_sql(
        "create function break() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$;
         create trigger break before insert on payments for each row execute function break()",
    )
    .execute(&billing)
    .await?;
    let (one, two) = (place(&platform, "tok_ok").await?, place(&platform, "tok_ok").await?);
    // Billing hears of it once stock is reserved.
    reached(&platform, &two.order_id, OrderStatus::StockReserved).await?;
    cancel(&platform, &two.order_id).await?;
    until("two are parked and a refund waits", SETTLE, || async {
        let groups = json(&home.orderly(OPERATOR, &["dlq", "list", "--json"]).await?)?;
        Ok((groups[0]["parked"] == 2 && groups[0]["held"] == 1).then_some(()))
    })
    .await?;
    let report = json(&home.orderly(AUDIT, &["verify", "--json", "--settle", "1s"]).await?)?;
    assert_eq!(outcome(&report, "dead-letters"), "ok", "{report:#}");
    assert!(report.to_string().contains("3 records wait as dead letters"), "{report:#}");

    sqlx::raw_sql("drop trigger break on payments").execute(&billing).await?;
    billing.close().await;
    let slowly = ["replay", "--all", "--reason", "mended", "--detach", "--rate", "0.01", "--json"];
    let id = json(&dlq(&home, &slowly, 0).await?)?[0]["id"].as_str().unwrap_or_default().to_owned();
    let nothing = dlq(&home, &["replay", "--all", "--reason", "mended"], 0).await?;
    assert!(nothing.words.contains("that no replay has yet"), "{nothing:?}");
    let listed = dlq(&home, &["list", "--ids", "--json"], 0).await?;
    let letters: Vec<Value> = listed.data.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let taken = letters.iter().find(|letter| letter["replay"] == id).and_then(|letter| letter["id"].as_str());
    let taken = dlq(&home, &["replay", taken.unwrap_or_default(), "--reason", "mended"], 1).await?;
    assert!(taken.words.contains(&format!("in a replay already; `orderly dlq status {id}`")), "{taken:?}");
    let stopped = dlq(&home, &["stop", &id, "--reason", "too slow"], 0).await?;
    assert!(stopped.words.contains(&format!("dlq resume {id}")), "{stopped:?}");
    dlq(&home, &["resume", &id, "--reason", "patience"], 0).await?;
    // A replay that goes on does not wait for its rate, so each time one more record is processed.
    let told = until("the replay is done", SETTLE, || async {
        for turn in ["stop", "resume"] {
            home.orderly(OPERATOR, &["dlq", turn, &id, "--reason", "impatience"]).await?;
        }
        let told = dlq(&home, &["status", &id], 0).await?;
        Ok(told.data.contains(" done ").then_some(told))
    })
    .await?;
    assert!(
        told.words.contains("2 selected, 2 replayed (and 1 that waited behind them), 0 dead again"),
        "{told:?}"
    );
    reached(&platform, &one.order_id, OrderStatus::Confirmed).await?;
    reached(&platform, &two.order_id, OrderStatus::Cancelled).await?;
    let report = home.orderly(AUDIT, &["verify", "--json"]).await?;
    assert_eq!(report.code, Some(0), "{report:?}");
    Ok(())
}

/// Runs `orderly dlq` as the operator, and expects this exit code.
async fn dlq(home: &Home, args: &[&str], code: i32) -> anyhow::Result<Said> {
    let said = home.orderly(OPERATOR, &[&["dlq"], args].concat()).await?;
    anyhow::ensure!(said.code == Some(code), "{args:?}: {said:?}");
    Ok(said)
}

fn json(said: &Said) -> anyhow::Result<Value> {
    serde_json::from_str(&said.data).map_err(|error| anyhow::anyhow!("{error}: {said:?}"))
}

fn outcome<'r>(report: &'r Value, rule: &str) -> &'r str {
    let rules = report["invariants"].as_array().into_iter().flatten();
    rules
        .filter(|known| known["name"] == rule)
        .find_map(|known| known["outcome"].as_str())
        .unwrap_or_default()
}

/// The request for the payment of an order, as the order service writes it.
fn again(order: &Order) -> PaymentRequested {
    PaymentRequested {
        payment_id: order.payment_id.clone(),
        order_id: order.order_id.clone(),
        customer_id: order.customer_id.clone(),
        amount: Some(Money { currency: "EUR".to_owned(), minor: 4_999 }),
        payment_token: "tok_ok".to_owned(),
        not_after: None,
    }
}

/// Publishes a payment request that no outbox has written.
async fn publish(platform: &Platform, order: &Order, sequence: i64, payload: Vec<u8>) -> anyhow::Result<()> {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", platform.kafka()).create()?;
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", Uuid::now_v7().to_string()),
        ("ce_source", "/orderly/order".to_owned()),
        ("ce_type", PaymentRequested::full_name()),
        ("ce_sequence", sequence.to_string()),
    ];
    let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let topic = format!("{}payment-requests", platform.prefix);
    let record = FutureRecord::to(&topic).key(&order.order_id).payload(&payload).headers(headers);
    producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    Ok(())
}
