-- Takes a channel's notifications whose time has come, for one attempt each.
with due as (
    select candidate.notification_id
    from notifications as candidate
    where candidate.status = 'PENDING'
      and candidate.channel = $1
      and candidate.next_attempt_at <= now()
      -- Not in the hands of another dispatcher, or of one that died with it.
      and (candidate.claimed_until is null or candidate.claimed_until <= now())
      -- Only the oldest of an order: the confirmation waits for the receipt, however often that has to be tried. The status
      -- is said in these words so that no index on what is pending fits: without statistics the planner took one, and read
      -- all that is pending for each candidate. The order's own index always finds a few rows.
      and not exists (
          select
          from notifications as earlier
          where earlier.order_id = candidate.order_id
            and earlier.channel = candidate.channel
            and earlier.status not in ('DELIVERED', 'GIVEN_UP')
            and earlier.position < candidate.position)
    order by candidate.next_attempt_at
    limit $2
    for update of candidate skip locked
)
update notifications as claimed
set claimed_until = now() + make_interval(secs => $3), attempts = claimed.attempts + 1,
    first_attempt_at = coalesce(claimed.first_attempt_at, now())
from due
where claimed.notification_id = due.notification_id
returning claimed.notification_id, claimed.order_id, claimed.customer_id, claimed.kind, claimed.channel,
    claimed.email_address, claimed.webhook_url, claimed.webhook_secret, claimed.subject, claimed.body, claimed.attempts,
    claimed.created_at, claimed.first_attempt_at, extract(epoch from now() - claimed.first_attempt_at)::float8 as tried_secs,
    claimed.traceparent, claimed.tracestate
