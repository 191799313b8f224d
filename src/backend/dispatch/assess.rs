//! Decides what a daemon that is up means for a row of a plan. It is a pure function, so that each rule can be tested
//! without a socket.

use crate::backend::dispatch::daemon::Live;
use crate::backend::dispatch::pending::Unsaved;
use crate::chat::Model;
use crate::plan::Row;
use crate::plan::observed::{Finding, Standing, Void};

/// What is known about the chat of a row while the daemon is up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The session of the chat, if it is live.
    pub session: Option<&'a Live>,
    /// A change of the chat that the daemon had made, but not saved, when a run last looked.
    pub unsaved: Option<&'a Unsaved>,
    /// The model that the session runs, where the file may have another one.
    pub runs: Option<&'a Model>,
    /// Whether the entry was edited while the daemon seemed to be down, and the daemon has not rewritten the file since.
    pub is_unconfirmed: bool,
    /// Whether the session did not come up on the row's model, according to the ledger.
    pub did_not_come_up: bool,
    /// Why a restart would not change the model; `None` where it would.
    pub hold: Option<&'a str>,
}

/// The finding for a row while the daemon is up.
pub fn assess(row: &Row, known: Known) -> Finding {
    let void = void(row, known.session);
    let owes = if row.owed.is_some() && void.is_none() { Owes::Restart } else { Owes::Nothing };
    Finding { standing: standing(row, owes, known), void, ..Finding::default() }
}

/// Whether the row still owes a restart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owes {
    Restart,
    Nothing,
}

/// Why the row's debt is void; `None` where it is not. A debt is about one run of the session. When the session has
/// another run, it was started on the model that the daemon has in memory.
fn void(row: &Row, session: Option<&Live>) -> Option<Void> {
    let debt = row.owed.as_ref()?;
    let Some(session) = session else {
        // If a restart was begun, the session may not be live because of that.
        return (!debt.began).then_some(Void::Because("its session is no longer live"));
    };
    let another = debt.run.as_ref().is_some_and(|run| *run != session.created_at);
    another.then_some(Void::Because("its session was started again since"))
}

fn standing(row: &Row, owes: Owes, known: Known) -> Standing {
    let Known { session, unsaved, runs, is_unconfirmed, did_not_come_up, hold } = known;
    let runs_another = runs.is_some() && runs != row.after.as_ref();
    if !row.edit && owes == Owes::Nothing && !is_unconfirmed {
        if !did_not_come_up && !runs_another {
            return Standing::Ready;
        }
        // The session has come up late, or something else has started it.
        if session.is_some_and(Live::works) && !runs_another {
            return Standing::InSync;
        }
    }
    if row.edit && owes == Owes::Nothing {
        let run = session.map(|session| &session.created_at);
        let only_unsaved =
            unsaved.is_some_and(|made| row.after.as_ref() == Some(&made.model) && run == Some(&made.session));
        let runs_it_anyway = row.before.is_none() && row.runs == row.after && !runs_another;
        if only_unsaved || (runs_it_anyway && !is_unconfirmed) {
            return Standing::InSync;
        }
    }
    let deferred = |why: &str| Standing::Deferred(why.to_owned());
    match (session, hold) {
        _ if is_unconfirmed => deferred("not yet confirmed by the daemon"),
        (_, Some(hold)) => deferred(hold),
        (None, None) if owes == Owes::Restart && row.was_tried() => Standing::Ready,
        (None, None) => deferred("not live: it wakes on its old model, and a run corrects it once it is live"),
        (Some(session), None) if session.is_busy() => Standing::Busy,
        (Some(session), None) if session.is_starting() => {
            deferred("starting: a restart before its first turn has ended would lose the conversation")
        }
        (Some(_), None) => Standing::Live,
    }
}
