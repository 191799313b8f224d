//! What became of a request for a model: what the daemon said, and what `status` shows of the session then.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::apply::Attempt;
use crate::backend::dispatch::daemon::{Daemon, Live, Said};
use crate::registry::json::raw::Lossy;

/// Between two looks at a session: at first…
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// …and twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A session for which a model was asked.
pub(super) struct Arrival<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) chat: &'a str,
    /// The session as it was before, if it was live.
    pub(super) before: Option<&'a Live>,
    /// The run of the session that has ended or is to end.
    pub(super) old: &'a str,
}

/// What was found in the end.
pub(super) struct Arrived {
    pub(super) attempt: Attempt,
    /// The run of the session that was started, where it is healthy.
    pub(super) run: Option<String>,
}

impl From<Attempt> for Arrived {
    fn from(attempt: Attempt) -> Self {
        Self { attempt, run: None }
    }
}

/// What a look at `status` finds of the session.
enum Seen {
    /// The daemon does not tell.
    Unclear,
    /// No session is alive.
    Gone,
    /// The session from before.
    Same,
    /// A new session that is healthy, and its run.
    New(String),
    /// A new session that is not healthy, and why.
    Unhealthy(String),
}

impl Arrival<'_> {
    /// Waits until `status` shows what became of the request.
    pub(super) fn wait(&self, said: Said) -> Arrived {
        if let Said::Nothing(why) = said {
            return Attempt::NotSent(why).into();
        }
        // After a clear no, one look tells what is left. Where the daemon says ok, it has started the session before.
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

    /// Looks at the session again and again, until a look is `enough` or the time is over. Returns what was last seen, as far
    /// as the daemon has told.
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

    /// A session that did not come up. Only one that was live before has come to harm.
    fn not_up(&self, why: String) -> Arrived {
        let attempt = if self.before.is_some() { Attempt::Unhealthy(why) } else { Attempt::Failed(why) };
        attempt.into()
    }
}

/// The daemon's breaker counts every restart of a chat, and notes the model before it is asked.
const REFUSED: &str = "the daemon refused the restart: it allows 3 restarts of a chat in 20 minutes, its own included; \
                       the model is saved, and the session still runs its old one";
