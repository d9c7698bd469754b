//! Which file imports what: no file does so in a circle, not even inside one folder, and the wings know nothing of each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{Source, assert_none, sources_in};

/// The path of a module: `["upstream", "pool"]` for `src/upstream/pool.rs`.
type Path = Vec<String>;

/// Every module of the program, those that are there for tests and fuzzing included.
struct Modules(BTreeMap<Path, Module>);

struct Module {
    file: String,
    /// The paths that its code names, and those that it re-exports, all from the root of the crate.
    names: Vec<Path>,
    exports: Vec<Path>,
}

impl Modules {
    fn read() -> Modules {
        Modules::of(&sources_in("src/"))
    }

    fn of(sources: &[Source]) -> Modules {
        let is_part = |path: &&Path| *path != &["main"] && *path != &["lib"];
        let paths: Vec<Path> = sources.iter().map(|source| path_of(&source.path)).collect();
        let all: BTreeSet<&Path> = paths.iter().filter(is_part).collect();
        let modules = sources.iter().zip(&paths).filter(|(_, path)| all.contains(path));
        Modules(modules.map(|(source, path)| (path.clone(), Module::of(source, path, &all))).collect())
    }

    /// The module that a path leads to, through re-exports.
    fn target(&self, path: &[String], steps: usize) -> Option<&Path> {
        let length = (1..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let (module, found) = self.0.get_key_value(module)?;
        let Some(name) = rest.first().filter(|_| steps > 0) else { return Some(module) };
        let export = found.exports.iter().find(|export| export.last() == Some(name));
        export.and_then(|export| self.target(export, steps - 1)).or(Some(module))
    }

    /// Which modules each one imports.
    fn graph(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let imported = |(path, module): (_, &Module)| {
            let targets = module.names.iter().filter_map(|name| self.target(name, 4));
            (path, targets.filter(|target| *target != path).collect())
        };
        self.0.iter().map(imported).collect()
    }

    /// The files of each circle, as far as they are in one: what remains when all that import nothing else are taken away, and all
    /// that nothing imports.
    fn circles(&self) -> Vec<String> {
        let mut graph = self.graph();
        loop {
            let imported: BTreeSet<&Path> = graph.values().flatten().copied().collect();
            let rest: BTreeMap<_, _> = graph
                .iter()
                .filter(|(path, targets)| !targets.is_empty() && imported.contains(*path))
                .map(|(path, targets)| (*path, targets.clone()))
                .collect();
            let is_left = |target: &&Path| rest.contains_key(*target);
            let next: BTreeMap<&Path, BTreeSet<&Path>> =
                rest.iter().map(|(path, targets)| (*path, targets.iter().copied().filter(is_left).collect())).collect();
            if next == graph {
                break;
            }
            graph = next;
        }
        let told = |(path, targets): (&&Path, &BTreeSet<&Path>)| {
            let targets: Vec<_> = targets.iter().map(|target| self.0[*target].file.as_str()).collect();
            format!("{} imports {}", self.0[*path].file, targets.join(", "))
        };
        graph.iter().map(told).collect()
    }
}

impl Module {
    fn of(source: &Source, path: &Path, all: &BTreeSet<&Path>) -> Module {
        let (mut names, mut exports, mut import) = (Vec::new(), Vec::new(), String::new());
        for (_, line) in source.code() {
            if import.is_empty() && !is_import(line) {
                names.extend(paths_in(line).filter_map(|name| from_root(&name, path, all)));
                continue;
            }
            import.push_str(line);
            if line.ends_with(';') {
                let (visibility, tree) = import.split_once("use ").expect("an import");
                let paths = expand(tree.trim_end_matches(';')).into_iter();
                let found = if visibility.trim().is_empty() { &mut names } else { &mut exports };
                found.extend(paths.filter_map(|name| from_root(&name, path, all)));
                import.clear();
            }
        }
        Module { file: source.path.clone(), names, exports }
    }
}

fn is_import(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next();
    first == Some("use") || (first.is_some_and(|word| word.starts_with("pub")) && words.next() == Some("use"))
}

/// The paths that a line of code names outside imports.
fn paths_in(line: &str) -> impl Iterator<Item = Path> {
    let starts = ["crate::", "super::"].into_iter().flat_map(|start| line.match_indices(start));
    starts.filter(|(at, _)| !line[..*at].ends_with("::") && !line[..*at].ends_with("pub(in ")).map(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let path = &line[at..];
        let path = &path[..path.find(|c| !is_part(c)).unwrap_or(path.len())];
        path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    })
}

fn path_of(file: &str) -> Path {
    let file = file.trim_start_matches("src/").trim_end_matches(".rs");
    file.split('/').filter(|name| *name != "mod").map(str::to_owned).collect()
}

/// The paths of an import: `a::{b, c::d}` has two.
fn expand(tree: &str) -> Vec<Path> {
    let Some((before, list)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let before: Path = before.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let list = &list[..list.rfind('}').expect("every list ends")];
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            items.push(String::new());
        } else {
            items.last_mut().expect("one at least").push(c);
        }
    }
    let items = items.iter().filter(|item| !item.trim().is_empty());
    items.flat_map(|item| expand(item)).map(|item| [before.clone(), item].concat()).collect()
}

/// The path from the root of the crate; `None` for one that leads out of it.
fn from_root(name: &[String], module: &[String], all: &BTreeSet<&Path>) -> Option<Path> {
    match name.first()?.as_str() {
        "crate" => Some(name[1..].to_vec()),
        "self" => Some([module, &name[1..]].concat()),
        "super" => {
            let ups = name.iter().take_while(|part| *part == "super").count();
            Some([&module[..module.len().checked_sub(ups)?], &name[ups..]].concat())
        }
        first => {
            let child = [module, &[first.to_owned()]].concat();
            all.contains(&child).then(|| [module, name].concat())
        }
    }
}

#[test]
fn no_file_imports_in_a_circle() {
    let modules = Modules::read();
    let edges: usize = modules.graph().values().map(BTreeSet::len).sum();
    assert!(edges > 200, "{edges} imports were found");
    assert_none("files import in circles, or stand between two", &modules.circles());
}

#[test]
fn the_wings_know_nothing_of_each_other() {
    let wings = ["downstream", "upstream", "race"];
    let modules = Modules::read();
    let mut breaches = Vec::new();
    for (path, targets) in modules.graph() {
        let other = |target: &&&Path| wings.contains(&target[0].as_str()) && target[0] != path[0];
        if wings.contains(&path[0].as_str()) {
            let names = |target: &&Path| format!("{} imports {}", modules.0[path].file, modules.0[*target].file);
            breaches.extend(targets.iter().filter(other).map(names));
        }
    }
    assert_none("one wing imports another", &breaches);
}

#[test]
fn a_circle_is_found_through_lists_and_re_exports() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let sources = [
        source("src/a/mod.rs", "mod b;\nmod c;\npub use c::{D, E};\n"),
        source("src/a/b.rs", "use std::fmt;\nuse super::{D};\nuse crate::f;\n"),
        source("src/a/c.rs", "pub struct D(f::G);\nfn h() { crate::a::b::i() }\n"),
        source("src/f.rs", "fn j() {}\n"),
    ];
    let circles = Modules::of(&sources).circles();
    assert_eq!(circles, ["src/a/b.rs imports src/a/c.rs", "src/a/c.rs imports src/a/b.rs"]);
    let [a, b, _, f] = sources;
    let open = [a, b, source("src/a/c.rs", "pub struct D;\n"), f];
    assert_eq!(Modules::of(&open).circles(), [] as [String; 0]);
}
