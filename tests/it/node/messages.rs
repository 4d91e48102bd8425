//! What apps say to a primary of their own, which is not there.

use std::fs;

use tempfile::TempDir;

use crate::support::event;
use crate::support::node::App;

#[test]
fn log4js_writes_in_each_worker() {
    let Some(app) = App::new("logs.js") else { return };
    let running = app.start(2);
    running.wait_for_log_times("logged by log4js", 2);
    running.expect_no_trouble();
}

/// An app whose package says this to the primary.
fn asking(message: &str) -> (TempDir, Option<App>) {
    let directory = TempDir::new().expect("a directory of our own");
    let package = directory.path().join("node_modules/@asks/more");
    fs::create_dir_all(&package).expect("it is ours");
    let write =
        |name, text: &str| fs::write(directory.path().join(name), text).expect("it is ours");
    write("node_modules/@asks/more/index.js", &format!("process.send({message})"));
    let server = "require('http').createServer(() => {}).listen(process.env.PORT, () => require('@asks/more'))";
    write("app.js", server);
    let app = App::at(&directory.path().join("app.js"));
    (directory, app)
}

#[test]
fn whoever_says_something_to_the_primary_is_named_once() {
    let (_directory, Some(app)) = asking("{ wants: 'an answer' }") else { return };
    let running = app.start(3);
    let unheard = event("message_unheard").with("from", "@asks/more");
    running.wait_event(unheard.saying(r#": {"wants":"an answer"}; "#));
    running.restart();
    assert_eq!(running.count_events("message_unheard"), 1, "{}", running.log());
}

#[test]
fn a_greeting_is_no_question() {
    let (_directory, Some(app)) = asking("'ready'") else { return };
    let running = app.start(1);
    running.restart();
    assert_eq!(running.count_events("message_unheard"), 0, "{}", running.log());
}
