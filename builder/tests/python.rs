//! The python pack, with the tools that `scripts/setup` fetched.
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
        a_handler_and_a_program_become_components,
        faults_of_the_code_are_named_by_file_and_line,
        what_cannot_be_built_is_refused_with_the_reason,
    ])
}

fn a_handler_and_a_program_become_components() {
    let server = Server::new();
    let files: &[(&str, &[u8])] = &[
        (
            "Procfile",
            b"web: python web.py\nworker: python work/er.py --pause 2",
        ),
        (
            "web.py",
            b"from gilliam import Response\nimport work.shared\n\n\
            def handle(request):\n    return Response('hi')",
        ),
        (
            "work/er.py",
            b"import shared, time\nwhile True:\n    time.sleep(shared.PAUSE)",
        ),
        ("work/shared.py", b"PAUSE = 1"),
    ];
    let built = server.build(files);
    for line in [
        "       componentize-py ",
        "       handle of web.py is called for each request",
        "       work/er.py runs as a program",
    ] {
        assert!(built.output.contains(line), "{line} is not in {}", built.output);
    }
    let image = built.image();
    let shapes: Vec<(&str, Shape, Vec<&str>)> = image
        .processes
        .iter()
        .map(|(name, process)| {
            let args = process.args.iter().map(String::as_str).collect();
            (name.as_str(), process.shape, args)
        })
        .collect();
    assert_eq!(
        shapes,
        [
            ("web", Shape::HttpP2, vec!["web.py"]),
            ("worker", Shape::CommandP2, vec!["work/er.py", "--pause", "2"]),
        ]
    );
}

fn faults_of_the_code_are_named_by_file_and_line() {
    let error = Server::new()
        .build(&[
            ("Procfile", b"web: python web.py"),
            (
                "web.py",
                b"import os\nimport nowhere\nimport wrong, other\napp = nowhere.App()",
            ),
            ("wrong.py", b"x = 1\nif x = 2:\n    pass"),
            (
                "other.py",
                b"try:\n    import fast\nexcept ImportError:\n    import sqlite3\n\nimport ctypes",
            ),
            ("never_imported.py", b"print 'an old Python'"),
        ])
        .error();
    assert_eq!(error.code, Code::B15);
    for part in [
        "File \"wrong.py\", line 2",
        "SyntaxError: invalid syntax",
        "web.py line 2: import nowhere: No module named 'nowhere'; is it in requirements.txt?",
        "other.py line 6: import ctypes: ",
    ] {
        assert!(error.message.contains(part), "{part} is not in {}", error.message);
    }
    assert!(!error.message.contains("never_imported"), "{}", error.message);
}

fn what_cannot_be_built_is_refused_with_the_reason() {
    let server = Server::new();
    let app: &[u8] = b"def app(environ, start_response): ...";
    let none: &[u8] = b"";
    let pin: &[u8] = b"3.9.18\n";
    let project: &[u8] = b"[project]\nname = 'x'\nrequires-python = '<3.12'";
    let setting: &[u8] = b"[tool.gilliam]\nwebb = 'listen'";
    for (command, file, text, message) in [
        ("python", "README.md", none, "python without a file"),
        ("python other.py", "README.md", none, "there is no file other.py"),
        ("python ../app.py", "README.md", none, "leads outside the project"),
        (
            "python -c pass",
            "README.md",
            none,
            "only python FILE and python -m MODULE are built",
        ),
        ("gunicorn", "README.md", none, "gunicorn names no application"),
        ("gunicorn wsgi:app", "README.md", none, "there is no wsgi.py"),
        ("flask shell", "README.md", none, "only flask run is built"),
        (
            "python app.py",
            ".python-version",
            pin,
            "the project wants Python 3.9.18, the platform has 3.14.0",
        ),
        (
            "python app.py",
            "pyproject.toml",
            project,
            "requires-python = '<3.12', the platform has Python 3.14.0",
        ),
        (
            "python app.py",
            "pyproject.toml",
            setting,
            "[tool.gilliam] has no 'webb'",
        ),
        ("python app.py", "pyproject.toml", b"[project", "pyproject.toml: "),
        ("python app.py", "requirements.txt", b"flask==999", "wheel"),
    ] {
        let procfile = format!("web: {command}");
        let error = server
            .build(&[("Procfile", procfile.as_bytes()), ("app.py", app), (file, text)])
            .error();
        assert_eq!(error.code, Code::B15, "{command} {file}: {error:?}");
        assert!(
            error.message.contains(message),
            "{command} {file}: {}",
            error.message
        );
    }
}
