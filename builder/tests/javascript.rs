//! JavaScript and TypeScript as a deploy builds them: each kind of script, the same bytes for the same sources, and
//! what is said of projects that do not build.
//!
//! It has a main of its own, because the build child and its sandboxes are this program, started again.

mod support;

use std::process::ExitCode;

use gilliam_model::{code::Code, image::Shape};

use support::{
    own_main::{self, tests},
    server::Server,
};

fn main() -> ExitCode {
    own_main::run(tests![
        scripts_become_what_they_are_made_for,
        typescript_and_start_scripts_build,
        servers_of_node_become_web_processes,
        the_same_sources_give_the_same_bytes,
        a_project_reads_what_is_wrong_with_it,
    ])
}

const WEB: &[u8] = b"export default { fetch: () => new Response(process.env.GREETING) };\n";

fn scripts_become_what_they_are_made_for() {
    let event = b"addEventListener('fetch', (event) => event.respondWith(new Response('hello')));";
    let built = Server::new().build(&[
        (
            "Procfile",
            b"web: node web.js --color 'dark red'\nevent: node event\nworker: node worker.js",
        ),
        ("web.js", WEB),
        ("event.js", event),
        ("worker.js", b"console.log('working');"),
    ]);
    assert!(built.output.contains("componentize-js 0."), "{}", built.output);
    let image = built.image();
    let shapes: Vec<_> = image
        .processes
        .iter()
        .map(|(name, process)| (name.as_str(), process.shape))
        .collect();
    assert_eq!(
        shapes,
        [
            ("event", Shape::HttpP2),
            ("web", Shape::HttpP2),
            ("worker", Shape::CommandP2)
        ]
    );
    let args: Vec<_> = image.processes.values().map(|process| &process.args).collect();
    assert_eq!(args[1], &["web.js", "--color", "dark red"]);
}

fn typescript_and_start_scripts_build() {
    let image = Server::new()
        .build(&[
            ("Procfile", b"web: npm start\nworker: npx tsx jobs/main.ts"),
            (
                "package.json",
                br#"{ "engines": { "node": ">=20" }, "scripts": { "start": "NODE_ENV=production tsx web.ts --x" } }"#,
            ),
            (
                "web.ts",
                b"import { greet } from './greet';\nexport default {\n\
                  fetch: (r: Request): Response => new Response(greet(r.url)),\n};",
            ),
            (
                "greet.ts",
                b"export const greet = (name: string): string => `hello ${name}`;",
            ),
            (
                "jobs/main.ts",
                b"enum Colour { Red }\nconst n: number = Colour.Red;\nawait 0;\nconsole.log(n satisfies number);",
            ),
        ])
        .image();
    let processes: Vec<_> = image.processes.values().collect();
    assert_eq!(processes[0].args, ["web.ts", "--x"]);
    assert_eq!(processes[0].shape, Shape::HttpP2);
    assert_eq!(processes[1].shape, Shape::CommandP2);
}

fn servers_of_node_become_web_processes() {
    let image = Server::new()
        .build(&[
            ("Procfile", b"web: node web.js"),
            (
                "web.js",
                b"const http = require('http');\n\
                  http.createServer((req, res) => res.end(req.url)).listen(process.env.PORT);",
            ),
        ])
        .image();
    assert!(
        image
            .processes
            .values()
            .all(|process| process.shape == Shape::HttpP2)
    );
}

fn the_same_sources_give_the_same_bytes() {
    let files: &[(&str, &[u8])] = &[("Procfile", b"web: node web.js"), ("web.js", WEB)];
    // Another server: nothing is kept from one build to the other.
    let one = Server::new().build(files).image();
    let other = Server::new().build(files).image();
    assert_eq!(one, other);
}

#[track_caller]
fn refused(files: &[(&str, &[u8])], parts: &[&str]) {
    let mut server = Server::new();
    // What is wrong is found without asking anybody.
    server.registries = "none".to_string();
    let error = server.build(files).error();
    assert_eq!(error.code, Code::B15, "{error:?}");
    for part in parts {
        assert!(
            error.message.contains(part),
            "{part:?} is not in\n{}",
            error.message
        );
    }
}

fn a_project_reads_what_is_wrong_with_it() {
    let web: (&str, &[u8]) = ("Procfile", b"web: node web.js");
    refused(
        &[web, ("web.js", b"const a = 1;\nconst b = ;\n")],
        &["Unexpected \";\"", "web.js:2:10"],
    );
    refused(
        &[
            web,
            ("web.js", b"\nimport { x } from './lost.js';\nexport default x;"),
        ],
        &["Could not resolve \"./lost.js\"", "web.js:2:18"],
    );
    refused(
        &[
            web,
            ("web.js", b"import 'node:child_process';\nexport default () => 1;"),
        ],
        &["node:child_process is not there", "web.js:1:7"],
    );
    refused(
        &[web, ("web.js", b"console.log('hello');")],
        &["answers no requests"],
    );
    refused(&[web], &["there is no web.js in the project"]);
    refused(&[("Procfile", b"web: node -e 1")], &["node -e runs no file"]);
    refused(&[("Procfile", b"web: npm start")], &["there is no package.json"]);
    let package: &[(&[u8], &str)] = &[
        (
            br#"{ "engines": { "node": "16.x" } }"#,
            "engines.node asks for 16.x",
        ),
        (b"{", "package.json: "),
        (
            br#"{ "dependencies": { "hono": "4" } }"#,
            "depends on packages (hono)",
        ),
    ];
    for (text, part) in package {
        refused(&[web, ("web.js", WEB), ("package.json", text)], &[part]);
    }
    refused(
        &[
            ("Procfile", b"web: npm start"),
            (
                "package.json",
                br#"{ "scripts": { "start": "tsc && node web.js" } }"#,
            ),
        ],
        &["needs a shell: tsc && node web.js"],
    );
}
