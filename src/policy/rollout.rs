//! `[rollout]`: how a run moves sessions to another model, and when it stops.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::policy::fields::{Item, Section};
use crate::policy::read::Reader;
use crate::policy::sessions::Sessions;

/// `[rollout]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Whether a model that no session is known to work on is tried on one session first.
    pub canary: bool,
    /// How long a restarted session must stay up before its restart counts as a success. Zero: it only has to come up.
    pub min_healthy: Duration,
    /// Whether a session that was up before and does not come up on its new model is put back on its former model.
    pub auto_revert: bool,
    /// The number of failed restarts after which a run begins no further restart. At least 1.
    pub max_failures: usize,
    /// How long a run waits after each `sessions.parallel` restarts. Zero: it does not wait.
    pub pause: Duration,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            canary: true,
            min_healthy: Duration::from_secs(2),
            auto_revert: true,
            max_failures: 1,
            pause: Duration::ZERO,
        }
    }
}

impl<'r> Reader<'r> {
    /// Reads `[rollout]`. A key that is missing has the value of [`Rollout::default`].
    pub(super) fn rollout(&self, whole: &mut Section<'r>, sessions: &Sessions) -> Rollout {
        let default = Rollout::default();
        let mut section = whole.section(self.mistakes, "rollout", "a table: [rollout]");
        let canary = section.get(self.mistakes, "canary");
        let min_healthy = section.get(self.mistakes, "min_healthy");
        let auto_revert = section.get(self.mistakes, "auto_revert");
        for item in [&canary, &min_healthy, &auto_revert].into_iter().flatten() {
            self.warn_of_no_restarts(item, sessions);
        }
        let canary = canary.and_then(|item| item.boolean(self.mistakes, "canary = false"));
        let min_healthy = min_healthy.and_then(|item| item.wait(self.mistakes, r#"min_healthy = "2s""#));
        let auto_revert = auto_revert.and_then(|item| item.boolean(self.mistakes, "auto_revert = false"));
        let max_failures = section.get(self.mistakes, "max_failures");
        let max_failures =
            max_failures.and_then(|item| item.integer(self.mistakes, 1, 1_000_000_000, "max_failures = 1"));
        let pause = section.get(self.mistakes, "pause");
        let pause = pause.and_then(|item| item.wait(self.mistakes, r#"pause = "30s""#));
        section.finish(self.mistakes);
        Rollout {
            canary: canary.unwrap_or(default.canary),
            min_healthy: min_healthy.unwrap_or(default.min_healthy),
            auto_revert: auto_revert.unwrap_or(default.auto_revert),
            max_failures: max_failures.unwrap_or(default.max_failures),
            pause: pause.unwrap_or(default.pause),
        }
    }

    /// Warns of a setting that is about restarts, where the backend makes none.
    fn warn_of_no_restarts(&self, item: &Item<'r>, sessions: &Sessions) {
        if !sessions.backend.never_restarts() {
            return;
        }
        self.mistakes.add(|| {
            let message = format!("`{}` has no effect with `backend = {:?}`", item.name, sessions.backend.name());
            Diagnostic::warning("no-restarts", message, item.place(), "a changed model takes effect without a restart")
                .help("remove it; only `max_failures` and `pause` have an effect")
        });
    }
}
