"""The command line: parse, call one stage, print.

Nothing heavy is imported until a command runs, so that `--help` answers at once. `main` is the one place where errors
become a line of text and an exit code.
"""

from __future__ import annotations

import errno
import inspect
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast, get_args

import typer

from eearth.config import Settings, describe, launched, resolve, setting_names, setting_types
from eearth.errors import EearthError, WorkspaceError
from eearth.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from eearth.manifest import Manifest

# One line a stage, in the order in which a project goes through them.
STAGES = {
    "download": "eearth.stages.download",
    "rasterize": "eearth.stages.rasterize",
    "pretrain": "eearth.stages.pretrain",
    "finetune": "eearth.stages.finetune",
    "predict": "eearth.stages.predict",
    "sample": "eearth.stages.sample",
    "assess": "eearth.stages.assess",
    "report": "eearth.stages.report",
    "embed": "eearth.stages.embed",
    "compare": "eearth.stages.compare",
}

# typer brings its own copy of click or uses the installed one, by its version: its root of errors is asked of itself.
MISUSE = cast("type[typer.BadParameter]", typer.BadParameter.__base__)

# What typer makes of Ctrl-C: the exit code of a process that the signal ended.
TYPER_INTERRUPTED = 130

OUT_OF_MEMORY = "out of memory: take a smaller --batch-size, fewer --dates, or --device cpu"

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED_DISK = (errno.EROFS, errno.EACCES, errno.EPERM)

app = typer.Typer(
    name="eearth",
    help="From a polygon on a map to a land cover map, by way of Embedding Earth: self-supervised pre-training on "
    "satellite image time series, then few labels.\n\nEach stage writes its artifacts into the workspace and reads "
    "those of earlier stages: download, rasterize, pretrain, finetune, predict; sample, assess and report say how good "
    "the map is; embed and compare stand beside them. Every command can be interrupted: the same command goes on where "
    "it stopped.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="EEARTH_WORKSPACE",
        show_envvar=True,
        help="Folder of the project.",
        metavar="DIR",
    ),
]


def _stage_command(cls: type[Settings]) -> Callable[..., None]:
    """A command whose arguments and options are the fields of the stage's settings."""

    def command(workspace: Path, **values: Any) -> None:
        flags = {name: value for name, value in values.items() if value is not None}
        try:
            _run_stage(cls, workspace, flags)
        except EearthError as error:
            error.workspace = _named(workspace)
            raise

    command.__doc__ = cls.__doc__
    parameters = [_parameter(cls, name) for name in setting_names(cls)]
    parameters.append(
        inspect.Parameter("workspace", inspect.Parameter.KEYWORD_ONLY, default=Path(), annotation=WorkspaceOption)
    )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(cls: type[Settings], name: str) -> inspect.Parameter:
    declared = cls.__dataclass_fields__[name]
    kind = setting_types(cls)[name]
    text = declared.metadata["text"]
    if declared.metadata["argument"]:
        shown: Any = typer.Argument(help=text, metavar=name.upper(), show_default=False)
        return _keyword(name, Annotated[str, shown], inspect.Parameter.empty)
    if kind is bool:
        flag = f"--{name.replace('_', '-')}"
        shown = typer.Option(flag, help=text, show_default=False)
        return _keyword(name, Annotated[bool | None, shown], None)
    default = _default_text(declared.default)
    shown = typer.Option(help=f"{text}{default}", metavar=_metavar(kind), show_default=False)
    return _keyword(name, Annotated[str | None, shown], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default_text(default: Any) -> str:
    if default is None or default == ():
        return ""
    text = ",".join(str(part) for part in default) if isinstance(default, tuple) else str(default)
    return f"  [default: {text}]"


def _metavar(kind: Any) -> str:
    plain = next((part for part in get_args(kind) if part in (int, float, str, Path)), kind)
    names = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
    if get_args(kind) and get_args(kind)[-1] is Ellipsis:
        return f"{names.get(get_args(kind)[0], 'TEXT')},..."
    return names.get(plain) or describe(kind)


def _run_stage(cls: type[Settings], folder: Path, flags: dict[str, Any]) -> None:
    from eearth.console import Reporter, show_table
    from eearth.workspace import Workspace

    settings = resolve(cls, flags, folder)
    workspace = Workspace(folder)
    stage = getattr(import_module(STAGES[cls.stage]), cls.stage)
    if launched()[0] > 0:  # of several processes that work together, the first one speaks
        stage(workspace, settings)
        return
    with Reporter(_named(folder)) as report:
        manifest: Manifest | None = stage(workspace, settings, report)
    if manifest:  # nothing was made where only an estimate was asked for
        show_table(_summary(workspace.folder(cls.stage), manifest))


def _named(workspace: Path) -> Path | None:
    """The workspace, if it is not just the current folder."""
    return None if workspace == Path() else workspace


def _summary(folder: Path, manifest: Manifest) -> Any:
    from eearth.events import Table

    rows = [(name, str(value)) for name, value in (manifest.figures | manifest.timings).items()]
    return Table(title=f"{folder}/  ({manifest.seconds:.1f} s)", columns=("", manifest.stage), rows=tuple(rows))


for _settings in SETTINGS.values():
    app.command(_settings.stage, no_args_is_help=False)(_stage_command(_settings))


@app.command("status")
def _status(
    workspace: WorkspaceOption = Path(),
    *,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read every artifact again and compare it with the manifest; exit with 1 if one is damaged.",
        ),
    ] = False,
) -> None:
    """Every stage: done, interrupted, stale or damaged, the command that mends it, and its key figures."""
    from eearth.console import Reporter, show_table
    from eearth.events import Table
    from eearth.status import project_status
    from eearth.workspace import Workspace

    if not workspace.is_dir():
        msg = f"expected a workspace, found no folder at {workspace}: `eearth download REGION -w {workspace}` makes one"
        raise WorkspaceError(msg)
    with Reporter() as report:
        stages = project_status(Workspace(workspace), verify=verify, report=report)
    rows = tuple(
        (
            status.stage,
            status.state,
            status.reason or ", ".join(f"{name} {value}" for name, value in status.figures.items()),
            status.command,
        )
        for status in stages
    )
    show_table(Table(title=str(workspace.resolve()), columns=("stage", "state", "", "what to run"), rows=rows))
    if verify and any(status.state in {"damaged", "broken"} for status in stages):
        raise typer.Exit(1)


@app.command("view")
def _view(
    workspace: WorkspaceOption = Path(),
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. Default: any that is free.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """The map over its imagery in the browser, on this machine only; Ctrl-C ends it."""
    from eearth.console import Reporter
    from eearth.view.session import view
    from eearth.workspace import Workspace

    with Reporter() as report:
        view(Workspace(workspace), port=port, browser=not no_browser, opened=typer.echo, report=report)


@app.command("demo")
def _demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to work; made if it is not there.")] = Path(
        "demo"
    ),
    *,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of the comparison, each with another split.")] = 5,
) -> None:
    """The main job on an embedded, simulated region, and a comparison; no network."""
    from eearth.console import Reporter
    from eearth.demo import run_demo

    with Reporter() as report:
        run_demo(folder, seeds=seeds, report=report)


def _show_version(value: bool) -> None:  # noqa: FBT001 - the signature of a typer callback
    if value:
        typer.echo(f"eearth {version('eearth')}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line: the one error boundary."""
    try:
        code = app(standalone_mode=False) or 0
    except MISUSE as error:
        _fail(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = TYPER_INTERRUPTED
    except EearthError as error:
        _fail(str(error), error.exit_code, error.workspace)
    except MemoryError:
        _fail(OUT_OF_MEMORY, 1)
    except OSError as error:
        _fail(_disk_text(error), 1)
    except Exception as error:  # a defect of eearth's own still gets one line
        if os.environ.get("EEARTH_DEBUG"):
            raise
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be imported to be recognised
            _fail(OUT_OF_MEMORY, 1)
        _fail(f"unexpected {type(error).__name__}: {error} (EEARTH_DEBUG=1 shows where; please report it)", 1)
    if code == TYPER_INTERRUPTED:
        _fail("interrupted; the same command continues where it stopped", 1)
    sys.exit(code)


def _disk_text(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in FULL_DISK:
        return f"the disk is full{where}: free some space and run the same command again, it continues"
    if error.errno in CLOSED_DISK:
        return f"not allowed to read or write{where}: check its permissions, or choose another --workspace"
    return f"{error.strerror or error}{where}"


def _fail(text: str, code: int, workspace: Path | None = None) -> NoReturn:
    from eearth.console import show_error

    show_error(" ".join(text.split()), workspace)
    sys.exit(code)
