"""Which of the packages that baselines need are installed; asked of the metadata, so that nothing is imported."""

from lords_bench.requirements import installed_version

PACKAGES = ("bitsandbytes", "gemlite", "peft")


def installed_versions() -> tuple[tuple[str, str | None], ...]:
    """(package, version) of all packages that a baseline needs, sorted by name; None = not installed."""
    return tuple((name, installed_version(name)) for name in sorted(PACKAGES))
