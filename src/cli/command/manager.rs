//! `npm`, `npx`, `yarn`, `pnpm`, also through `corepack`: which script or program they run.
//!
//! What they do themselves is done here: they change the directory, put `node_modules/.bin` into
//! `PATH` and set variables. Scripts that npm would run before and after are not run.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::package::Package;
use super::{Finding, Refusal, Walk, shown, text};

/// Options of the managers that change nothing about what runs.
const FLAGS: [&str; 18] = [
    "-d",
    "-q",
    "-s",
    "-y",
    "--bail",
    "--color",
    "--foreground-scripts",
    "--if-present",
    "--ignore-scripts",
    "--no",
    "--no-bail",
    "--no-color",
    "--no-install",
    "--no-update-notifier",
    "--offline",
    "--quiet",
    "--silent",
    "--yes",
];

/// A manager, by how it reads its words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manager {
    Npm,
    Pnpm,
    Yarn,
}

/// The words of a manager, without its options.
#[derive(Debug, Default)]
struct Words {
    /// The verb, the name, and what is passed on.
    words: Vec<OsString>,
    /// What stands behind `--`.
    behind: Vec<OsString>,
    directory: Option<PathBuf>,
}

impl Walk {
    /// A package manager with its arguments.
    pub(super) fn manager(&mut self, name: &str, arguments: &[OsString]) -> Finding {
        if name == "corepack" {
            return self.corepack(arguments);
        }
        let typed = shown(&[&[OsString::from(name)], arguments].concat());
        let manager = match name {
            "npm" | "npx" => Manager::Npm,
            "pnpm" | "pnpx" => Manager::Pnpm,
            _ => Manager::Yarn,
        };
        self.changed = Some(typed.clone());
        let first_only = name == "npx" || name == "pnpx";
        let Some(words) = words(arguments, manager, first_only) else {
            return Err(refusal(&typed, "it has options that sticky-run does not know"));
        };
        if let Some(directory) = &words.directory {
            self.place.enter(directory);
        }
        let found = if first_only {
            self.binary(&typed, words.all())
        } else {
            self.verb(manager, &typed, words)
        }?;
        match found {
            Some(found) => Ok(Some(found)),
            None => Err(refusal(&typed, "what it runs is not known to be Node")),
        }
    }

    /// `corepack yarn@4 start`.
    fn corepack(&mut self, arguments: &[OsString]) -> Finding {
        let Some((manager, arguments)) = arguments.split_first() else { return Ok(None) };
        let manager = manager.to_string_lossy();
        match manager.split('@').next() {
            Some(name @ ("npm" | "npx" | "pnpm" | "pnpx" | "yarn" | "yarnpkg")) => {
                self.manager(name, arguments)
            }
            _ => Ok(None),
        }
    }

    fn verb(&mut self, manager: Manager, typed: &str, mut words: Words) -> Finding {
        if words.words.is_empty() {
            return Err(refusal(typed, "it runs no script"));
        }
        let verb = words.words.remove(0).to_string_lossy().into_owned();
        match (manager, verb.as_str()) {
            (_, "start") => self.script(typed, "start", words.all()),
            (_, "run" | "run-script") | (Manager::Npm, "rum" | "urn") => {
                if words.words.is_empty() {
                    return Err(refusal(typed, "it names no script"));
                }
                let name = words.words.remove(0).to_string_lossy().into_owned();
                self.script_or_binary(manager, typed, &name, words)
            }
            (_, "exec") | (Manager::Npm, "x") => self.binary(typed, words.all()),
            (Manager::Pnpm | Manager::Yarn, "node") => {
                let node = [OsString::from("node")].into_iter().chain(words.all());
                self.binary(typed, node.collect())
            }
            (Manager::Npm, _)
            | (_, "dlx" | "workspace" | "workspaces" | "test" | "install" | "add" | "create") => {
                Err(refusal(typed, "it runs no script of this package"))
            }
            (Manager::Pnpm | Manager::Yarn, name) => {
                self.script_or_binary(manager, typed, name, words)
            }
        }
    }

    /// yarn and pnpm run a program of that name if there is no such script.
    fn script_or_binary(
        &mut self,
        manager: Manager,
        typed: &str,
        name: &str,
        words: Words,
    ) -> Finding {
        if manager == Manager::Npm || Package::nearest(&self.place)?.script(name).is_some() {
            return self.script(typed, name, words.all());
        }
        let binary = [OsString::from(name)].into_iter().chain(words.all());
        self.binary(typed, binary.collect())
    }

    /// A script of the package, with arguments behind it.
    fn script(&mut self, typed: &str, name: &str, arguments: Vec<OsString>) -> Finding {
        let package = Package::nearest(&self.place)?;
        self.refuse_plug_and_play(typed)?;
        let file = package.directory.join("package.json");
        let default = (name == "start" && package.directory.join("server.js").exists())
            .then_some("node server.js");
        let Some(script) = package.script(name).or(default) else {
            return Err(Refusal(format!(
                "{typed}: {} has no script \"{name}\": it has {}",
                file.display(),
                package.script_names()
            )));
        };
        self.note_neighbours(&package, name);
        self.enter_package(&package, name, script);
        let mut command = script.to_owned();
        for argument in &arguments {
            let Some(argument) = argument.to_str() else {
                return Err(refusal(typed, "an argument is no text"));
            };
            command.push(' ');
            command.push_str(&text::quoted([argument].into_iter()));
        }
        self.notes.push(format!(
            "{typed} would take the worker's channel: running \"{command}\" of {} itself",
            file.display()
        ));
        self.find(vec!["sh".into(), "-c".into(), command.into()])
    }

    /// What a script finds: its directory, and its variables.
    fn enter_package(&mut self, package: &Package, name: &str, script: &str) {
        if !self.place.variables.contains_key(OsStr::new("INIT_CWD")) {
            self.place.set("INIT_CWD", self.place.directory.clone());
        }
        self.place.directory.clone_from(&package.directory);
        self.place.add_bin_directories();
        if let Some(node) = self.place.program(OsStr::new("node")) {
            self.place.set("NODE", node);
        }
        for (name, value) in package.variables(name, script) {
            self.place.set(name, value);
        }
    }

    /// Scripts around this one are not run: once for every worker would be too often.
    fn note_neighbours(&mut self, package: &Package, name: &str) {
        for (neighbour, when) in [("pre", "before"), ("post", "after")] {
            let neighbour = format!("{neighbour}{name}");
            if package.script(&neighbour).is_some() {
                self.notes.push(format!(
                    "the script {neighbour} is not run: run it once {when} sticky-run, if it is \
                     needed"
                ));
            }
        }
    }

    /// A program that a dependency of the package installed.
    fn binary(&mut self, typed: &str, words: Vec<OsString>) -> Finding {
        let Some(name) = words.first().map(|name| name.to_string_lossy().into_owned()) else {
            return Err(refusal(typed, "it names no program"));
        };
        self.refuse_plug_and_play(typed)?;
        self.place.add_bin_directories();
        if name != "node" && self.place.program(&words[0]).is_none() {
            self.wrapper(&name, &words[1..])?;
            return Err(refusal(typed, &format!("node_modules/.bin has no {name}")));
        }
        self.notes.push(format!(
            "{typed} would take the worker's channel: running {} itself",
            shown(&words)
        ));
        self.find(words)
    }

    /// Without `node_modules`, yarn lets Node find packages by files that it must load first.
    fn refuse_plug_and_play(&self, typed: &str) -> Result<(), Refusal> {
        let Some(directory) = self.place.above(".pnp.cjs") else { return Ok(()) };
        Err(Refusal(format!(
            "{typed} would take the worker's channel, and needs Plug'n'Play: write node -r {} SCRIPT \
             instead",
            directory.join(".pnp.cjs").display()
        )))
    }
}

/// Takes the options out. npm takes its own from everywhere before `--`, the others only before
/// what they run, which is the first word (`first_only`) or, with a verb before it, the second.
fn words(arguments: &[OsString], manager: Manager, first_only: bool) -> Option<Words> {
    let mut found = Words::default();
    let mut arguments = arguments.iter();
    while let Some(word) = arguments.next() {
        let option = word.to_string_lossy();
        let passed_on = match (manager, first_only) {
            (_, true) => !found.words.is_empty(),
            (Manager::Npm, false) => false,
            (Manager::Pnpm | Manager::Yarn, false) => found.is_named(),
        };
        if passed_on && !(manager == Manager::Yarn && option == "--") {
            found.words.push(word.clone());
        } else if option == "--" {
            found.behind = arguments.cloned().collect();
            break;
        } else if !option.starts_with('-') {
            found.words.push(word.clone());
        } else if let Some(directory) = directory(&option, manager) {
            let value = match directory {
                "" => arguments.next()?.into(),
                value => value.into(),
            };
            found.directory = Some(value);
        } else if !FLAGS.contains(&option.as_ref()) && !option.starts_with("--loglevel=") {
            return None;
        }
    }
    Some(found)
}

impl Words {
    fn all(self) -> Vec<OsString> {
        [self.words, self.behind].concat()
    }

    /// Whether what is to be run has been named.
    fn is_named(&self) -> bool {
        let Some(verb) = self.words.first() else { return false };
        let takes_name = ["run", "run-script", "exec"].iter().any(|name| verb == name);
        self.words.len() > usize::from(takes_name)
    }
}

/// The directory that an option chooses; empty if it is in the next word.
fn directory(option: &str, manager: Manager) -> Option<&str> {
    let names: &[&str] = match manager {
        Manager::Npm => &["--prefix", "-C"],
        Manager::Pnpm => &["--dir", "-C"],
        Manager::Yarn => &["--cwd"],
    };
    names.iter().find_map(|name| match option.strip_prefix(name)? {
        "" => Some(""),
        value => value.strip_prefix('='),
    })
}

/// What cannot be resolved, and why.
fn refusal(typed: &str, why: &str) -> Refusal {
    Refusal(format!(
        "{typed} would take the worker's channel, and {why}: write the command of the server itself, \
         such as node SCRIPT"
    ))
}
