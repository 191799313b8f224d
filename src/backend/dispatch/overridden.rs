//! Sessions that were started while the daemon's global override was set. They run its model until they are restarted,
//! even after the override has ended, and the file does not say so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::backend::dispatch::daemon::{Live, Override};
use crate::backend::dispatch::pending::{GlobalOverride, Pending, Unsaved};
use crate::chat::Model;
use crate::registry::json::raw::Lossy;

/// The daemon's answers when a plan was made.
#[derive(Debug)]
pub(super) struct Noticed {
    pub(super) global: Option<Override>,
    pub(super) sessions: BTreeMap<String, Live>,
}

impl Pending {
    /// Remembers which sessions run the model of an override. It is not known when an override has ended, so a session
    /// counts that was started after the override was set and before the first run that found it ended.
    pub(super) fn notice(&mut self, noticed: &Noticed) {
        let Noticed { global, sessions } = noticed;
        let is_live =
            |chat: &String, made: &Unsaved| sessions.get(chat).is_some_and(|live| live.created_at == made.session);
        self.overridden.retain(|chat, made| is_live(chat, made));
        match (global, &mut self.global) {
            (Some(Override { model: Some(Lossy(model)), set_at: Some(Lossy(set_at)) }), _) => {
                let Some(model) = Model::new(model) else { return };
                self.global = Some(GlobalOverride { model, set_at: set_at.clone(), is_over: false });
            }
            (None, Some(global)) if !global.is_over => global.is_over = true,
            _ => return,
        }
        let Some(GlobalOverride { model, set_at, .. }) = self.global.clone() else { return };
        for (chat, live) in sessions {
            let is_known = self.runs(chat, &live.created_at).is_some();
            if !is_known && is_after(&live.created_at, &set_at) {
                let made = Unsaved { model: model.clone(), session: live.created_at.clone() };
                self.overridden.insert(chat.clone(), made);
            }
        }
    }

    /// The model that this run of a chat's session is known to run, although the file may not say so.
    pub(super) fn runs(&self, chat: &str, session: &str) -> Option<&Model> {
        let made = [&self.unsaved, &self.overridden].into_iter().filter_map(|made| made.get(chat));
        made.into_iter().find(|made| made.session == session).map(|made| &made.model)
    }
}

/// Whether one time is after another. Times without an offset are in the time zone of this host, on which the daemon runs.
fn is_after(time: &str, other: &str) -> bool {
    let read = |time: &str| -> Option<Timestamp> {
        let local = |time: DateTime| time.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp());
        time.parse().ok().or_else(|| time.parse().ok().and_then(local))
    };
    matches!((read(time), read(other)), (Some(time), Some(other)) if time > other)
}
