-- Takes notifications whose time has come, for one attempt each.
with due as (
    select candidate.notification_id
    from notifications as candidate
    where candidate.status = 'PENDING'
      and candidate.next_attempt_at <= now()
      -- Not in the hands of another dispatcher, or of one that died with it.
      and (candidate.claimed_until is null or candidate.claimed_until <= now())
      -- Only the oldest of an order: the confirmation waits for the receipt, however often that has to be tried.
      and not exists (
          select
          from notifications as earlier
          where earlier.order_id = candidate.order_id
            and earlier.status = 'PENDING'
            and earlier.position < candidate.position)
    order by candidate.next_attempt_at
    limit $1
    for update of candidate skip locked
)
update notifications as claimed
set claimed_until = now() + make_interval(secs => $2), attempts = claimed.attempts + 1
from due
where claimed.notification_id = due.notification_id
returning claimed.notification_id, claimed.order_id, claimed.kind, claimed.channel, claimed.email_address,
    claimed.subject, claimed.body, claimed.attempts
