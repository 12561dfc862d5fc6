"""What LoRDS is compared with: every method of the latency suite by name (`registry.WAYS`), and how it is built.

Nothing here needs torch: which packages the ways need, asked of the metadata, so that none of them is imported.
"""

from lords_bench.requirements import installed_version

PACKAGES = ("bitsandbytes", "gemlite", "peft")


def installed_versions() -> tuple[tuple[str, str | None], ...]:
    """(package, version) of all packages that a baseline needs, sorted by name; None = not installed."""
    return tuple((name, installed_version(name)) for name in sorted(PACKAGES))
