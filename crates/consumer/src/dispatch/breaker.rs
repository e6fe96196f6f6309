//! The circuit breaker of a dispatcher: <https://martinfowler.com/bliki/CircuitBreaker.html>. A state machine without
//! clock or randomness of its own.
//!
//! It counts different intents: one that fails each time says something about itself, not about what it depends on.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Performed;

/// So many different intents without an answer in between open it.
const THRESHOLD: usize = 5;
/// How long it opens at first. Each further intent doubles this.
const FIRST: Duration = Duration::from_secs(1);
/// The longest that it opens.
const LONGEST: Duration = Duration::from_secs(30);
/// More intents than these make nothing longer.
const REMEMBERED: usize = THRESHOLD + 5;

/// Whether a dependency may be called.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Different intents that found the dependency unavailable since it last answered.
    unavailable: Vec<Uuid>,
    /// None when closed.
    open: Option<Open>,
    openings: u64,
    jitter: fn() -> f64,
}

#[derive(Debug)]
struct Open {
    /// Half-open from then on.
    until: Instant,
    probing: bool,
}

/// A call that was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    intent: Uuid,
    openings: u64,
}

/// What an operator should hear of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was closed. Nothing is called for so long.
    Opened(Duration),
    /// A probe found the dependency unavailable. Nothing is called for so long.
    Reopened(Duration),
    /// The dependency has answered.
    Closed,
}

impl Breaker {
    /// Closed. It opens for what `jitter` leaves of the whole time: a part between 0 and 1.
    pub(super) fn new(jitter: fn() -> f64) -> Self {
        Self { unavailable: Vec::new(), open: None, openings: 0, jitter }
    }

    /// How many of `free` intents may be claimed now.
    pub(super) fn admits(&self, now: Instant, free: usize) -> usize {
        match &self.open {
            None => free,
            Some(open) if open.probing || now < open.until => 0,
            Some(_) => free.min(1),
        }
    }

    /// How long nothing will be admitted, whatever happens; None when the time is over.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        self.open.as_ref()?.until.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// An admitted intent is called now.
    pub(super) fn begin(&mut self, intent: Uuid) -> Call {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
        Call { intent, openings: self.openings }
    }

    /// A call has ended; `None` when it failed on our side.
    pub(super) fn end(&mut self, now: Instant, call: Call, performed: Option<Performed>) -> Option<Change> {
        match performed {
            Some(Performed::Answered) => {
                self.unavailable.clear();
                self.open.take().map(|_| Change::Closed)
            }
            // What was on its way when the breaker opened is neither a probe nor news.
            _ if call.openings != self.openings => None,
            Some(Performed::Unavailable) => self.unavailable(now, call.intent),
            Some(Performed::Unasked) | None => {
                if let Some(open) = &mut self.open {
                    open.probing = false;
                }
                None
            }
        }
    }

    fn unavailable(&mut self, now: Instant, intent: Uuid) -> Option<Change> {
        if self.unavailable.len() < REMEMBERED && !self.unavailable.contains(&intent) {
            self.unavailable.push(intent);
        }
        let doublings = self.unavailable.len().checked_sub(THRESHOLD)?;
        let whole = LONGEST.min(FIRST * (1 << doublings));
        let time = whole.mul_f64((self.jitter)());
        let before = self.open.replace(Open { until: now + time, probing: false });
        self.openings += 1;
        Some(if before.is_none() { Change::Opened(time) } else { Change::Reopened(time) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Option<Performed> = Some(Performed::Answered);
    const UNAVAILABLE: Option<Performed> = Some(Performed::Unavailable);
    const UNASKED: Option<Performed> = Some(Performed::Unasked);
    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker, and the time.
    struct Scene {
        breaker: Breaker,
        now: Instant,
    }

    impl Scene {
        fn closed() -> Self {
            Self { breaker: Breaker::new(|| 1.0), now: Instant::now() }
        }

        fn open() -> Self {
            let mut scene = Self::closed();
            for intent in 0..4 {
                assert_eq!(scene.call(intent, UNAVAILABLE), None);
            }
            assert_eq!(scene.call(4, UNAVAILABLE), Some(Change::Opened(SECOND)));
            scene
        }

        fn half_open() -> Self {
            let mut scene = Self::open();
            scene.pass(SECOND);
            scene
        }

        fn begin(&mut self, intent: u128) -> Call {
            self.breaker.begin(Uuid::from_u128(intent))
        }

        fn end(&mut self, call: Call, performed: Option<Performed>) -> Option<Change> {
            self.breaker.end(self.now, call, performed)
        }

        fn call(&mut self, intent: u128, performed: Option<Performed>) -> Option<Change> {
            let call = self.begin(intent);
            self.end(call, performed)
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        fn admits(&self) -> usize {
            self.breaker.admits(self.now, 8)
        }
    }

    #[test]
    fn closed_it_admits_all_that_is_free() {
        let scene = Scene::closed();
        assert_eq!((scene.admits(), scene.breaker.admits(scene.now, 0)), (8, 0));
        assert_eq!(scene.breaker.open_for(scene.now), None);
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let mut scene = Scene::closed();
        for intent in 0..20 {
            let performed = if intent % 5 == 4 { ANSWERED } else { UNAVAILABLE };
            assert_eq!(scene.call(intent, performed), None, "{intent}");
        }
        assert_eq!(scene.admits(), 8);
    }

    #[test]
    fn one_intent_alone_never_opens_it() {
        let mut scene = Scene::closed();
        for _ in 0..20 {
            assert_eq!(scene.call(1, UNAVAILABLE), None);
        }
        assert_eq!(scene.admits(), 8);
    }

    #[test]
    fn what_did_not_ask_changes_nothing() {
        let mut scene = Scene::closed();
        for intent in 0..4 {
            assert_eq!(scene.call(intent, UNAVAILABLE), None);
            assert_eq!(scene.call(intent + 100, UNASKED), None);
            assert_eq!(scene.call(intent + 200, None), None);
        }
        assert_eq!(scene.call(4, UNAVAILABLE), Some(Change::Opened(SECOND)));
    }

    #[test]
    fn open_it_admits_nothing_until_its_time_is_over() {
        let mut scene = Scene::open();
        assert_eq!((scene.admits(), scene.breaker.open_for(scene.now)), (0, Some(SECOND)));
        scene.pass(SECOND - Duration::from_millis(1));
        assert_eq!(scene.admits(), 0);
        scene.pass(Duration::from_millis(1));
        assert_eq!((scene.admits(), scene.breaker.open_for(scene.now)), (1, None));
        assert_eq!(scene.breaker.admits(scene.now, 0), 0);
    }

    #[test]
    fn half_open_it_admits_one_probe_at_a_time() {
        let mut scene = Scene::half_open();
        let probe = scene.begin(5);
        scene.pass(60 * SECOND);
        assert_eq!(scene.admits(), 0);
        assert_eq!(scene.end(probe, UNASKED), None);
        assert_eq!(scene.admits(), 1, "it has learnt nothing");
        assert_eq!(scene.call(6, None), None);
        assert_eq!(scene.admits(), 1, "it has learnt nothing");
        assert_eq!(scene.call(7, ANSWERED), Some(Change::Closed));
        assert_eq!(scene.admits(), 8);
    }

    #[test]
    fn closed_again_it_starts_from_the_beginning() {
        let mut scene = Scene::half_open();
        assert_eq!(scene.call(5, UNAVAILABLE), Some(Change::Reopened(2 * SECOND)));
        scene.pass(2 * SECOND);
        assert_eq!(scene.call(6, ANSWERED), Some(Change::Closed));
        for intent in 0..4 {
            assert_eq!(scene.call(intent, UNAVAILABLE), None);
        }
        assert_eq!(scene.call(4, UNAVAILABLE), Some(Change::Opened(SECOND)));
    }

    #[test]
    fn it_opens_for_longer_with_each_further_intent() {
        let mut scene = Scene::half_open();
        for (intent, seconds) in (5..).zip([2, 4, 8, 16, 30, 30, 30]) {
            assert_eq!(scene.call(intent, UNAVAILABLE), Some(Change::Reopened(seconds * SECOND)));
            scene.pass(seconds * SECOND);
        }
    }

    #[test]
    fn intents_that_always_fail_do_not_hold_it_open_for_longer() {
        let mut scene = Scene::half_open();
        for intent in (0..5).cycle().take(20) {
            assert_eq!(scene.call(intent, UNAVAILABLE), Some(Change::Reopened(SECOND)));
            scene.pass(SECOND);
        }
    }

    #[test]
    fn what_was_on_its_way_when_it_opened_is_no_probe() {
        let mut scene = Scene::closed();
        let late: Vec<Call> = (10..13).map(|intent| scene.begin(intent)).collect();
        for intent in 0..5 {
            scene.call(intent, UNAVAILABLE);
        }
        assert_eq!(scene.end(late[0], UNAVAILABLE), None);
        assert_eq!(scene.breaker.open_for(scene.now), Some(SECOND));
        scene.pass(SECOND);
        let probe = scene.begin(5);
        assert_eq!(scene.end(late[1], UNAVAILABLE), None);
        assert_eq!(scene.end(late[2], None), None);
        assert_eq!(scene.admits(), 0, "the probe is still on its way");
        assert_eq!(scene.end(probe, UNAVAILABLE), Some(Change::Reopened(2 * SECOND)));
    }

    #[test]
    fn a_late_answer_closes_it() {
        let mut scene = Scene::closed();
        let late = scene.begin(10);
        for intent in 0..5 {
            scene.call(intent, UNAVAILABLE);
        }
        assert_eq!(scene.end(late, ANSWERED), Some(Change::Closed));
        assert_eq!(scene.admits(), 8);
    }

    #[test]
    fn jitter_takes_its_part() {
        let mut breaker = Breaker::new(|| 0.5);
        let now = Instant::now();
        let changes: Vec<Change> = (0..5)
            .filter_map(|intent| {
                let call = breaker.begin(Uuid::from_u128(intent));
                breaker.end(now, call, UNAVAILABLE)
            })
            .collect();
        assert_eq!(changes, [Change::Opened(SECOND / 2)]);
    }
}
