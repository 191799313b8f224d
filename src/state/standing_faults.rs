//! The standing faults that quiet runs have reported, in the state directory.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::json;
use crate::plan::standing_faults::Told;
use crate::state::dir::StateDir;
use crate::state::problem::StateProblem;

const NAME: &str = "conditions.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    told: Told,
}

/// Reads the faults that were reported. A file that does not exist is empty.
///
/// # Errors
/// Where it is damaged, or was written by a later version.
pub(crate) fn read(dir: &StateDir) -> Result<Told> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    // A run that died while it saved the file has left a temporary one.
    dir.discard_unfinished(NAME)?;
    let Some(text) = dir.read(NAME)? else { return Ok(Told::default()) };
    let path = dir.path(NAME);
    let damaged =
        |error: serde_json::Error| StateProblem::ToldDamaged { path: path.clone(), why: error.to_string().into() };
    let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version > VERSION {
        return Err(StateProblem::LaterVersion { path, version, known: VERSION }.into());
    }
    let Form { told, .. } = serde_json::from_slice(&text).map_err(damaged)?;
    Ok(told)
}

/// Saves the faults that were reported. They are on disk when this returns.
pub(crate) fn save(dir: &StateDir, told: Told) -> Result<()> {
    let form = Form { version: VERSION, told };
    dir.save(NAME, &json::to_bytes(&form)?)
}
