//! The checkup of a registry in a file: its content, its rights, its mounts and its state. It changes and creates nothing.

use crate::apply::LostState;
use crate::backend::file::problem::FileProblem;
use crate::backend::file::registry::RegistryFile;
use crate::checkup::Check;
use crate::error::{Error, Result};
use crate::foreign::{Foreign, Sentence, counted, sentence};
use crate::os::exchange::Method;
use crate::os::mount::file_system;
use crate::registry::Snapshot;
use crate::state::key;

const NO_EXCHANGE: &str = "keep the registry on a local file system, such as ext4, XFS or btrfs";

impl RegistryFile {
    /// Checks everything that a run needs of the registry.
    pub fn checkup(&self) -> Vec<Check> {
        vec![
            Check::of("registry", self.look_at_sessions(), "let this user read it; if it is damaged, restore it"),
            Check::of("permissions", self.look_at_permissions(), "run as the owner of the registry, or as root"),
            Check::of("mounts", self.look_at_mounts(), "mount the directory of the registry read-write"),
            self.look_at_exchange(),
            Check::of("state", self.look_at_state(), "run as the owner of the registry, or as root"),
        ]
    }

    fn look_at_sessions(&self) -> Result<Sentence> {
        let mut sessions = 0;
        self.snapshot()?.each(&mut |_| sessions += 1)?;
        Ok(sentence!("{} has {}", Foreign::from(self.name()), counted(sessions, "session")))
    }

    fn look_at_permissions(&self) -> Result<Sentence> {
        let (owner, user) = (self.owner()?, rustix::process::geteuid());
        if user.as_raw() != owner && !user.is_root() {
            return Err(FileProblem::OfAnotherUser { owner, user: user.as_raw() }.into());
        }
        match self.directory().may_write() {
            // Read-only mounts are another check.
            Ok(()) | Err(rustix::io::Errno::ROFS) => Ok(sentence!("user {} may replace it", user.as_raw())),
            Err(error) => Err(Error::io("write in", self.directory().path())(error)),
        }
    }

    fn look_at_mounts(&self) -> Result<Sentence> {
        self.check_replaceable()?;
        Ok("the registry can be replaced where it is mounted".into())
    }

    fn look_at_exchange(&self) -> Check {
        let name = "exchange";
        let Some(kind) = file_system(self.directory()) else {
            return Check::unknown(name, "it is not known which file system the registry is on");
        };
        match Method::on(&kind) {
            Some(Method::Exchange) => Check::good(name, sentence!("{} can exchange two files", Foreign::from(kind))),
            Some(Method::Rename) => {
                let problem = FileProblem::NoExchange { file_system: kind.into() };
                Check::of(name, Err(problem.into()), NO_EXCHANGE)
            }
            None => {
                let kind = Foreign::from(kind);
                Check::unknown(
                    name,
                    sentence!("not tried whether {} can exchange two files, because that would write", kind),
                )
            }
        }
    }

    fn look_at_state(&self) -> Result<Sentence> {
        if let Some(LostState { message, hint }) = self.lost_state()? {
            return Err(FileProblem::StateLost { message, hint }.into());
        }
        let Some(dir) = self.state_dir()? else { return Ok("there is none yet: the first run creates it".into()) };
        key::read(&dir)?;
        let owed = self.kept()?.ledger.owed.len();
        let mut runs = 0;
        for run in self.history()? {
            run?;
            runs += 1;
        }
        Ok(sentence!("{} owed, {} in the history", counted(owed, "restart"), counted(runs, "run")))
    }
}
