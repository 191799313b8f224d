//! Finds out the result of `set_model`, from the daemon's answer and from what `status` shows of the session after it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::apply::Attempt;
use crate::backend::dispatch::daemon::{Daemon, Live, Said};
use crate::registry::json::raw::Lossy;

/// The time between the first two looks at a session. It doubles with each look.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest time between two looks at a session.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Watches a session after `set_model`.
pub(super) struct Arrival<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) chat: &'a str,
    /// The session before the request, if it was live.
    pub(super) before: Option<&'a Live>,
    /// The run of the session before the request.
    pub(super) old: &'a str,
}

/// The result of `set_model`.
pub(super) struct Arrived {
    pub(super) attempt: Attempt,
    /// The run of the new session, if it is healthy.
    pub(super) run: Option<String>,
}

impl From<Attempt> for Arrived {
    fn from(attempt: Attempt) -> Self {
        Self { attempt, run: None }
    }
}

/// What a look at `status` finds.
enum Seen {
    /// The daemon does not answer.
    Unclear,
    /// No session of the chat is alive.
    Gone,
    /// The session is the one from before the request.
    Same,
    /// The session is a new one and healthy, with this run.
    New(String),
    /// The session is a new one and not healthy, for this reason.
    Unhealthy(String),
}

impl Arrival<'_> {
    /// Waits until `status` shows the result of the request.
    pub(super) fn wait(&self, said: Said) -> Arrived {
        if let Said::Nothing(why) = said {
            return Attempt::NotSent(why).into();
        }
        // After a clear no, one look is enough. An ok is sent after the session was started.
        let is_clear = matches!(said, Said::Error(_) | Said::Refused);
        let is_over = is_clear || matches!(said, Said::Ok);
        let until = self.daemon.deadline();
        let seen = self.watch(until, &|seen| match seen {
            Seen::New(_) => true,
            Seen::Unclear => false,
            Seen::Gone => is_over,
            Seen::Same | Seen::Unhealthy(_) => is_clear,
        });
        match (seen, said) {
            (Seen::New(run), _) => self.stays_healthy(run),
            (Seen::Unhealthy(why), _) => self.not_up(format!("the new session is not healthy: {why}")),
            (Seen::Gone, Said::Error(why)) => self.not_up(format!("the daemon could not start it: {why}")),
            (Seen::Gone, Said::Lost(why)) => self.not_up(format!("{why}, and no session has been alive since")),
            (Seen::Gone, Said::Refused) if self.before.is_some() => {
                self.not_up("the daemon refused the restart, and no session is alive".to_owned())
            }
            (_, Said::Refused) => Attempt::Refused(REFUSED.to_owned()).into(),
            (Seen::Gone, Said::Ok) => self.not_up("the daemon said ok, but no session is alive".to_owned()),
            (Seen::Same, Said::Ok) => {
                Attempt::Failed("the daemon said ok, but did not restart the session".to_owned()).into()
            }
            (Seen::Same, Said::Error(why)) => Attempt::Failed(format!("the daemon refused: {why}")).into(),
            (Seen::Unclear, Said::Ok) => {
                Attempt::Unknown("the daemon said ok, but has not answered since".to_owned()).into()
            }
            (_, Said::Error(why) | Said::Lost(why) | Said::Nothing(why)) => Attempt::Unknown(why).into(),
        }
    }

    /// Whether a new session stays alive and healthy for as long as the policy wants.
    fn stays_healthy(&self, run: String) -> Arrived {
        let is_another = |seen: &Seen| !matches!(seen, Seen::New(now) if *now == run);
        let min_healthy = self.daemon.times.min_healthy;
        let seen = if min_healthy.is_zero() {
            Seen::Unclear
        } else {
            self.watch(Instant::now() + min_healthy, &|seen| !matches!(seen, Seen::Unclear) && is_another(seen))
        };
        let within = || format!("within {min_healthy:?} of coming up");
        match seen {
            Seen::New(now) if now != run => self.not_up(format!("the session was started again {}", within())),
            Seen::Gone | Seen::Same => self.not_up(format!("the session stopped {}", within())),
            Seen::Unhealthy(why) => self.not_up(format!("the session was no longer healthy {}: {why}", within())),
            Seen::New(_) | Seen::Unclear => Arrived { attempt: Attempt::Changed, run: Some(run) },
        }
    }

    /// Looks at the session at intervals, until a look is `enough` or the time is over. Returns the last look at which
    /// the daemon has answered.
    fn watch(&self, until: Instant, enough: &dyn Fn(&Seen) -> bool) -> Seen {
        let mut seen = Seen::Unclear;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.look(until.max(Instant::now() + FIRST_PAUSE)) {
                Seen::Unclear => {}
                clear => seen = clear,
            }
            let left = until.saturating_duration_since(Instant::now());
            if enough(&seen) || left.is_zero() {
                return seen;
            }
            sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn look(&self, until: Instant) -> Seen {
        let Ok(Some(mut sessions)) = self.daemon.status(until) else { return Seen::Unclear };
        match sessions.remove(self.chat) {
            None => Seen::Gone,
            Some(live) if live.created_at == self.old => Seen::Same,
            Some(live) if live.is_healthy => Seen::New(live.created_at),
            Some(live) => {
                let why = live.health_reason.map(|Lossy(why)| why);
                Seen::Unhealthy(why.unwrap_or_else(|| "it gives no reason".to_owned()))
            }
        }
    }

    /// The result for a session that did not come up. Only a session that was live before is unhealthy because of the restart.
    fn not_up(&self, why: String) -> Arrived {
        let attempt = if self.before.is_some() { Attempt::Unhealthy(why) } else { Attempt::Failed(why) };
        attempt.into()
    }
}

/// The detail of a restart that the daemon's breaker has refused. The breaker is asked after the daemon has saved the model.
const REFUSED: &str = "the daemon refused the restart: it allows 3 restarts of a chat in 20 minutes, its own included; \
                       the model is saved, and the session still runs its old one";
