"""Building for pip: what is generated is made first (pyrunc/native/build.py), then packed with the sources.

Everything else stands in pyproject.toml. `make install` does not come here.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

REPOSITORY = Path(__file__).resolve().parent
sys.path.insert(0, str(REPOSITORY))  # pip runs this file with another first entry


class BuildAll(build_py):
    """Packs the products of the native build beside the modules."""

    def run(self) -> None:
        """Build what is missing or old, then copy."""
        from pyrunc.native.build import build, products

        build()
        super().run()
        if self.editable_mode:
            return
        for name in products():
            target = Path(self.build_lib) / "pyrunc" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / "pyrunc" / name, target)


class Native(Distribution):
    """Tells setuptools that the result is for one Python and one architecture."""

    def has_ext_modules(self) -> bool:
        """Yes: products() holds an extension module, which setuptools does not know of."""
        return True


setup(cmdclass={"build_py": BuildAll}, distclass=Native)
