"""One run of a command: which root, which output, and the parts opened when they are needed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_platform.cli.screen import Screen

if TYPE_CHECKING:
    from ml_platform.model import Model
    from ml_platform.platform import Platform

__all__ = ["PRINCIPAL_VARIABLE", "Session"]

PRINCIPAL_VARIABLE: Final = "ML_PLATFORM_PRINCIPAL"


@dataclass(frozen=True)
class Session:
    """What every command gets first.

    Args:
        root: the folder of ``--root``; None leaves it to ``ML_PLATFORM_SETTINGS``.
        screen: where its output goes.
        debug: whether a failure shows its traceback.
    """

    root: Path | None
    screen: Screen
    debug: bool = False

    def settings_file(self) -> Path:
        """Raises `SettingsError` when neither ``--root`` nor the environment names one."""
        from ml_platform.core.settings import settings_path

        return settings_path(self.root)

    def platform(self) -> Platform:
        """The root, opened.

        Raises:
            SettingsError: no root is named, or its settings file is unusable.
        """
        from ml_platform.platform import Platform

        return Platform.from_settings(self.settings_file())

    def models(self, module: str) -> dict[str, Model]:
        """The models that a module of the current folder declares.

        Raises:
            NotFound: there is no such module, or no model in it.
            DeclarationError: the module cannot be imported.
        """
        from ml_platform.core.errors import DeclarationError, PlatformError
        from ml_platform.model import load_models

        _make_importable(Path.cwd())
        try:
            return load_models(module)
        except PlatformError:
            raise
        except Exception as error:
            why = f"no module {error.name}" if isinstance(error, ModuleNotFoundError) else type(error).__name__
            raise DeclarationError(
                f"Importing the module {module} failed ({why}).",
                field="--models",
                next_step="Mend it; --debug shows where it stopped.",
            ) from error

    def model(self, name: str, module: str) -> Model:
        """One model of the code location.

        Raises:
            NotFound: it declares no such model.
        """
        from ml_platform.core.errors import NotFound

        found = self.models(module)
        if name not in found:
            raise NotFound(
                f"The module {module} declares no such model.",
                field="MODEL",
                next_step=f"It declares {', '.join(sorted(found))}.",
            )
        return found[name]

    @staticmethod
    def principal(named: str | None, platform: Platform) -> str:
        """Who acts: ``--principal``, else ``ML_PLATFORM_PRINCIPAL``, else the root's launcher."""
        return Session.named_principal(named) or platform.settings.launcher

    @staticmethod
    def named_principal(named: str | None) -> str | None:
        """Who acts, as far as the command line and the environment say; None leaves it to the root."""
        return named or os.environ.get(PRINCIPAL_VARIABLE) or None


def _make_importable(folder: Path) -> None:
    """Puts the folder first on the import path, as ``python -m`` does, for imports on first use too."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
