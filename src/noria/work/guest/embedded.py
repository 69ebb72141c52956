"""Modules that the runtime carries in its memory: a unit has no files to import from."""

from __future__ import annotations

import io
import marshal
import sys
import zlib
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType


class Resources:
    """The files of one package, as `importlib.resources` asks for them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def open_resource(self, name: str) -> io.BytesIO:
        """Open a file."""
        return io.BytesIO(zlib.decompress(self._file(name)))

    def resource_path(self, name: str) -> str:
        """Refuse: nothing here has a path."""
        raise FileNotFoundError(name)

    def is_resource(self, name: str) -> bool:
        """Say whether there is such a file."""
        return name in self._files

    def contents(self) -> list[str]:
        """Return the names."""
        return list(self._files)

    def _file(self, name: str) -> bytes:
        found = self._files.get(name)
        if found is None:
            raise FileNotFoundError(name)
        return found


class EmbeddedModules:
    """Import hook over compressed, marshalled code.

    `modules` gives for each name whether it is a package, and its code; `resources` the other files of each
    package, compressed. `absent` names built-in modules whose functions are not part of this runtime:
    importing one is a plain `ModuleNotFoundError`.
    """

    def __init__(
        self,
        modules: Mapping[str, tuple[bool, bytes]],
        resources: Mapping[str, Mapping[str, bytes]],
        absent: frozenset[str],
    ) -> None:
        self._modules = modules
        self._resources = resources
        self._absent = absent

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module by its full name."""
        if name in self._absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        found = self._modules.get(name)
        return None if found is None else ModuleSpec(name, self, is_package=found[0])  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """Return the code of a module."""
        code = marshal.loads(zlib.decompress(self._modules[name][1]))
        if not isinstance(code, CodeType):
            raise ImportError(f"{name} holds no code", name=name)
        return code

    def is_package(self, name: str) -> bool:
        """Say whether a module has submodules."""
        return self._modules[name][0]

    def get_source(self, name: str) -> None:
        """Return nothing: sources are not carried."""

    def get_resource_reader(self, name: str) -> Resources:
        """Return the reader of a package's other files."""
        return Resources(self._resources.get(name, {}))

    def install(self) -> None:
        """Stand before all other import hooks, and instead of those that look for files."""
        from importlib.machinery import BuiltinImporter, FrozenImporter

        sys.meta_path[:] = [self, BuiltinImporter, FrozenImporter]
        sys.path.clear()
        sys.path_importer_cache.clear()
