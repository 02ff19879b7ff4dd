"""What the command asks for: which module runs, and whether the platform calls it or it listens itself.

An application that a command names (`gunicorn app:app`) is called for each request. A script that starts a
server runs as it stands and listens on `$PORT`. One that only defines an application is called, too.
"""

import ast
import re

from wrong import Wrong

# Calls that serve until the process ends, by their last name.
SERVES = {
    "serve_forever",
    "run_simple",
    "run_app",
    "serve",
    "start_server",
    "create_server",
    "run_forever",
    "listen",
}
# Names of applications, in the order in which they are looked for.
APPLICATIONS = ("app", "application")
HANDLER = "handle"
# Frameworks whose applications are asynchronous.
ASGI = {"fastapi", "starlette", "quart", "litestar", "blacksheep", "falcon.asgi", "django.core.asgi"}
# Options of servers that take no value; others take the word that follows, unless it comes with `=`.
FLAGS = {
    "--reload",
    "--preload",
    "--factory",
    "--debug",
    "--no-reload",
    "--no-debug",
    "--debugger",
    "--no-debugger",
    "--with-threads",
    "--without-threads",
    "--proxy-headers",
    "--no-proxy-headers",
    "--no-access-log",
    "--access-log",
    "--no-server-header",
    "--call",
    "--check-config",
    "--no-sendfile",
    "--use-colors",
}


def read(words, process, root, settings):
    """The order, as `gilliam._entry` takes it."""
    program, rest = words[0], words[1:]
    if program in ("python", "python3"):
        plan = _python(rest, process, root, settings.get("gilliam", {}).get("web"))
    elif program == "flask":
        plan = _flask(rest, root)
    else:
        plan = _server(program, rest, root)
    plan.setdefault("folder", "")
    plan["process"] = process
    plan.setdefault("arguments", [program, *rest])
    if "preload" in settings.get("gilliam", {}):
        plan["preload"] = settings["gilliam"]["preload"]
    return plan


def _python(words, process, root, web):
    while words and words[0] in ("-u", "-O", "-OO", "-B", "-s", "-I", "-E"):
        words = words[1:]
    if not words:
        raise Wrong("python without a file: write python web.py, or python -m package")
    if words[0] == "-m":
        if len(words) < 2:
            raise Wrong("python -m without a module: write python -m package")
        return _module(words[1], words[2:], root)
    script = words[0]
    if script.startswith("-"):
        raise Wrong(f"python {script}: only python FILE and python -m MODULE are built")
    path = root / script
    if not path.resolve().is_relative_to(root.resolve()):
        raise Wrong(f"python {script}: the file leads outside the project")
    if not path.is_file():
        raise Wrong(f"python {script}: there is no file {script}")
    script = str(path.resolve().relative_to(root.resolve()))
    folder, _, name = script.rpartition("/")
    module = name.removesuffix(".py")
    plan = {
        "kind": "command",
        "entry": _dotted(script),
        "folder": folder,
        "arguments": words,
        "target": {"script": script},
        "says": f"{script} runs as a program",
    }
    found = _look(path)
    if process != "web":
        if found.job:
            plan["kind"], plan["target"] = "job", {"module": module, "name": found.job}
            plan["says"] = f"{found.job} of {script} is called for each job"
        return plan
    if web == "listen" or (web is None and found.is_serving) or not found.name:
        if web == "requests":
            raise Wrong(
                f'{script} defines no app, application or handle, which [tool.gilliam] web = "requests" needs'
            )
        plan["says"] = f"{script} runs as a program that listens on $PORT"
        return plan
    plan["target"] = {"module": module, "name": found.name, "arguments": [], "callable": found.kind}
    if found.kind == "asgi":
        plan.update(
            kind="asgi",
            libraries=["gilliam._asgi"],
            says=f"{found.name} of {script} is served on $PORT (ASGI)",
        )
    else:
        plan.update(kind="requests", says=f"{found.name} of {script} is called for each request")
    return plan


def _module(name, rest, root):
    path = name.replace(".", "/")
    for entry, file in ((f"{name}.__main__", f"{path}/__main__.py"), (name, f"{path}.py")):
        if (root / file).is_file():
            return {
                "kind": "command",
                "entry": entry,
                "arguments": [file, *rest],
                "target": {"run": name},
                "says": f"{file} runs as a program",
            }
    return {
        "kind": "command",
        "entry": name,
        "arguments": [name, *rest],
        "target": {"run": name},
        "libraries": [name],
        "says": f"the module {name} runs as a program",
    }


def _flask(words, root):
    options, rest = _options(words)
    if rest[:1] != ["run"]:
        raise Wrong(f"flask {' '.join(rest)}: only flask run is built")
    named = options.get("--app") or options.get("-A")
    if not named:
        named = next(
            (
                name
                for name in ("wsgi", "app")
                if (root / f"{name}.py").is_file() or (root / name / "__init__.py").is_file()
            ),
            None,
        )
    if not named:
        raise Wrong("flask run: there is no wsgi.py or app.py; write flask --app MODULE run")
    module, _, name = named.removesuffix(".py").replace("/", ".").partition(":")
    return _application(module, name or None, root, "wsgi", factories=("create_app", "make_app"))


def _server(program, words, root):
    options, rest = _options(words)
    is_factory = "--factory" in options or "--call" in options
    if not rest:
        raise Wrong(f"{program} names no application: write {program} MODULE:NAME, such as {program} app:app")
    folder = options.get("--chdir") or options.get("--app-dir") or options.get("--pythonpath") or ""
    folder = folder.strip("./")
    module, _, name = rest[-1].partition(":")
    workers = options.get("-k", "") + options.get("--worker-class", "")
    kind = "asgi" if program in ("uvicorn", "hypercorn") or "uvicorn" in workers.lower() else "wsgi"
    plan = _application(module, name or None, root / folder, kind, is_factory=is_factory)
    plan["folder"] = folder
    if options.get("--chdir"):
        plan["chdir"] = folder
    if folder:
        plan["entry"] = f"{folder.replace('/', '.')}.{plan['entry']}"
    return plan


def _options(words):
    options, rest, words = {}, [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            rest.append(word)
        elif "=" in word:
            name, _, value = word.partition("=")
            options[name] = value
        elif len(word) > 2 and word[1] != "-":
            # -w4, or several flags in one.
            options[word[:2]] = word[2:]
        elif word in FLAGS or not words:
            options[word] = ""
        else:
            options[word] = words.pop(0)
    return options, rest


def _application(module, name, root, kind, is_factory=False, factories=()):
    path = module.replace(".", "/")
    file = next((file for file in (f"{path}.py", f"{path}/__init__.py") if (root / file).is_file()), None)
    if file is None:
        raise Wrong(f"there is no {path}.py for the application {module}:{name or 'app'}")
    called = re.fullmatch(r"([\w.]+)\((.*)\)", name or "")
    arguments = []
    if called:
        name, is_factory = called[1], True
        try:
            arguments = list(ast.literal_eval(f"({called[2]},)")) if called[2] else []
        except (ValueError, SyntaxError):
            raise Wrong(f"{module}:{name}({called[2]}): arguments are text and numbers") from None
    if not name:
        defined = _look(root / file).defined
        name = next((name for name in APPLICATIONS if name in defined), None)
        if not name:
            name = next((name for name in factories if name in defined), APPLICATIONS[0])
            is_factory = name in factories
    target = {
        "module": module,
        "name": name,
        "arguments": arguments,
        "is_factory": is_factory,
        "callable": kind,
    }
    plan = {
        "kind": "requests" if kind == "wsgi" else "asgi",
        "entry": module,
        "target": target,
        "says": f"{name} of {file} is called for each request",
    }
    if kind == "asgi":
        plan.update(libraries=["gilliam._asgi"], says=f"{name} of {file} is served on $PORT (ASGI)")
    return plan


class _Look:
    """What a file's text says of it."""

    def __init__(self):
        self.defined, self.is_serving, self.name, self.kind = set(), False, None, None
        # The function that does jobs.
        self.job = None


def _look(path):
    found = _Look()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        # The platform's own Python says what is wrong, or knows more of the language than this one.
        return found
    imported, is_async = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
        elif isinstance(node, ast.Call):
            found.is_serving |= _serves(node.func)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            found.defined.add(node.name)
            if isinstance(node, ast.AsyncFunctionDef):
                is_async.add(node.name)
            if any(_is_job(decorator, tree) for decorator in node.decorator_list):
                found.job = node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.defined.update(target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            found.defined.update(alias.asname or alias.name for alias in node.names)
    found.name = next((name for name in (*APPLICATIONS, HANDLER) if name in found.defined), None)
    is_asgi = found.name in is_async and found.name != HANDLER
    is_asgi |= any(name == asgi or name.startswith(f"{asgi}.") for name in imported for asgi in ASGI)
    found.kind = "handler" if found.name == HANDLER else "asgi" if is_asgi else "wsgi"
    return found


def _is_job(decorator, tree):
    """Whether it is `@gilliam.job`, or `@job` of `from gilliam import job`."""
    if isinstance(decorator, ast.Attribute):
        return decorator.attr == "job" and isinstance(decorator.value, ast.Name) and decorator.value.id == "gilliam"
    if not isinstance(decorator, ast.Name):
        return False
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "gilliam"]
    names = [alias for node in imports for alias in node.names if alias.name == "job"]
    return any(decorator.id == (alias.asname or alias.name) for alias in names)


def _serves(function):
    """Whether it is a call that starts a server: `server.serve_forever`, `app.run`, `uvicorn.run`, `run`."""
    if isinstance(function, ast.Attribute):
        if function.attr == "run":
            return isinstance(function.value, ast.Name) and function.value.id not in ("subprocess", "asyncio")
        return function.attr in SERVES
    return isinstance(function, ast.Name) and function.id in SERVES | {"run"}


def _dotted(script):
    return script.removesuffix(".py").replace("/", ".")
