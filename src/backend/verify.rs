//! Verifies restarts: the session must come up again, with a new identity, and stay up. The exit code of the restart command proves
//! nothing.

use std::time::Duration;

use crate::apply::Attempt;
use crate::os::process::poll;

/// The time between two looks at a session.
const PAUSE: Duration = Duration::from_millis(200);

/// What a look at a session finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is running, and has this identity if there is an `identity` command.
    Up(Option<String>),
    /// It is running, but the `identity` command failed, for this reason.
    Nameless(String),
    /// It is not running.
    Down,
    /// It is not known whether it is running, for this reason.
    Unclear(String),
}

/// Looks at one session after its restart.
pub(super) struct Verification<'a> {
    /// Looks once.
    pub(super) look: &'a dyn Fn() -> Seen,
    /// What a look found before the restart.
    pub(super) before: Seen,
    /// The session must come up within this time.
    pub(super) timeout: Duration,
    /// After that, it must stay up for this time.
    pub(super) min_healthy: Duration,
}

impl Verification<'_> {
    /// The result of a restart whose command has succeeded.
    pub(super) fn after_success(&self, command: &str) -> Attempt {
        let mut seen = Seen::Down;
        poll(self.timeout, PAUSE, || {
            seen = self.look_after(&self.before);
            matches!(seen, Seen::Unclear(_)) || (matches!(seen, Seen::Up(_)) && !is_same_start(&seen, &self.before))
        });
        match &seen {
            Seen::Up(_) if is_same_start(&seen, &self.before) => {
                Attempt::Failed(format!("the session was not restarted: {command} succeeded and left it as it was"))
            }
            Seen::Up(_) => self.stays_up(&seen).map_or_else(|attempt| attempt, |()| Attempt::Changed),
            Seen::Down => self.not_up(format!("the session did not come up within {:?}", self.timeout)),
            Seen::Nameless(why) | Seen::Unclear(why) => Attempt::Unknown(why.clone()),
        }
    }

    /// The result of a restart whose command has failed, for the reason `why`.
    pub(super) fn after_failure(&self, why: &str) -> Attempt {
        let seen = self.look_after(&self.before);
        match &seen {
            Seen::Up(_) => self.stays_up(&seen).map_or_else(|attempt| attempt, |()| Attempt::Failed(why.to_owned())),
            Seen::Down => self.not_up(format!("{why}; the session is not running")),
            Seen::Nameless(unclear) | Seen::Unclear(unclear) => Attempt::Unknown(format!("{why}; {unclear}")),
        }
    }

    /// Checks that a session that has come up stays up, with one identity.
    ///
    /// # Errors
    /// The result of the attempt where it does not.
    fn stays_up(&self, start: &Seen) -> Result<(), Attempt> {
        let mut seen = start.clone();
        if !self.min_healthy.is_zero() {
            poll(self.min_healthy, PAUSE, || {
                seen = self.look_after(start);
                seen != *start
            });
        }
        match seen {
            seen if seen == *start => Ok(()),
            Seen::Up(_) => {
                let message = format!("the session was started again within {:?} of coming up", self.min_healthy);
                Err(self.not_up(message))
            }
            Seen::Down => Err(self.not_up(format!("the session stopped within {:?} of coming up", self.min_healthy))),
            Seen::Nameless(why) | Seen::Unclear(why) => Err(Attempt::Unknown(why)),
        }
    }

    /// A look at a session. If it had an identity earlier and has none now, that start has ended, even if the supervisor still
    /// calls the session running.
    fn look_after(&self, earlier: &Seen) -> Seen {
        match (self.look)() {
            Seen::Nameless(_) if matches!(earlier, Seen::Up(Some(_))) => Seen::Down,
            seen => seen,
        }
    }

    /// The result for a session that is not up. Only a session that was running before is unhealthy because of the restart.
    fn not_up(&self, why: String) -> Attempt {
        match self.before {
            Seen::Up(_) | Seen::Nameless(_) => Attempt::Unhealthy(why),
            Seen::Down | Seen::Unclear(_) => Attempt::StillDown(why),
        }
    }
}

/// Whether two looks found a session with one and the same identity. Without identities, that is not known.
fn is_same_start(one: &Seen, other: &Seen) -> bool {
    matches!((one, other), (Seen::Up(Some(one)), Seen::Up(Some(other))) if one == other)
}
