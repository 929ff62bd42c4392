"""Where am I running, for whom, and with what limits: flags and environment become one frozen record here."""

from __future__ import annotations

import argparse
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import modules
from modules.tasks import Limits

USER = "studio"
DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
DTYPES = ("auto", "float32", "bfloat16", "float16")

PUBLIC_LIMITS: dict[str, Limits] = {
    "steps": Limits(1, 100, 1),
    "pixels": Limits(64 * 64, 1024 * 1024, 1),
    "batch_size": Limits(1, 4, 1),
}
CLASSROOM_LIMITS: dict[str, Limits] = {
    "steps": Limits(1, 30, 1),
    "pixels": Limits(64 * 64, 512 * 512, 1),
    "batch_size": Limits(1, 2, 1),
}
PUBLIC_QUEUE, CLASSROOM_QUEUE, LOCAL_QUEUE = 20, 60, 100
PUBLIC_KEEP_SECONDS, CLASSROOM_KEEP_SECONDS = 3600, 8 * 3600


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def share_cores(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let torch's idle threads sleep instead of spin, unless the environment says how they wait.

    Spinning, two threads beside a busy browser on two cores take many times as long as sleeping ones. Must be
    called before torch is imported.
    """
    if not any(name in environ for name in WAITING):
        environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _one_of(options: tuple[str, ...]) -> Callable[[str], str]:
    def read(said: str) -> str:
        if said not in options:
            raise argparse.ArgumentTypeError(f"{said!r} is not one of {', '.join(options)}")
        return said

    return read


def _port(said: str) -> int:
    if not said.isascii() or not said.isdigit() or not 1 <= int(said) <= 65535:
        raise argparse.ArgumentTypeError(f"{said!r} is not a whole number from 1 to 65535")
    return int(said)


def _device(said: str) -> str:
    name, _, index = said.partition(":")
    if name not in DEVICES or (index and not index.isdigit()) or said.endswith(":"):
        raise argparse.ArgumentTypeError(f"{said!r} is not one of {', '.join(DEVICES)}, or like cuda:1")
    return said


def _truth(said: str) -> bool:
    if said.lower() in ("1", "true", "yes", "on"):
        return True
    if said.lower() in ("0", "false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{said!r} is neither yes nor no; use 1 or 0")


class Flag(NamedTuple):
    """One flag, and the environment variable of its name: EPSILON_PORT beside --port."""

    name: str
    group: str
    help: str
    read: Callable[[str], Any] = str
    default: Any = None
    metavar: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"EPSILON_{self.name.upper()}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run of the studio: where it listens, what it loads, what it allows.

    `limits` tightens the Task's own, field by field ("pixels" is width times height); `auth` is
    (user, password) or None; `keep_seconds` is the age at which saved pictures are deleted, None for
    never; `notes` are sentences for whoever started the program.
    """

    where: str = "local"  # local, share, spaces or zerogpu
    host: str = "127.0.0.1"
    port: int | None = None  # None: 7860, or the next one that is free
    share: bool = False
    model: str = "pocket"
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    public: bool = False
    classroom: bool = False
    mcp: bool = False
    auth: tuple[str, str] | None = field(default=None, repr=False)
    output_dir: Path = modules.HOME / "outputs"
    models: Path = modules.HOME / "models"
    adapters: Path = modules.HOME / "adapters"
    limits: Mapping[str, Limits] = field(default_factory=dict)
    queue_size: int = LOCAL_QUEUE
    keep_seconds: float | None = None
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def place(self) -> str:
        """What a refusal calls the studio."""
        return "classroom" if self.classroom else "public studio"

    @staticmethod
    def from_args(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings that a command line and an environment ask for.

        Exits with a sentence (SystemExit 2) on a bad flag or variable, and with the help on --help.
        """
        parser = _parser(environ)
        asked = parser.parse_args(argv)
        if asked.share and asked.offline:
            parser.error("--share needs the network and --offline forbids it: choose one")
        if asked.mcp and find_spec("mcp") is None:
            parser.error('--mcp needs one more package; install it with: pip install "mcp<2"')
        where = _where(asked, environ)
        on_spaces = where in ("spaces", "zerogpu")
        public = asked.public or on_spaces or asked.classroom
        host = asked.host or ("0.0.0.0" if on_spaces else "127.0.0.1")
        password = asked.password or (secrets.token_urlsafe(9) if where == "share" else "")
        output_dir, output_note = _output_dir(asked.outputs, public=public)
        return Settings(
            where=where,
            host=host,
            port=asked.port,
            share=asked.share and not on_spaces,
            model=asked.model,
            device=asked.device,
            dtype=asked.dtype,
            offline=asked.offline,
            public=public,
            classroom=asked.classroom,
            mcp=asked.mcp,
            auth=(USER, password) if password else None,
            output_dir=output_dir,
            models=Path(asked.models).expanduser().resolve(),
            adapters=Path(asked.adapters).expanduser().resolve(),
            **_measures(public=public, classroom=asked.classroom),
            notes=tuple(_notes(asked, where, host, password, public=public)) + output_note,
        )


WHO, WHAT, ELSE = "who can open the page", "what paints, and where", "besides"
FLAGS = (
    Flag(
        "host",
        WHO,
        "address to listen on; without it only this computer can connect, 0.0.0.0 lets your network in",
        metavar="ADDRESS",
    ),
    Flag(
        "port",
        WHO,
        "port to listen on (default: 7860, or the next one that is free)",
        _port,
        metavar="NUMBER",
    ),
    Flag(
        "share",
        WHO,
        "also open a public gradio.live link, locked with a password that is printed at the start",
        _truth,
        default=False,
    ),
    Flag(
        "password",
        WHO,
        f"ask visitors for this password (user name: {USER}); EPSILON_PASSWORD keeps it off the screen",
        default="",
    ),
    Flag(
        "public",
        WHO,
        "strangers will use this: tighter limits on steps, size and queue, and pictures are kept one hour",
        _truth,
        default=False,
    ),
    Flag(
        "classroom",
        WHO,
        "a class will use this: as --public, tighter still, words and classes only, nothing to upload",
        _truth,
        default=False,
    ),
    Flag(
        "model",
        WHAT,
        "a model of the catalogue, a folder in diffusers layout, a .safetensors file, or a repository on the "
        "hub (owner/name); one that is not here is offered on the page (default: pocket)",
        default="pocket",
        metavar="NAME",
    ),
    Flag(
        "device",
        WHAT,
        "auto, cpu, cuda, cuda:1, mps or xpu (default: auto, the GPU if there is one, else the CPU)",
        _device,
        default="auto",
    ),
    Flag(
        "dtype",
        WHAT,
        "auto, float32, bfloat16 or float16 (default: auto, float32 on a CPU and float16 on a GPU; "
        "bfloat16 for large models on CPUs that have it)",
        _one_of(DTYPES),
        default="auto",
    ),
    Flag(
        "mcp",
        ELSE,
        'also serve the studio as tools for MCP clients; needs: pip install "mcp<2"',
        _truth,
        default=False,
    ),
    Flag("offline", ELSE, "never reach for the network, not even for a model", _truth, default=False),
    Flag(
        "models",
        ELSE,
        "where models lie that were downloaded, or put there (default: models, beside app.py)",
        default=str(modules.HOME / "models"),
        metavar="FOLDER",
    ),
    Flag(
        "adapters",
        ELSE,
        "where LoRAs, embeddings and IP-Adapters lie, in lora/, embeddings/ and ip_adapter/ "
        "(default: adapters, beside app.py)",
        default=str(modules.HOME / "adapters"),
        metavar="FOLDER",
    ),
    Flag("outputs", ELSE, "where finished pictures go (default: outputs, beside app.py)", metavar="FOLDER"),
)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Epsilon Studio: type what you want to see, watch it form out of noise.\n"
        "Without any flag it opens on this computer alone, with the small model that comes with it.",
        epilog="Every flag has an environment variable: EPSILON_PORT=8000, EPSILON_OFFLINE=1, and so on.\n"
        "A flag wins over its variable. OMP_NUM_THREADS sets the number of CPU threads.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {title: parser.add_argument_group(title) for title in (WHO, WHAT, ELSE)}
    for flag in FLAGS:
        default = _from_environment(flag, environ, parser)
        if flag.read is _truth:
            groups[flag.group].add_argument(
                f"--{flag.name}", action=argparse.BooleanOptionalAction, default=default, help=flag.help
            )
        else:
            groups[flag.group].add_argument(
                f"--{flag.name}", type=flag.read, default=default, metavar=flag.metavar, help=flag.help
            )
    return parser


def _from_environment(flag: Flag, environ: Mapping[str, str], parser: argparse.ArgumentParser) -> Any:
    said = environ.get(flag.variable, "").strip()
    try:
        return flag.read(said) if said else flag.default
    except argparse.ArgumentTypeError as error:
        parser.error(f"environment variable {flag.variable}: {error}")


def _where(asked: argparse.Namespace, environ: Mapping[str, str]) -> str:
    if environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true"):
        return "zerogpu"
    if environ.get("SPACE_ID"):
        return "spaces"
    return "share" if asked.share else "local"


def _measures(*, public: bool, classroom: bool) -> dict[str, Any]:
    """What is allowed, how many may wait, and how long pictures are kept."""
    if classroom:
        limits, queue, keep = CLASSROOM_LIMITS, CLASSROOM_QUEUE, CLASSROOM_KEEP_SECONDS
    elif public:
        limits, queue, keep = PUBLIC_LIMITS, PUBLIC_QUEUE, PUBLIC_KEEP_SECONDS
    else:
        limits, queue, keep = {}, LOCAL_QUEUE, None
    return {"limits": limits, "queue_size": queue, "keep_seconds": keep}


def _output_dir(asked: str | None, *, public: bool) -> tuple[Path, tuple[str, ...]]:
    """Beside app.py, where people look; in a temporary folder if that is read-only or strangers paint."""
    temporary = Path(tempfile.gettempdir()) / "epsilon-studio"
    if asked:  # strangers' pictures are swept by age, so they get a folder that holds nothing else
        folder = Path(asked).expanduser().resolve()
        return (folder / "public" if public else folder), ()
    if public:
        return temporary, ()
    if os.access(modules.HOME, os.W_OK):
        return modules.HOME / "outputs", ()
    return temporary, (f"{modules.HOME} is read-only, so pictures go to {temporary}.",)


def _notes(asked: argparse.Namespace, where: str, host: str, password: str, *, public: bool) -> list[str]:
    notes = []
    if where == "share" and not asked.password:
        notes.append(f"The share link asks for user {USER} and password {password} (made for this run).")
    if asked.share and where in ("spaces", "zerogpu"):
        notes.append("--share does nothing on Spaces: the Space itself is the link.")
    if not _is_loopback(host) and not password and not public:
        notes.append(
            f"Anyone who can reach {host} can use this studio: set --password, "
            "or --public for tighter limits."
        )
    return notes


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
