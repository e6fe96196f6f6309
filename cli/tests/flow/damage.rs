//! Breaks by hand what `orderly verify` audits, and sees it name exactly that; then undoes it, and breaks the next.

mod copy;
mod table;
mod topic;

use anyhow::Context as _;
use cli::platform::Database;
use proto::{
    notification::v1::{
        Channel, Settings, UpdateSettingsRequest, notification_service_client::NotificationServiceClient,
    },
    order::v1::{Order, OrderStatus},
};
use testkit::{Dedicated, Part, Platform, until};

use self::{
    copy::{
        Copy,
        Damage::{File, Gone, Sql},
        Report, VERIFY,
    },
    table::Case,
};
use crate::client::{SETTLE, cancel, channel, place, platform_on, reached};

const SERVICES: [Part; 5] = [Part::Order, Part::Inventory, Part::Billing, Part::Notification, Part::Relay];

/// Orders of the customer cust-1, who gets e-mails.
struct Orders {
    confirmed: Order,
    rejected: Order,
    cancelled: Order,
}

#[tokio::test]
async fn verify_names_every_invariant_that_is_broken_by_hand_and_no_other() -> anyhow::Result<()> {
    // The copy's databases have the names that `orderly` expects, which the shared server may have only once.
    let postgres = Dedicated::postgres().await?;
    let platform = platform_on(postgres.with_shared().await?).await?;
    let mut copy = Copy::empty(platform, &postgres).await?;
    write_to_customer(&copy.platform).await?;
    let load = ["load", "--rate", "10", "--duration", "500ms", "--settle", "0s", "--seed", "1"];
    let load = copy.orderly(&load).await?;
    anyhow::ensure!(load.status.success(), "{load:?}");
    let confirmed = place(&copy.platform, "tok_ok").await?;
    let rejected = place(&copy.platform, "tok_declined").await?;
    settled(&copy.platform).await?;

    // Everything stops in the middle of an order.
    stop(&mut copy.platform, Part::Billing).await?;
    let cancelled = place(&copy.platform, "tok_ok").await?;
    reached(&copy.platform, &cancelled.order_id, OrderStatus::StockReserved).await?;
    cancel(&copy.platform, &cancelled.order_id).await?;
    for part in [Part::Order, Part::Inventory, Part::Notification, Part::Relay] {
        stop(&mut copy.platform, part).await?;
    }
    copy.take().await?;
    let (code, report) = copy.verify().await?;
    assert_eq!((code, broken(&report)), (Some(1), vec!["at-rest"]), "{report:#?}");
    let open = format!("order {}: is still COMPENSATING", cancelled.order_id);
    assert!(says(&report, "at-rest", &open), "{report:#?}");
    let printed = copy.orderly(&VERIFY).await?;
    let text = String::from_utf8_lossy(&printed.stdout);
    assert_eq!(printed.status.code(), Some(1));
    for words in ["BROKEN       at-rest", &open, "not checked  payments", "The promise is BROKEN: at-rest ("]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }

    // It goes on, and comes to rest.
    for part in SERVICES {
        copy.platform.restart(part).await?;
    }
    settled(&copy.platform).await?;
    for part in SERVICES {
        stop(&mut copy.platform, part).await?;
    }
    copy.take().await?;
    holds(&copy).await?;
    let orders = Orders { confirmed, rejected, cancelled };
    let mut wrong = Vec::new();
    for case in table::cases(&orders, copy.run()?) {
        wrong.extend(verdict(&copy, &case).await.with_context(|| case.name)?);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    unreadable(&copy).await?;
    // None of this was done to the platform itself; with a relay its end is looked at.
    copy.platform.restart(Part::Relay).await
}

/// What `verify` says wrongly while this is damaged.
async fn verdict(copy: &Copy, case: &Case<'_>) -> anyhow::Result<Option<String>> {
    for damage in &case.damages {
        copy.damage(damage).await?;
    }
    let (code, report) = copy.verify().await?;
    let mut names: Vec<_> = case.breaks.iter().map(|(name, _)| *name).collect();
    names.dedup();
    let expected = (Some(i32::from(!names.is_empty())), names);
    let silent: Vec<_> = case.breaks.iter().filter(|(name, words)| !says(&report, name, words)).collect();
    let right = (code, broken(&report)) == expected && silent.is_empty();
    for damage in &case.damages {
        copy.undo(damage).await?;
    }
    Ok((!right).then(|| format!("{}: missing {silent:?} in exit code {code:?}, {report:#?}", case.name)))
}

/// What cannot be read is no verdict: exit code 2, nothing on stdout, and what is wrong without any password.
async fn unreadable(copy: &Copy) -> anyhow::Result<()> {
    let url = copy.audit_url();
    let (role, _) = url.split_once(":tests-on-loopback@").context("a role and its password")?;
    let host = url.rsplit('@').next().context("a host")?;
    let order = "database orderly_order could not be read; is the platform up, and migrated?";
    let stranger = format!("{role}:not-the-password@{host}");
    refuses(copy, &["--postgres", &stranger], &[order, "password authentication failed"]).await?;
    refuses(copy, &["--prefix", "no-"], &["topic no-order-created does not exist"]).await?;
    let notification = "database orderly_notification could not be read; is the platform up, and migrated?";
    let damages = [
        (
            Sql(Database::Billing, "delete from outbox.cursor".into()),
            "the billing outbox has lost its cursor",
        ),
        (
            Sql(Database::Notification, "delete from notifications; drop table notifications".into()),
            notification,
        ),
        (Gone("provider.ndjson".into()), "provider.ndjson does not exist; run `orderly simulate provider`"),
        (Gone("mail.ndjson".into()), "mail.ndjson does not exist; run `orderly simulate mail`"),
        (
            File("mail.ndjson".into(), Box::new(|text| text.insert_str(0, "rubbish\n"))),
            "mail.ndjson line 1 is not",
        ),
        (
            File(copy.run()?, Box::new(|text| drop(text.drain(..=text.find('\n').unwrap_or(0))))),
            "has lost its first line",
        ),
    ];
    for (damage, words) in damages {
        copy.damage(&damage).await?;
        refuses(copy, &[], &[words]).await?;
        copy.undo(&damage).await?;
    }
    holds(copy).await
}

async fn refuses(copy: &Copy, args: &[&str], words: &[&str]) -> anyhow::Result<()> {
    let output = copy.orderly(&[&VERIFY, args].concat()).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{words:?}: {said}");
    assert!(words.iter().all(|words| said.contains(words)), "{words:?} is not in {said}");
    assert!(!said.contains("not-the-password") && !said.contains("tests-on-loopback"), "{said}");
    Ok(())
}

async fn holds(copy: &Copy) -> anyhow::Result<()> {
    let (code, report) = copy.verify().await?;
    assert!(code == Some(0) && report.holds, "{report:#?}");
    for invariant in &report.invariants {
        // Nothing was refused here.
        let has_none = invariant.name == "dead-letters";
        assert!(has_none || invariant.checked > 0, "{} has checked nothing", invariant.name);
    }
    Ok(())
}

fn broken(report: &Report) -> Vec<&str> {
    let broken = report.invariants.iter().filter(|invariant| invariant.outcome == "broken");
    broken.map(|invariant| invariant.name.as_str()).collect()
}

fn says(report: &Report, invariant: &str, words: &str) -> bool {
    report.invariants.iter().filter(|known| known.name == invariant).any(|known| {
        known.offenders.iter().any(|one| format!("{}: {}", one.subject, one.problem).contains(words))
    })
}

async fn stop(platform: &mut Platform, part: Part) -> anyhow::Result<()> {
    let code = platform.terminate(part).await?;
    anyhow::ensure!(code == Some(0), "{part:?} ends with {code:?}");
    Ok(())
}

/// Waits until every order has its end, everybody was told and every event is published.
async fn settled(platform: &Platform) -> anyhow::Result<()> {
    let pools = (
        platform.order.superuser().await?,
        platform.inventory.superuser().await?,
        platform.billing.superuser().await?,
        platform.notification.superuser().await?,
    );
    let (orders, inventory, billing, notification) = &pools;
    until("the platform comes to rest", SETTLE, || async {
        let count = async |pool, sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await;
        let open = count(orders, "select count(*) from orders where deadline is not null").await?;
        let to_tell = "select count(*) from order_events
             where event in ('OrderConfirmed', 'ShipmentScheduled', 'OrderRejected', 'OrderCancelled')
                 or event = 'PaymentRefunded' and data->>'minor' <> '0'";
        let to_tell = count(orders, to_tell).await?;
        let charged = "select count(*) from payments where provider_reference is not null";
        let charged = count(billing, charged).await?;
        let told = "select count(*) from notifications where status = 'DELIVERED'";
        let told = count(notification, told).await?;
        let mut unpublished = 0;
        for pool in [orders, inventory, billing, notification] {
            let sql = "select count(*) from outbox.event, outbox.cursor where not pg_visible_in_snapshot(xid, snap)";
            unpublished += count(pool, sql).await?;
        }
        Ok((open + unpublished == 0 && told == to_tell + charged).then_some(()))
    })
    .await?;
    for pool in [orders, inventory, billing, notification] {
        pool.close().await;
    }
    Ok(())
}

async fn write_to_customer(platform: &Platform) -> anyhow::Result<()> {
    let mut client = NotificationServiceClient::new(channel(platform, Part::Notification).await?);
    let settings = Settings {
        customer_id: "cust-1".to_owned(),
        channel: Channel::Email.into(),
        email_address: "cust-1@customers.example".to_owned(),
        ..Settings::default()
    };
    client.update_settings(UpdateSettingsRequest { settings: Some(settings) }).await?;
    Ok(())
}
