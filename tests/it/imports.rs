//! Which files of the library import which, read from their text.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// The names of a path: `plan::select` is `["plan", "select"]`, and the crate itself is empty.
type Names = Vec<String>;

/// For each file, the files that it imports.
#[derive(Debug)]
pub struct Imports(BTreeMap<String, BTreeSet<String>>);

impl Imports {
    /// Reads them. A path means the deepest file that it names, and an item that a `mod.rs` re-exports means the file that
    /// it comes from. Declaring a module is not an import, and neither is re-exporting an item.
    pub fn of(files: &[(PathBuf, String)]) -> Self {
        let modules = Modules::of(files);
        let imported = files.iter().map(|(path, text)| {
            let name = path.display().to_string();
            let mut imported = modules.imported(&module(path), &Code::of(text).own);
            imported.remove(&name);
            (name, imported)
        });
        Self(imported.collect())
    }

    /// Leaves out the imports that `is_exempt` accepts. It gets the file that imports and the file that is imported.
    pub fn without(mut self, is_exempt: impl Fn(&str, &str) -> bool) -> Self {
        for (from, imported) in &mut self.0 {
            imported.retain(|to| !is_exempt(from, to));
        }
        self
    }

    /// The circles of imports, as in `a.rs → b.rs → a.rs`. Where circles share a file, only the shorter ones are named.
    pub fn circles(&self) -> Vec<String> {
        let circles = self.0.keys().filter_map(|file| self.circle(file));
        // Every circle is found from each of its files. It is shown from the first of them.
        let from_first = circles.filter(|circle| circle.iter().min() == circle.first());
        from_first.map(|circle| circle.join(" → ")).collect()
    }

    /// The shortest circle through a file.
    fn circle<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut trails = VecDeque::from([vec![start]]);
        let mut seen = BTreeSet::new();
        while let Some(trail) = trails.pop_front() {
            for next in &self.0[trail[trail.len() - 1]] {
                let longer = [trail.as_slice(), &[next]].concat();
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next) {
                    trails.push_back(longer);
                }
            }
        }
        None
    }
}

/// The modules of the library, each of which is a file, and the items that they re-export.
struct Modules {
    files: BTreeMap<Names, String>,
    reexports: BTreeMap<Names, Names>,
}

impl Modules {
    fn of(files: &[(PathBuf, String)]) -> Self {
        let mut modules = Self { files: BTreeMap::new(), reexports: BTreeMap::new() };
        for (path, text) in files {
            let module = module(path);
            for source in Code::of(text).reexports {
                let item = [module.as_slice(), &source[source.len() - 1..]].concat();
                let source = match source[0].as_str() {
                    "crate" => source[1..].to_vec(),
                    _ => [module.as_slice(), &source].concat(),
                };
                // A macro is exported under the name that it has.
                if item != source {
                    modules.reexports.insert(item, source);
                }
            }
            modules.files.insert(module, path.display().to_string());
        }
        modules
    }

    /// The files that the code of a module names.
    fn imported(&self, module: &[String], code: &str) -> BTreeSet<String> {
        let parent = &module[..module.len().saturating_sub(1)];
        let fixed = [("crate", Vec::new()), ("super", parent.to_vec()), ("self", module.to_vec())];
        let children = self.files.keys().filter(|file| file.len() == module.len() + 1 && file.starts_with(module));
        let children = children.map(|child| (child[module.len()].as_str(), child.clone()));
        let mut found = BTreeSet::new();
        for (word, base) in fixed.into_iter().chain(children) {
            for mut rest in after(code, &format!("{word}::")) {
                let named = paths(&mut rest).into_iter().map(|path| [base.as_slice(), &path].concat());
                found.extend(named.map(|path| self.file(&path).to_owned()));
            }
        }
        found
    }

    /// The file that a path means.
    fn file(&self, path: &[String]) -> &str {
        let mut lengths = (0..=path.len()).rev();
        let deepest = lengths.find(|length| self.files.contains_key(&path[..*length])).unwrap();
        match path.get(..=deepest).and_then(|item| self.reexports.get(item)) {
            Some(source) => self.file(&[source.as_slice(), &path[deepest + 1..]].concat()),
            None => &self.files[&path[..deepest]],
        }
    }
}

/// What stands in a file, without comments.
struct Code {
    /// Everything but re-exports.
    own: String,
    reexports: Vec<Names>,
}

impl Code {
    fn of(text: &str) -> Self {
        let (mut own, mut reexports) = (String::new(), String::new());
        let mut in_reexport = false;
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            in_reexport |=
                ["pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|start| line.starts_with(start));
            let part = if in_reexport { &mut reexports } else { &mut own };
            part.push_str(line);
            part.push('\n');
            in_reexport &= !line.contains(';');
        }
        let trees = reexports.split(';').filter_map(|statement| statement.split_once(" use "));
        Self { own, reexports: trees.flat_map(|(_, mut tree)| paths(&mut tree)).collect() }
    }
}

/// The module that a file is.
fn module(path: &Path) -> Names {
    let names = path.with_extension("");
    let names = names.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| !["mod", "lib"].contains(&name.as_str())).collect()
}

/// What follows each `word` that is not the end of a longer path.
fn after<'a>(code: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
    let longer = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "_$:".contains(c));
    let found: Vec<_> = code.match_indices(word).filter(|(at, _)| !longer(&code[..*at])).collect();
    found.into_iter().map(|(at, word)| &code[at + word.len()..])
}

/// The paths of a tree of imports: `a::{b, c::d}` names `a::b` and `a::c::d`. `rest` is then what follows the tree.
fn paths(rest: &mut &str) -> Vec<Names> {
    if let Some(group) = rest.strip_prefix('{') {
        *rest = group;
        let mut found = Vec::new();
        loop {
            *rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() || rest.starts_with('}') {
                *rest = rest.strip_prefix('}').unwrap_or_default();
                return found;
            }
            found.extend(paths(rest));
            // An item may have another name here.
            *rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
        }
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    let own = if name.is_empty() || name == "self" { Names::new() } else { vec![name.to_owned()] };
    let Some(mut below) = tail.strip_prefix("::") else {
        *rest = tail;
        return vec![own];
    };
    let found = paths(&mut below);
    *rest = below;
    found.into_iter().map(|path| [own.as_slice(), &path].concat()).collect()
}
