"""Entry point of the command `flowgmm`, which needs packages that the estimators do without."""

import importlib.metadata
import re
import sys

__all__ = ["extra_of", "main"]

# Packages that are imported under another name.
PACKAGES = {"PIL": "pillow", "ruamel": "ruamel-yaml", "yaml": "pyyaml"}


def main() -> None:
    """Run the command; a package that is not installed ends as one line and exit status 2."""
    try:
        from flowgmm import cli

        cli.main()
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        print(
            f"error: {error.name} is not installed, which this command needs; "
            f"pip install 'flowgmm[{extra}]'",
            file=sys.stderr,
        )
        sys.exit(2)


def extra_of(module: str) -> str | None:
    """First extra of this package that installs a module; None: no extra does."""
    name = module.partition(".")[0]
    wanted = PACKAGES.get(name, name.lower().replace("_", "-"))
    for line in importlib.metadata.requires("flowgmm") or ():
        found = re.match(r"([\w.-]+).*; extra == ['\"]([\w-]+)['\"]", line)
        if found and re.sub(r"[-_.]+", "-", found[1].lower()) == wanted:
            return found[2]
    return None


if __name__ == "__main__":
    main()
