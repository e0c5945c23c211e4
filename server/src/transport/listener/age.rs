//! The longest life of a connection.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

use crate::{observe::metrics::Closed, transport::guard::Guard};

/// The longest life of a connection, so that clients that keep their connections come to servers that were added (gRPC's
/// MAX_CONNECTION_AGE and MAX_CONNECTION_AGE_GRACE, proposal A9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge {
    /// After this time, give or take 10 %, the connection is told to end after its open requests.
    pub age: Duration,
    /// How long these may still take; `None` for no limit.
    pub grace: Option<Duration>,
}

impl MaxAge {
    /// Runs `serving`, which serves the connection of `guard`, for at most this long.
    ///
    /// # Errors
    /// Those of `serving`, and that requests were still open at the end.
    pub(super) async fn bound(
        self,
        guard: &Guard,
        serving: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let mut serving = pin!(serving);
        // Proposal A9: a random jitter spreads the ends of connections that began together.
        if let Ok(ended) = timeout(self.age.mul_f64(rand::random_range(0.9..=1.1)), serving.as_mut()).await {
            return ended;
        }
        guard.count_end(Closed::Age);
        guard.leave().cancel();
        match self.grace {
            Some(grace) => timeout(grace, serving)
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("requests were open after the connection's grace period"))),
            None => serving.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{observe::metrics::ConnectionCounters, transport::guard::Timeouts};

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until a connection ends whose open request takes `request` after it was told to leave, whether it ended
    /// well, and whether it was counted.
    async fn life(max: MaxAge, request: Duration) -> (f64, bool, u64) {
        let counters = Arc::<ConnectionCounters>::default();
        let guard = Guard::new(Timeouts::default(), CancellationToken::new(), Arc::clone(&counters));
        let serving = async {
            guard.leave().cancelled().await;
            sleep(request).await;
            Ok(())
        };
        let begin = Instant::now();
        let ended = max.bound(&guard, serving).await;
        (begin.elapsed().as_secs_f64(), ended.is_ok(), counters.get(Closed::Age))
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_is_told_to_leave_and_ended_after_its_grace() {
        let max = MaxAge { age: SECOND * 100, grace: Some(SECOND * 5) };
        let (seconds, ended, counted) = life(max, SECOND * 3).await;
        assert!((93.0..=113.1).contains(&seconds) && ended && counted == 1, "{seconds}");
        let (seconds, ended, _) = life(max, SECOND * 1000).await;
        assert!((95.0..=115.1).contains(&seconds) && !ended, "{seconds}");
        let (seconds, ended, _) = life(MaxAge { grace: None, ..max }, SECOND * 1000).await;
        assert!(seconds >= 1090.0 && ended, "{seconds}");
        // The jitter is random, but never none for all.
        let mut lives = Vec::new();
        for _ in 0..10 {
            lives.push(life(max, Duration::ZERO).await.0);
        }
        assert!(lives.iter().any(|life| (life - lives[0]).abs() > 0.01), "{lives:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_sooner_is_not_counted() {
        let counters = Arc::<ConnectionCounters>::default();
        let guard = Guard::new(Timeouts::default(), CancellationToken::new(), Arc::clone(&counters));
        let max = MaxAge { age: SECOND * 100, grace: None };
        max.bound(&guard, async { Ok(()) }).await.unwrap();
        assert_eq!((counters.get(Closed::Age), guard.leave().is_cancelled()), (0, false));
    }
}
