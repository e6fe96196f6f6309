-- Gives the claims of these attempts back, due again after half to all of each wait; a later attempt's claim is left alone.
update notifications as claimed
set claimed_until = null, next_attempt_at = now() + make_interval(secs => tried.wait * (0.5 + random() / 2))
from unnest($1::uuid[], $2::integer[], $3::float8[]) as tried (notification_id, attempt, wait)
where claimed.notification_id = tried.notification_id
  and claimed.attempts = tried.attempt
  and claimed.status = 'PENDING'
