//! Counters of what a client may do a few times but not always (RFC 9113 §10.5).

use std::time::Instant;

use super::limits::Allowance;
use crate::frame::ErrorCode;

/// What is left of an [`Allowance`].
pub(super) struct Allowed {
    allowance: Allowance,
    left: u32,
    /// When `left` was last increased for the time that had passed.
    since: Instant,
}

impl Allowed {
    pub(super) fn new(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, left: allowance.burst, since: now }
    }

    /// Takes `cost`.
    ///
    /// # Errors
    /// ENHANCE_YOUR_CALM when less is left.
    // RFC 9113 §10.5: an endpoint MAY treat suspicious activity as a connection error of type ENHANCE_YOUR_CALM.
    pub(super) fn take(&mut self, cost: u32, now: Instant) -> Result<(), ErrorCode> {
        if self.left < cost {
            let passed = now.saturating_duration_since(self.since).as_millis();
            let more = passed.saturating_mul(self.allowance.per_second.into()) / 1000;
            self.give(u32::try_from(more).unwrap_or(u32::MAX));
            self.since = now;
        }
        self.left = self.left.checked_sub(cost).ok_or(ErrorCode::EnhanceYourCalm)?;
        Ok(())
    }

    /// Allows `more`.
    pub(super) fn give(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.allowance.burst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_allowed_then_a_rate() {
        let start = Instant::now();
        let mut allowed = Allowed::new(Allowance { burst: 3, per_second: 2 }, start);
        let taken = |allowed: &mut Allowed, now| (0..10).take_while(|_| allowed.take(1, now).is_ok()).count();
        assert_eq!(taken(&mut allowed, start), 3);
        assert_eq!(taken(&mut allowed, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(&mut allowed, start + Duration::from_secs(100)), 3);
        allowed.give(2);
        assert_eq!(taken(&mut allowed, start + Duration::from_secs(100)), 2);
    }
}
