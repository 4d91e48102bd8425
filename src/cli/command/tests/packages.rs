//! Package managers.

use super::*;

#[test]
fn a_script_of_the_package_is_run_itself() {
    let machine = Machine::new();
    machine.scripts(
        r#"{"start":"node server.js", "serve":"cross-env NODE_ENV=production npm run inner -- 'a b'",
            "inner":"A=b node --inspect server.js", "shell":"cd dist && node main.js",
            "tool":"next start", "preserve":"tsc"}"#,
    );
    machine.file("app/node_modules/.bin/next", "#!/usr/bin/env node\n");
    fs::create_dir(machine.path("app/src")).unwrap();
    let next = machine.path("app/node_modules/.bin/next");
    for (line, expected) in [
        ("npm start", "node ^ server.js".to_owned()),
        ("npm run start", "node ^ server.js".to_owned()),
        ("npm --silent run start --if-present -- -p 1", "node ^ server.js -p 1".to_owned()),
        ("npm start x -- 'y z'", "node ^ server.js x y z".to_owned()),
        ("npm -C src start", "node ^ server.js".to_owned()),
        ("npm --prefix src/.. start", "node ^ server.js".to_owned()),
        ("yarn start -p 1", "node ^ server.js -p 1".to_owned()),
        ("yarn start -- -p", "node ^ server.js -p".to_owned()),
        ("yarn --cwd=src inner", "node ^ --inspect server.js".to_owned()),
        ("yarn node -r x a", "node ^ -r x a".to_owned()),
        ("pnpm run start -- -p", "node ^ server.js -- -p".to_owned()),
        ("pnpm --dir src start", "node ^ server.js".to_owned()),
        ("pnpm next start", format!("node ^ {next} start")),
        ("corepack pnpm@9 start", "node ^ server.js".to_owned()),
        ("npm run serve", "node ^ --inspect server.js a b".to_owned()),
        ("npm run shell", "sh -c cd dist && node main.js".to_owned()),
        ("npm run tool", format!("node ^ {next} start")),
        ("npx next start -p 1", format!("node ^ {next} start -p 1")),
        ("npm exec -- next start -p 1", format!("node ^ {next} start -p 1")),
        ("nice npm start", "nice node ^ server.js".to_owned()),
        ("sh -c 'npm start'", "node ^ server.js".to_owned()),
        ("env A=b npm start", "node ^ server.js".to_owned()),
    ] {
        assert_eq!(typed(&machine.node(line)), expected, "{line}");
    }
    let found = machine.node("npm run serve");
    assert_eq!(changes(&found), "A=b NODE_ENV=production");
    assert!(found.notes.iter().any(|note| note.contains("script preserve is not run")));
    assert!(found.notes.iter().any(|note| note.contains("npm run serve would take")));
}

#[test]
fn a_script_finds_what_its_manager_would_tell_it() {
    let mut machine = Machine::new();
    machine.scripts(r#"{"start":"node server.js"},"config":{"port":8080}"#);
    machine.place.directory = machine.root.path().join("app/src/deep");
    fs::create_dir_all(&machine.place.directory).unwrap();
    let found = machine.node("npm start");
    assert_eq!(found.command.directory, Some(machine.root.path().join("app")));
    let value = |name: &str| {
        let set = found.command.environment.iter().find(|(set, _)| set == name);
        set.and_then(|(_, value)| value.clone()).unwrap().into_string().unwrap()
    };
    assert_eq!(value("npm_package_name"), "shop");
    assert_eq!(value("npm_package_version"), "1.2.3");
    assert_eq!(value("npm_package_config_port"), "8080");
    assert_eq!(value("npm_lifecycle_event"), "start");
    assert_eq!(value("npm_lifecycle_script"), "node server.js");
    assert_eq!(value("INIT_CWD"), machine.path("app/src/deep"));
    assert_eq!(value("NODE"), machine.path("bin/node"));
    let first = machine.path("app/node_modules/.bin");
    assert!(value("PATH").starts_with(&first), "{}", value("PATH"));
    assert!(value("PATH").ends_with(&machine.path("bin")));
}

#[test]
fn a_package_that_cannot_be_resolved_is_refused() {
    let machine = Machine::new();
    assert!(machine.refused("npm start").contains("there is no package.json"));
    machine.file("app/package.json", "{");
    assert!(machine.refused("npm start").contains("correct it"));
    machine.file("app/package.json", "[]");
    assert!(machine.refused("npm start").contains("it is no JSON object"));
    machine.scripts(
        r#"{"dev":"tsx server.ts", "loop":"npm run loop", "py":"python a.py",
            "build":"npm run prepare && node a", "prepare":"node build.js", "number":1}"#,
    );
    machine.file("app/node_modules/.bin/tsx", "#!/usr/bin/env node\n");
    for (line, expected) in [
        ("npm run nothing", "has no script \"nothing\": it has"),
        ("npm run number", "has no script \"number\""),
        ("npm run dev", "write node --import tsx server.ts instead"),
        ("npx tsx server.ts", "write node --import tsx server.ts instead"),
        ("npm run loop", "leads to itself"),
        ("npm run py", "what it runs is not known to be Node"),
        ("npm run build", "npm run prepare takes the worker's channel before the server"),
        ("npm run", "it names no script"),
        ("npm", "it runs no script"),
        ("npm install", "it runs no script of this package"),
        ("npm -w shop start", "options that sticky-run does not know"),
        ("pnpm --filter shop start", "options that sticky-run does not know"),
        ("npm --prefix", "options that sticky-run does not know"),
        ("npx serve", "node_modules/.bin has no serve"),
        ("npx -p serve serve", "options that sticky-run does not know"),
        ("yarn missing", "node_modules/.bin has no missing"),
        ("pnpm dlx serve", "it runs no script of this package"),
    ] {
        let refused = machine.refused(line);
        assert!(refused.contains(expected), "{line}: {refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    assert_eq!(typed(&machine.node("npm start")), "node ^ server.js", "npm's own default");
    machine.file("app/.pnp.cjs", "");
    assert!(machine.refused("yarn node a").contains("write node -r"));
}

#[test]
fn launchers_of_pnpm_are_node_programs() {
    let machine = Machine::new();
    let launcher = "#!/bin/sh\nbasedir=x\nexec node  \"$basedir/../x/x.js\" \"$@\"\n";
    machine.file("app/package.json", "{}");
    machine.file("app/node_modules/.bin/serve", launcher);
    machine.file("app/node_modules/.bin/tsx", launcher);
    machine.file("app/serve", launcher);
    assert_eq!(typed(&machine.node("pnpm exec serve a")), "serve a");
    assert!(machine.refused("pnpm tsx a.ts").contains("node --import tsx a.ts"));
    assert_eq!(machine.line("./serve"), Recognised::Other);
}
