"""diffusers is opened here only as far as it is used: the rest takes a small machine longer than painting.

Its packages open every network they hold when one is asked for; its loaders import transformers, accelerate
and scipy for what a running studio never calls; a decorator imports torch's compiler; and it reads the list
of files of all that is installed. Inside `sparing()` the packages give their names one by one, as diffusers'
own outermost one does, and the libraries are stand-ins that become real on first use. What is imported
outside gets all of it as ever.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Union

PACKAGES = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.controlnets",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "diffusers.quantizers",
)
UNUSED = ("accelerate", "scipy.integrate", "scipy.stats", "torch._dynamo", "transformers")
"""What diffusers imports, and a running studio may never call."""

_turn = threading.RLock()
_real = threading.local()
"""`_real.wanted` where a thread is importing a library for use, with all that it needs itself."""


@contextmanager
def sparing() -> Iterator[None]:
    """While open, modules of diffusers bring in nothing that they do not use; one thread at a time."""
    with standing_in(UNUSED):
        listing = importlib.metadata.packages_distributions
        importlib.metadata.packages_distributions = declared
        try:
            for name in PACKAGES:
                shelve(name)
            yield
        finally:
            importlib.metadata.packages_distributions = listing


@contextmanager
def standing_in(libraries: Sequence[str]) -> Iterator[None]:
    """While open, libraries that are not imported yet get stand-ins, which become real on first use."""
    with _turn:
        stand_ins = StandIns(libraries)
        sys.meta_path.insert(0, stand_ins)
        try:
            yield
        finally:
            sys.meta_path.remove(stand_ins)
            for module in stand_ins.made:
                module.leave()


class StandIns(MetaPathFinder, Loader):
    """Finds, in place of a library that is not imported yet, a stand-in for each of its modules."""

    def __init__(self, libraries: Sequence[str]):
        self.libraries, self.made = libraries, list[StandIn]()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a stand-in, for what belongs to one of the libraries and is not in use yet."""
        ours = any(fullname == name or fullname.startswith(f"{name}.") for name in self.libraries)
        if not ours or getattr(_real, "wanted", False):
            return None
        top = fullname.partition(".")[0]
        there = any(finder.find_spec(top, None) for finder in sys.meta_path if finder is not self)
        return ModuleSpec(fullname, self, is_package=True) if there else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A new stand-in."""
        self.made.append(StandIn(spec.name))
        return self.made[-1]

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class StandIn(ModuleType):
    """A module before it is imported: what is imported from it becomes real when it is used."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":  # asked for by a decorator, so early
            return importlib.metadata.version(self.__name__.partition(".")[0])
        if name.startswith("__"):
            raise AttributeError(f"The stand-in for {self.__name__} has no {name}.")
        if sys.modules.get(self.__name__) is not self:
            return getattr(self.real(), name)
        return MARKS.get(f"{self.__name__}.{name}", Later(self, name))

    def real(self) -> ModuleType:
        """The module itself, imported now if it never was, with all that it imports."""
        for module in [each for each in list(sys.modules.values()) if isinstance(each, StandIn)]:
            module.leave()
        before, _real.wanted = getattr(_real, "wanted", False), True
        try:
            return importlib.import_module(self.__name__)
        finally:
            _real.wanted = before

    def leave(self) -> None:
        """Make way for the module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            parent, _, child = self.__name__.rpartition(".")
            if parent in sys.modules and sys.modules[parent].__dict__.get(child) is self:
                delattr(sys.modules[parent], child)


ABSENT = (
    *("_module", "_name", "__origin__", "__parameters__"),
    *("__typing_subst__", "__typing_unpacked_tuple_args__", "__typing_is_unpacked_typevartuple__"),
)
"""What a half-made Later has not, and what typing asks of all that stands in an annotation."""


class Later:
    """A class or function of a library that is imported on first use.

    Until its library is imported there are no instances of it, and asking for one imports nothing.
    """

    def __init__(self, module: StandIn, name: str):
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(self._module.real(), self._name)

    def __getattr__(self, name: str) -> Any:
        if name in ABSENT:
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._real()[key]

    def __or__(self, other: Any) -> Any:  # in annotations, such as "PreTrainedModel | None"
        return Union[self, other]  # noqa: UP007 (it is what | calls)

    def __ror__(self, other: Any) -> Any:
        return Union[other, self]  # noqa: UP007

    def __reduce__(self) -> tuple[Any, ...]:  # a copy is the thing itself
        return found_in, (self._module.__name__, self._name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._real(),)

    def __instancecheck__(self, thing: Any) -> bool:
        return self.__subclasscheck__(type(thing))

    def __subclasscheck__(self, kind: type) -> bool:
        top = self._module.__name__.partition(".")[0]
        related = any(parent.__module__.partition(".")[0] == top for parent in kind.__mro__)
        return related and issubclass(kind, self._real())


def found_in(module: str, name: str) -> Any:
    """What has that name in a module."""
    return getattr(importlib.import_module(module), name)


def unmarked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """A decorator that leaves a function as it is, with or without arguments of its own."""
    return (lambda given: given) if function is None else function


MARKS = {f"torch._dynamo.{name}": unmarked for name in ("allow_in_graph", "disable")}
"""The compiler's decorators say how a function is to be compiled, and change nothing else."""


def declared() -> dict[str, list[str]]:
    """Which distributions a package belongs to, by what they declare, or else by their own names.

    As `importlib.metadata.packages_distributions`, which also reads the list of all files of all of them.
    """
    found: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        tops = (distribution.read_text("top_level.txt") or "").split() or [name.replace("-", "_").lower()]
        for top in tops:
            found.setdefault(top, []).append(name)
    return found


def shelve(name: str) -> None:
    """Make a package that gathers names out of its modules import each module when its name is asked for.

    Nothing happens where the package is imported already, or is not there.
    """
    if name in sys.modules:
        return
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:  # of a diffusers that has no such package
        return
    if spec is None or spec.loader is None or spec.origin is None:
        return
    package, loader, homes = importlib.util.module_from_spec(spec), spec.loader, gathered(Path(spec.origin))

    def found(wanted: str) -> Any:
        if wanted in homes:
            value = getattr(importlib.import_module(f"{name}.{homes[wanted]}"), wanted)
        elif wanted.startswith("__"):
            raise AttributeError(f"{name} has no {wanted}.")
        else:
            with _turn:
                if package.__dict__.pop("__getattr__", None):
                    loader.exec_module(package)
            value = getattr(sys.modules[name], wanted)  # some packages put another in their place
        return package.__dict__.setdefault(wanted, value)

    package.__dict__["__getattr__"] = found
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def gathered(source: Path) -> dict[str, str]:
    """The names that a package's opening takes out of its own modules, and from which."""
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
        if alias.asname is None
    }
