//! One run: paces arrivals, places orders, records acknowledged ones, follows them to their end.

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use sqlx::postgres::PgPoolOptions;
use time::OffsetDateTime;
use tokio::{runtime::Handle, sync::Semaphore, task};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;
use uuid::Uuid;

use super::{
    Options,
    acked::{self, Acknowledged},
    client::{Client, Ended},
    hops,
    processes::Before,
    report::{self, Cancels, Final, Latency, Orders, Report},
    schedule::Schedule,
    settle::{self, Open, Queue},
    tally::{self, Tally},
    traffic::{Draft, Ratios, Traffic},
    watch::{Watch, Watched},
};
use crate::{
    output,
    platform::{Database, Platform},
    simulate::ledger::Ledger,
};

/// Longest sleep of the pacer, so that it notices an early end.
const LONGEST_NAP: Duration = Duration::from_millis(100);

struct Run {
    client: Client,
    watch: Option<Arc<Watch>>,
    traffic: Mutex<Traffic>,
    tally: Tally,
    acked: Ledger,
    queue: Queue,
    started: Instant,
    started_at: OffsetDateTime,
    calls: TaskTracker,
    stop: CancellationToken,
}

/// Places orders on a platform and measures what becomes of them; `stop` ends the placing early.
///
/// # Errors
/// When the order database does not answer at the start, or the record of the run cannot be written.
pub async fn measure(
    platform: &Platform,
    options: &Options,
    stop: CancellationToken,
) -> anyhow::Result<Report> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.call_deadline)
        .connect_lazy(&platform.audit_url(Database::Order)?)
        .context("the order database has no usable URL")?;
    let name = Uuid::now_v7().to_string();
    let system_identifier = acked::system_identifier(&pool).await?;
    let target = options.target.clone().unwrap_or_else(|| platform.order_grpc());
    let seed = options.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let acked_file = platform.acked_dir().join(format!("{name}.ndjson"));
    let acked = acked::create(&acked_file, &name, system_identifier).await?;
    let before = Before::take(platform.data_dir())?;
    let ratios = Ratios {
        declined: options.decline_ratio,
        out_of_stock: options.out_of_stock_ratio,
        cancelled: options.cancel_ratio,
    };

    let run = Arc::new(Run {
        client: Client::new(
            &target,
            options.connections.into(),
            options.call_deadline,
            options.give_up_after,
        )?,
        watch: match options.watch {
            0 => None,
            max => Some(Arc::new(Watch::new(&target, max as usize, options.call_deadline)?)),
        },
        traffic: Mutex::new(Traffic::new(seed, options.customers, ratios)),
        tally: Tally::new()?,
        acked,
        queue: Queue::default(),
        started: Instant::now(),
        started_at: OffsetDateTime::now_utc(),
        calls: TaskTracker::new(),
        stop,
    });
    let complete = CancellationToken::new();
    let follower = task::spawn({
        let (run, pool, complete, patience) =
            (Arc::clone(&run), pool.clone(), complete.clone(), options.settle);
        let follow = !patience.is_zero();
        async move {
            if follow {
                settle::follow(&pool, &run.queue, &run.tally, run.started_at, &complete, patience).await;
            }
        }
    });
    let progress = task::spawn(Arc::clone(&run).show_progress());

    Arc::clone(&run).place_all(options).await?;
    let sending = run.started.elapsed();
    run.calls.close();
    run.calls.wait().await;
    let patience_ends = Instant::now() + options.settle;
    complete.cancel();
    follower.await.context("the follower of acknowledged orders failed")?;
    let watched = match &run.watch {
        Some(watch) => Some(watch.finish(&pool, patience_ends.into()).await),
        None => None,
    };
    progress.abort();

    let counts = run.tally.counts().clone();
    let orders = Orders::from(&counts);
    let cancels = Cancels::from(&counts);
    let mut finals = None;
    if !options.settle.is_zero() {
        let hops = hops::measure(&pool, &counts.confirmed).await;
        let hops = hops.inspect_err(|error| tracing::warn!(%error, "order database did not tell the hops"));
        finals = Some(Final::new(&counts, run.queue.len() as u64, hops.ok()));
    }
    Ok(Report {
        run: name,
        passed: orders.passed()
            && cancels.passed()
            && finals.as_ref().is_none_or(Final::passed)
            && watched.as_ref().is_none_or(Watched::passed),
        seed,
        rate: options.model.rate,
        concurrency: options.model.concurrency,
        seconds: sending.as_secs_f64(),
        system_identifier,
        orders,
        cancels,
        accepted_per_second: report::per_second(counts.accepted, counts.last_accepted),
        accept_latency: Latency::of(&counts.accept),
        finals,
        watched,
        errors: counts.errors,
        processes: before.until_now(),
        acked: acked_file,
    })
}

impl Run {
    async fn place_all(self: Arc<Self>, options: &Options) -> anyhow::Result<()> {
        let (duration, in_flight) = (options.duration, options.max_in_flight as usize);
        if let Some(rate) = options.model.rate {
            let schedule = Schedule { rate, duration };
            task::spawn_blocking(move || self.pace(schedule, in_flight)).await.context("the pacer failed")?
        } else {
            let callers = (0..options.model.concurrency.unwrap_or(1)).map(|_| {
                let run = Arc::clone(&self);
                self.calls.spawn(async move {
                    while run.started.elapsed() < duration && !run.stop.is_cancelled() {
                        run.tally.counts().offered += 1;
                        let draft = run.draft();
                        Arc::clone(&run).place(draft, run.started.elapsed()).await;
                    }
                })
            });
            try_join_all(callers).await.context("a caller failed")?;
            Ok(())
        }
    }

    /// Starts every arrival when it is due. A thread, because tokio's timer would add up to a millisecond to each.
    fn pace(self: Arc<Self>, schedule: Schedule, in_flight: usize) -> anyhow::Result<()> {
        let runtime = Handle::current();
        let permits = Arc::new(Semaphore::new(in_flight));
        for number in 0..schedule.len() {
            let due = schedule.due(number);
            while let Some(early) = due.checked_sub(self.started.elapsed()).filter(|early| !early.is_zero()) {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                thread::sleep(early.min(LONGEST_NAP));
            }
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    self.tally.counts().delayed += 1;
                    let permit = Arc::clone(&permits).acquire_owned();
                    match runtime.block_on(self.stop.run_until_cancelled(permit)) {
                        Some(permit) => permit?,
                        None => return Ok(()),
                    }
                }
            };
            self.tally.counts().offered += 1;
            let (run, draft) = (Arc::clone(&self), self.draft());
            self.calls.spawn_on(
                async move {
                    run.place(draft, due).await;
                    drop(permit);
                },
                &runtime,
            );
        }
        Ok(())
    }

    fn draft(&self) -> Draft {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Places one order that was due at `intended` after the start.
    async fn place(self: Arc<Self>, draft: Draft, intended: Duration) {
        let placed = self.client.place(&draft.request, |code| self.failed(code)).await;
        let now = self.started.elapsed();
        let order_id = match placed {
            Ended::Accepted(order_id) => order_id,
            Ended::Rejected(_) => {
                self.tally.counts().rejected += 1;
                return;
            }
            Ended::GaveUp => {
                self.tally.counts().gave_up += 1;
                return;
            }
        };
        {
            let mut counts = self.tally.counts();
            counts.accepted += 1;
            counts.last_accepted = counts.last_accepted.max(now);
            tally::record(&mut counts.accept, now.saturating_sub(intended));
        }
        if let Some(watch) = &self.watch {
            let run = Arc::clone(&self);
            watch.start(order_id, move |code| run.failed(code));
        }
        let open = Open { order_id, intended: self.started_at + intended, cancelled: false };
        match draft.cancel_after {
            None => self.queue.push(open),
            // Neither a place among the unanswered orders nor the caller of a closed model waits for it.
            Some(after) => {
                self.calls.spawn(Arc::clone(&self).cancel(open, after));
            }
        }
        let line = Acknowledged {
            order_id,
            request_id: &draft.request.request_id,
            customer_id: &draft.request.customer_id,
            total_minor: draft.total_minor,
            currency: draft.currency,
            token_kind: draft.token_kind,
            at: OffsetDateTime::now_utc(),
        };
        if let Err(error) = self.acked.append(&line).await {
            self.tally.counts().unrecorded += 1;
            tracing::error!(%error, "an acknowledged order was not recorded");
            self.stop.cancel();
        }
    }

    /// Cancels an order, and only then looks for its end, which depends on the answer.
    async fn cancel(self: Arc<Self>, order: Open, after: Duration) {
        tokio::time::sleep(after).await;
        self.tally.counts().cancels += 1;
        let failed = |code| {
            if code != Code::FailedPrecondition {
                self.failed(code);
            }
        };
        let ended = self.client.cancel(order.order_id, failed).await;
        match ended {
            Ended::Accepted(()) => self.tally.counts().cancels_accepted += 1,
            Ended::Rejected(Code::FailedPrecondition) => self.tally.counts().cancels_too_late += 1,
            Ended::Rejected(_) | Ended::GaveUp => {}
        }
        self.queue.push(Open { cancelled: ended == Ended::Accepted(()), ..order });
    }

    fn failed(&self, code: Code) {
        *self.tally.counts().errors.entry(tally::code_name(code)).or_default() += 1;
    }

    /// Until aborted.
    async fn show_progress(self: Arc<Self>) {
        if !io::stderr().is_terminal() {
            return;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            output::note(self.tally.counts().progress(self.started.elapsed()));
        }
    }
}
