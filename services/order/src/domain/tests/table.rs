//! The table of states and commands in the domain's words. `table.txt` is what it must be, written to be read.

use super::*;

/// How an order comes to each state that it has among services that do what the contract says, and the states in which it
/// has met one that does not answer.
fn states() -> Vec<(&'static str, Order)> {
    let named: Vec<(&str, Command)> = commands();
    let say = |order: &Order, names: &[&str]| {
        names.iter().fold(order.clone(), |order, name| {
            let (_, command) = named.iter().find(|(known, _)| known == name).expect("a known command");
            let events = decide(&order, command.clone()).expect("allowed");
            assert!(!events.is_empty(), "{name} does nothing");
            after(&order, &events)
        })
    };
    let deadlines = vec!["the deadline passes"; usize::try_from(REPEATS).expect("a few") + 1];
    let pending = new_order(true);
    let stocked = say(&pending, &["stock is reserved"]);
    let confirmed = say(&stocked, &["the payment succeeds"]);
    let shipped = say(&confirmed, &["a shipment is scheduled"]);
    let declined = say(&stocked, &["the payment fails"]);
    let rejected = say(&declined, &["stock is released"]);
    let undone_early = say(&pending, &["the customer cancels"]);
    let undone = say(&confirmed, &["the customer cancels"]);
    let stock_back = say(&undone, &["stock is released"]);
    let money_back = say(&undone, &["the payment is refunded"]);
    let cancelled = say(&stock_back, &["the payment is refunded"]);
    let commit_failed = say(&confirmed, &["there is nothing to ship"]);
    let old = new_order(false);
    let old_confirmed = say(&old, &["the payment succeeds"]);
    vec![
        ("a new order", pending.clone()),
        ("its stock is held", stocked.clone()),
        ("it is paid", confirmed.clone()),
        ("its shipment is scheduled", shipped.clone()),
        ("it is out of stock", say(&pending, &["stock is rejected"])),
        ("its payment is declined, its stock asked back", declined),
        ("its payment is declined, its stock is back", rejected.clone()),
        ("its money came after its end", say(&rejected, &["the payment succeeds"])),
        ("inventory was too late", say(&pending, &["the deadline passes"])),
        ("billing was too late", say(&stocked, &["the deadline passes"])),
        ("cancelled before there was an answer about stock", undone_early.clone()),
        (
            "cancelled before there was an answer about stock, and over",
            say(&undone_early, &["stock is released"]),
        ),
        ("cancelled after it was paid", undone.clone()),
        ("cancelled after it was paid, its stock is back", stock_back),
        ("cancelled after it was paid, its money is back", money_back),
        ("cancelled after it was paid, and over", cancelled.clone()),
        ("its stock came after its end", say(&cancelled, &["stock is reserved"])),
        ("cancelled after its shipment was scheduled", say(&shipped, &["the customer cancels"])),
        ("nobody ships it", say(&confirmed, &deadlines)),
        ("inventory holds nothing to ship", commit_failed.clone()),
        ("nobody gives it back", say(&undone, &deadlines)),
        ("closed by an operator", say(&commit_failed, &["the operator closes"])),
        ("a new order from before there was stock", old.clone()),
        ("it is paid, from before there was stock", old_confirmed),
        ("being cancelled, from before there was stock", say(&old, &["the customer cancels"])),
    ]
}

fn state(order: &Order) -> String {
    let Order { status, stock, payment, .. } = order;
    let why = order.shown_reason().map(|reason| format!(" ({reason:?})")).unwrap_or_default();
    format!("{status:?}{why}, stock {stock:?}, payment {payment:?}")
}

/// Each state with what every command does in it; what several do not do is one line.
fn render() -> String {
    let mut table = String::new();
    for (name, order) in states() {
        table += &format!("{name}: {}\n", state(&order));
        let (mut nothing, mut refused) = (Vec::new(), Vec::new());
        for (command, what) in commands() {
            let events = match decide(&order, what) {
                Ok(events) if events.is_empty() => {
                    nothing.push(command);
                    continue;
                }
                Ok(events) => events,
                Err(_) => {
                    refused.push(command);
                    continue;
                }
            };
            let (mut now, mut steps) = (order.clone(), Vec::new());
            for event in &events {
                let next = evolve(ORDER, Some(now.clone()), event);
                let asked = requests(Some(&now), event, &next);
                let asked: String = asked.iter().map(|request| format!(" [{request:?}]")).collect();
                steps.push(format!("{}{asked}", event.name()));
                now = next;
            }
            table += &format!("  {command}: {}\n      {}\n", steps.join(", "), state(&now));
        }
        table += &format!("  nothing new: {}\n", nothing.join("; "));
        table += &format!("  refused: {}\n\n", refused.join("; "));
    }
    table
}

#[test]
fn every_state_answers_every_command_as_the_table_says() {
    let (is, must) = (render(), include_str!("table.txt"));
    for (number, (is, must)) in (1..).zip(is.lines().zip(must.lines())) {
        assert_eq!(is, must, "line {number} of table.txt");
    }
    assert_eq!(is, must, "the whole table:\n{is}");
}
